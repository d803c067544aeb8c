//! Request lines, fields and what is rendered from them.

use super::*;

fn head(text: &str) -> Result<Head, HeadError> {
    parse(text.as_bytes()).map(|parsed| parsed.expect("complete").0)
}

fn target(target: &str) -> Result<(String, u16, String), HeadError> {
    match head(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))? {
        Head::Plain(request) => Ok((request.site.host.to_string(), request.site.port, request.path)),
        Head::Connect(_) => unreachable!("a GET"),
    }
}

fn connect(target: &str) -> Result<(String, u16), HeadError> {
    let head = head(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n"))?;
    Ok((head.site().host.to_string(), head.site().port))
}

fn plain(text: &str) -> Request {
    match head(text) {
        Ok(Head::Plain(request)) => request,
        other => unreachable!("{other:?}"),
    }
}

fn rendered(text: &str) -> String {
    String::from_utf8(plain(text).render()).unwrap()
}

#[test]
fn absolute_form_is_taken_apart() {
    let row = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
    assert_eq!(target("http://a.com/x?y=1"), row("a.com", 80, "/x?y=1"));
    assert_eq!(target("HTTP://A.Com"), row("a.com", 80, "/"));
    assert_eq!(target("http://a.com?q"), row("a.com", 80, "/?q"));
    assert_eq!(target("http://a.com:8080/"), row("a.com", 8080, "/"));
    assert_eq!(target("http://8.8.8.8:81/"), row("8.8.8.8", 81, "/"));
    assert_eq!(target("http://[2606:4700::1]:81/"), row("[2606:4700::1]", 81, "/"));
    assert_eq!(target("http://[2606:4700::1]/"), row("[2606:4700::1]", 80, "/"));
    assert_eq!(target("http://a.com/@b:c://"), row("a.com", 80, "/@b:c://"));
}

#[test]
fn targets_that_are_not_strict_are_refused_by_rule() {
    for (text, rule) in [
        ("/", HeadError::OriginForm),
        ("/http://a.com/", HeadError::OriginForm),
        ("*", HeadError::OriginForm),
        ("https://a.com/", HeadError::Scheme),
        ("ws://a.com/", HeadError::Scheme),
        ("ftp://a.com/", HeadError::Scheme),
        ("file:///etc/passwd", HeadError::Scheme),
        ("a.com:80", HeadError::Malformed),
        ("http:/a.com/", HeadError::Malformed),
        ("http://a.com/#f", HeadError::Malformed),
        ("http://u@a.com/", HeadError::UserInfo),
        ("http://u:p@a.com/", HeadError::UserInfo),
        ("http://a.com@127.0.0.1/", HeadError::UserInfo),
        ("http:///x", HeadError::Authority),
        ("http://a.com:/", HeadError::Authority),
        ("http://a.com:0/", HeadError::Authority),
        ("http://a.com:65536/", HeadError::Authority),
        ("http://a.com:+80/", HeadError::Authority),
        ("http://a.com:080000/", HeadError::Authority),
        ("http://a.com:80:80/", HeadError::Authority),
        ("http://a.com\\@b.com/", HeadError::UserInfo),
        ("http://a.com\\b.com/", HeadError::Authority),
        ("http://a%2ecom/", HeadError::Authority),
        ("http://::1/", HeadError::Authority),
        ("http://2606:4700::1/", HeadError::Authority),
        ("http://[::1/", HeadError::Authority),
        ("http://[fe80::1%25lo]/", HeadError::Authority),
        ("http://[::1]x:80/", HeadError::Authority),
    ] {
        assert_eq!(target(text), Err(rule), "{text}");
    }
}

#[test]
fn every_other_spelling_of_an_ipv4_address_is_refused_before_any_look_up() {
    for host in [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "0",
        "１２７.0.0.1",
    ] {
        assert!(
            matches!(
                target(&format!("http://{host}/")),
                Err(HeadError::Authority | HeadError::Malformed)
            ),
            "{host}"
        );
        assert!(
            matches!(
                connect(&format!("{host}:443")),
                Err(HeadError::Authority | HeadError::Malformed)
            ),
            "{host}"
        );
    }
}

#[test]
fn connect_needs_a_host_and_a_port_and_nothing_else() {
    assert_eq!(connect("a.com:443"), Ok(("a.com".into(), 443)));
    assert_eq!(connect("[2606:4700::1]:443"), Ok(("[2606:4700::1]".into(), 443)));
    for (text, rule) in [
        ("a.com", HeadError::Authority),
        ("[2606:4700::1]", HeadError::Authority),
        ("2606:4700::1:443", HeadError::Authority),
        ("a.com:", HeadError::Authority),
        ("http://a.com:443", HeadError::Authority),
        ("u@a.com:443", HeadError::UserInfo),
        ("/", HeadError::Authority),
    ] {
        assert_eq!(connect(text), Err(rule), "{text}");
    }
}

#[test]
fn only_http_1_1_is_spoken() {
    assert_eq!(head("GET http://a.com/ HTTP/1.0\r\n\r\n"), Err(HeadError::Version));
    assert_eq!(head("GET http://a.com/ HTTP/2.0\r\n\r\n"), Err(HeadError::Version));
    assert_eq!(head("\u{16}\u{3}\u{1}garbage\r\n\r\n"), Err(HeadError::Malformed));
    assert_eq!(parse(b"GET http://a.com/ HTTP/1.1\r\nA: b\r\n"), Ok(None));
}

#[test]
fn too_many_fields_are_refused() {
    // What is promised, and not what the constant happens to be.
    let with = |count| {
        head(&format!(
            "GET http://a.com/ HTTP/1.1\r\n{}\r\n",
            "A: b\r\n".repeat(count)
        ))
    };
    assert!(with(128).is_ok());
    assert_eq!(with(129), Err(HeadError::TooLarge));
}

#[test]
fn the_request_goes_out_in_origin_form_with_its_own_host_and_closes() {
    let out = rendered("GET http://a.com:8080/x?y HTTP/1.1\r\nHost: other.com\r\nAccept: */*\r\n\r\n");
    assert_eq!(
        out,
        "GET /x?y HTTP/1.1\r\nHost: a.com:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn fields_for_the_connection_or_the_proxy_are_stripped() {
    let out = rendered(
        "GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\nProxy-Connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\n\
         Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAA\r\nExpect: 100-continue\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(
        out,
        "GET / HTTP/1.1\r\nHost: a.com\r\nCookie: a=b\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn nominating_content_length_does_not_unframe_the_body() {
    let request = plain("POST http://a.com/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(request.length, 3);
    assert!(
        String::from_utf8(request.render())
            .unwrap()
            .contains("Content-Length: 3\r\n")
    );
}

#[test]
fn a_body_whose_end_is_ambiguous_is_refused() {
    for fields in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length: ",
        "Content-Length: 0x3",
        "Content-Length: 99999999999999999999",
    ] {
        let text = format!("POST http://a.com/ HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(head(&text), Err(HeadError::Framing), "{fields}");
    }
}

#[test]
fn a_websocket_upgrade_keeps_its_fields() {
    let out = rendered(
        "GET http://a.com/ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n",
    );
    assert_eq!(
        out,
        "GET /ws HTTP/1.1\r\nHost: a.com\r\nSec-WebSocket-Key: k\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
}

#[test]
fn nothing_but_a_websocket_get_is_an_upgrade() {
    for (method, fields) in [
        ("POST", "Connection: upgrade\r\nUpgrade: websocket"),
        ("GET", "Upgrade: websocket"),
        ("GET", "Connection: upgrade\r\nUpgrade: h2c"),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket, h2c"),
    ] {
        assert!(
            !plain(&format!("{method} http://a.com/ HTTP/1.1\r\n{fields}\r\n\r\n")).upgrade,
            "{fields}"
        );
    }
}

#[test]
fn inside_a_tunnel_only_an_upgrade_for_its_host_passes() {
    let site = Site {
        host: "a.com".parse().unwrap(),
        port: 80,
    };
    let inner = |text: &str| parse_inner(text.as_bytes(), &site).map(|parsed| parsed.is_some());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(inner(&format!("GET / HTTP/1.1\r\nHost: a.com\r\n{upgrade}")), Ok(true));
    assert_eq!(
        inner(&format!("GET / HTTP/1.1\r\nHost: A.COM:80\r\n{upgrade}")),
        Ok(true)
    );
    for text in [
        format!("GET / HTTP/1.1\r\nHost: b.com\r\n{upgrade}"),
        format!("GET / HTTP/1.1\r\nHost: a.com:81\r\n{upgrade}"),
        format!("GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com\r\n{upgrade}"),
        format!("GET / HTTP/1.1\r\n{upgrade}"),
        format!("GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n{upgrade}"),
        format!("POST / HTTP/1.1\r\nHost: a.com\r\n{upgrade}"),
        "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n".to_owned(),
    ] {
        assert!(inner(&text).is_err(), "{text}");
    }
}
