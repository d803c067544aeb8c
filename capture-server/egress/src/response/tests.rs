//! What a target's head becomes.

use super::*;

fn parsed(text: &str, method: &str, upgrade: bool) -> Result<(u16, String, Body), ResponseError> {
    let (response, _) = parse(text.as_bytes(), method, upgrade)?.expect("complete");
    Ok((
        response.status,
        String::from_utf8(response.head).unwrap(),
        response.body,
    ))
}

#[test]
fn fields_for_the_connection_or_a_proxy_are_stripped_and_the_connection_closes() {
    let (_, head, _) = parsed(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Authenticate: Basic\r\nProxy-Status: capture-egress; error=x\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n",
        "GET",
        false,
    )
    .unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn the_length_of_a_body_follows_method_status_and_framing() {
    let body = |status: &str, fields: &str, method: &str| {
        parsed(&format!("HTTP/1.1 {status}\r\n{fields}\r\n"), method, false).map(|(.., body)| body)
    };
    assert_eq!(body("200 OK", "Content-Length: 7\r\n", "GET"), Ok(Body::Exactly(7)));
    assert_eq!(body("200 OK", "Content-Length: 7\r\n", "HEAD"), Ok(Body::Exactly(0)));
    assert_eq!(
        body("304 Not Modified", "Content-Length: 7\r\n", "GET"),
        Ok(Body::Exactly(0))
    );
    assert_eq!(body("204 No Content", "", "GET"), Ok(Body::Exactly(0)));
    assert_eq!(body("200 OK", "", "GET"), Ok(Body::UntilClose));
    assert_eq!(
        body("200 OK", "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", "GET"),
        Ok(Body::UntilClose)
    );
    assert_eq!(
        body("200 OK", "Content-Length: 7\r\nContent-Length: 8\r\n", "GET"),
        Err(ResponseError::Malformed)
    );
}

#[test]
fn nominating_its_framing_does_not_strip_it() {
    let (_, head, _) = parsed(
        "HTTP/1.1 200 OK\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "GET",
        false,
    )
    .unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn a_target_cannot_speak_as_the_proxy_or_switch_unasked() {
    assert_eq!(
        parsed("HTTP/1.1 407 X\r\n\r\n", "GET", false),
        Err(ResponseError::Status)
    );
    assert_eq!(
        parsed("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", "GET", false),
        Err(ResponseError::Status)
    );
    let (status, head, _) = parsed(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: k\r\n\r\n",
        "GET",
        true,
    )
    .unwrap();
    assert_eq!(
        (status, head.as_str()),
        (
            101,
            "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: k\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
    );
}

#[test]
fn what_is_not_an_http_response_is_refused() {
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad\r\n\r\n",
    ] {
        assert_eq!(parsed(text, "GET", false), Err(ResponseError::Malformed), "{text}");
    }
}
