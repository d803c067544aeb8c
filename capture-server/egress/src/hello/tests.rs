//! ClientHellos, whole, in pieces, and wrong.

use super::*;

/// Made by OpenSSL 3 for `www.example.com`, offline.
const OPENSSL: &[u8] = include_bytes!("openssl-client-hello.bin");

fn name() -> Host {
    "www.example.com".parse().unwrap()
}

fn vector16(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn server_name_extension(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &vector16(name)].concat();
    [&[0, 0][..], &vector16(&vector16(&entry))].concat()
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &vector16(&[0x13, 1]),
        &[1, 0],
        &vector16(extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

fn record(body: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vector16(body)].concat()
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    record(&message(extensions))
}

#[test]
fn a_real_client_hello_for_the_host_passes_and_for_another_does_not() {
    assert_eq!(inspect(OPENSSL, &name(), Served::Tls), Ok(Some(Opening::Tls)));
    assert_eq!(
        inspect(OPENSSL, &"example.com".parse().unwrap(), Served::Tls),
        Err(HelloError::NameMismatch)
    );
    assert_eq!(
        inspect(OPENSSL, &"8.8.8.8".parse().unwrap(), Served::Tls),
        Err(HelloError::NameMismatch)
    );
}

#[test]
fn every_beginning_of_a_client_hello_asks_for_more() {
    for end in 0..OPENSSL.len() {
        assert_eq!(inspect(&OPENSSL[..end], &name(), Served::Tls), Ok(None), "{end}");
    }
}

#[test]
fn a_client_hello_spread_over_many_records_is_put_together() {
    let message = message(&server_name_extension(b"www.example.com"));
    let spread: Vec<u8> = message.chunks(3).flat_map(record).collect();
    assert_eq!(inspect(&spread, &name(), Served::Tls), Ok(Some(Opening::Tls)));
    assert_eq!(inspect(&spread[..spread.len() - 1], &name(), Served::Tls), Ok(None));
}

#[test]
fn the_server_name_is_compared_without_case() {
    assert_eq!(
        inspect(&hello(&server_name_extension(b"WWW.Example.COM")), &name(), Served::Tls),
        Ok(Some(Opening::Tls))
    );
}

#[test]
fn names_that_only_resemble_the_host_do_not_pass() {
    for other in [
        "www.example.com.",
        "www.example.co",
        "xwww.example.com",
        "www.example.com\0",
        "example.com",
    ] {
        let hello = hello(&server_name_extension(other.as_bytes()));
        assert_eq!(
            inspect(&hello, &name(), Served::Tls),
            Err(HelloError::NameMismatch),
            "{other:?}"
        );
    }
}

#[test]
fn without_a_server_name_only_a_literal_address_passes() {
    let none = hello(&[0, 10, 0, 0]);
    assert_eq!(inspect(&none, &name(), Served::Tls), Err(HelloError::NameMissing));
    assert_eq!(
        inspect(&none, &"8.8.8.8".parse().unwrap(), Served::Tls),
        Ok(Some(Opening::Tls))
    );
    assert_eq!(
        inspect(&none, &"[2606:4700::1]".parse().unwrap(), Served::Tls),
        Ok(Some(Opening::Tls))
    );
}

#[test]
fn two_server_names_are_refused_however_they_are_packed() {
    let one = server_name_extension(b"www.example.com");
    assert_eq!(
        inspect(&hello(&[&one[..], &one].concat()), &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
    let entry = [&[0][..], &vector16(b"www.example.com")].concat();
    let packed = [&[0, 0][..], &vector16(&vector16(&[&entry[..], &entry].concat()))].concat();
    assert_eq!(
        inspect(&hello(&packed), &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    let good = message(&server_name_extension(b"www.example.com"));
    // Every byte that states a length after the random, made too large.
    for at in [38, 39, 43, 45, 49, 51, 54] {
        let mut bad = good.clone();
        bad[at] = 0xff;
        assert_eq!(
            inspect(&record(&bad), &name(), Served::Tls),
            Err(HelloError::Malformed),
            "{at}"
        );
    }
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[3] += 1;
    assert_eq!(
        inspect(&record(&trailing), &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
}

#[test]
fn handshakes_and_records_of_another_kind_are_refused() {
    assert_eq!(
        inspect(&record(&[2, 0, 0, 0]), &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
    assert_eq!(
        inspect(&[22, 2, 0, 0, 1, 1], &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
    assert_eq!(
        inspect(&[22, 3, 1, 0, 0], &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
    assert_eq!(
        inspect(&[22, 3, 1, 0xff, 0xff], &name(), Served::Tls),
        Err(HelloError::Malformed)
    );
    // An alert between two pieces of the ClientHello.
    let pieces = [record(&message(&[])[..10]), vec![21, 3, 3, 0, 2, 1, 0]].concat();
    assert_eq!(inspect(&pieces, &name(), Served::Tls), Err(HelloError::Malformed));
}

#[test]
fn a_client_hello_that_states_more_than_the_bound_is_refused_at_once() {
    let length = u32::try_from(MAX_HELLO + 1).unwrap().to_be_bytes();
    let start = record(&[1, length[1], length[2], length[3]]);
    assert_eq!(inspect(&start, &name(), Served::Tls), Err(HelloError::TooLarge));
}

#[test]
fn what_is_not_tls_is_refused_by_its_first_byte() {
    // STUN over TCP, SSH, SMTP, TLS application data, HTTP on the TLS port.
    for first in [
        &[0, 1, 0, 0x58][..],
        b"SSH-2.0",
        b"EHLO",
        &[23, 3, 3],
        b"GET / HTTP/1.1\r\n",
        b"POST /",
    ] {
        assert_eq!(
            inspect(first, &name(), Served::Tls),
            Err(HelloError::NotTls),
            "{first:?}"
        );
    }
    assert_eq!(inspect(b"GET /", &name(), Served::Either), Ok(Some(Opening::Http)));
    assert_eq!(inspect(b"POST /", &name(), Served::Either), Err(HelloError::NotTls));
}

#[test]
fn a_changed_byte_never_makes_the_parser_panic() {
    for at in 0..OPENSSL.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = OPENSSL.to_vec();
            changed[at] = value;
            let _ = inspect(&changed, &name(), Served::Either);
        }
    }
}

#[test]
fn on_port_80_a_tunnel_is_for_a_websocket_alone_and_on_443_for_tls_alone() {
    let get = b"GET / HTTP/1.1\r\n";
    let on = |port, bytes| inspect(bytes, &name(), Served::on(port));
    assert_eq!(on(80, OPENSSL), Err(HelloError::NotUpgrade));
    assert_eq!(on(80, get), Ok(Some(Opening::Http)));
    assert_eq!(on(443, get), Err(HelloError::NotTls));
    assert_eq!(on(443, OPENSSL), Ok(Some(Opening::Tls)));
    assert_eq!(
        (on(8443, OPENSSL), on(8443, get)),
        (Ok(Some(Opening::Tls)), Ok(Some(Opening::Http)))
    );
}
