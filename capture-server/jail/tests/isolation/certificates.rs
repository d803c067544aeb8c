//! The one key whose certificates a browser takes, whatever they say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use capture_jail::protocol::{Mode, SpawnSpec};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Test;
use crate::rig::{CHROMIUM, Kind, Pipe, Rig};
use crate::self_signed;

pub const TESTS: &[Test] = &[
    (
        "a_browser_takes_certificates_of_the_one_key_that_it_is_told_of_and_of_no_other",
        one_key,
    ),
    (
        "without_the_switch_for_a_key_a_browser_takes_no_certificate_of_it",
        without_the_switch,
    ),
];

const SWITCH: &str = "--ignore-certificate-errors-spki-list";

/// A certificate that nobody vouches for, for another name, and the digest of its key.
fn stranger() -> (Arc<ServerConfig>, [u8; 32]) {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let config = self_signed::config(&pair, "other.test", rustls::ALL_VERSIONS);
    (Arc::new(config), Sha256::digest(pair.subject_public_key_info()).into())
}

/// Every tunnel leads to a TLS server with this certificate.
fn serve(listener: TcpListener, config: Arc<ServerConfig>) {
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || drop(answer(stream, config)));
        }
    });
}

fn head(stream: &mut impl Read) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    head(&mut stream)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let mut connection = ServerConnection::new(config).unwrap();
    let mut tls = Stream::new(&mut connection, &mut stream);
    head(&mut tls)?;
    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
}

/// What the browser says of a page under that certificate; null if nothing is wrong with it.
fn told(withheld: &'static [&'static str], accepted_key: Option<[u8; 32]>, config: &Arc<ServerConfig>) -> String {
    let rig = Rig::start(Kind::Weak(CHROMIUM.into(), withheld));
    let mut jailer = rig.connect();
    let spec = SpawnSpec {
        accepted_key,
        ..SpawnSpec::new(1, Mode::Required)
    };
    let mut spawned = jailer.spawn(&spec, Duration::from_secs(20)).unwrap();
    serve(spawned.listeners.remove(0).0.into(), Arc::clone(config));
    let mut pipe = Pipe::new(spawned.cdp_read, spawned.cdp_write);
    let target = pipe.call("Target.createTarget", &json!({"url": "about:blank"}));
    let attach = json!({"targetId": target["targetId"], "flatten": true});
    let session = pipe.call("Target.attachToTarget", &attach)["sessionId"].clone();
    let went = pipe.call_page(&session, "Page.navigate", &json!({"url": "https://named.test/"}));
    went["errorText"].as_str().unwrap_or("nothing").to_owned()
}

const REFUSED: &str = "net::ERR_CERT_AUTHORITY_INVALID";

fn one_key() {
    let ((config, key), (_, other)) = (stranger(), stranger());
    assert_eq!(told(&[], Some(key), &config), "nothing");
    assert_eq!(told(&[], Some(other), &config), REFUSED);
    assert_eq!(told(&[], None, &config), REFUSED);
}

fn without_the_switch() {
    let (config, key) = stranger();
    assert_eq!(told(&[SWITCH], Some(key), &config), REFUSED);
}
