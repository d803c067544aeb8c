//! A pod is believed only if it holds the service's key, answers this very question, and is the pod that was asked.

use std::net::Ipv4Addr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use screenshot_policy::keyset::{Key, KeyState, Scope, VERSION};
use screenshot_policy::token::{Kid, Token};

use super::*;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn key(seed: u8) -> InternalKey {
    InternalKey::from_bytes([seed; 32])
}

/// A pod that answers as `pod` with the key of `seed`, and demands the operator's code.
async fn pod(pod: &'static str, seed: u8) -> Attester {
    let answer = move |headers: HeaderMap| async move {
        let header = |name| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let (nonce, code) = (header(NONCE_HEADER), header(MAC_HEADER));
        if !key(1).verify_request(&nonce, header(CANARY_HEADER).as_str(), &code) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let report = AttestReport {
            pod: pod.into(),
            ready: true,
            ..Default::default()
        };
        let body = serde_json::to_vec(&report).unwrap();
        ([(MAC_HEADER, key(seed).response_mac(&nonce, &body))], body).into_response()
    };
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route(layout::ATTEST_PATH, get(answer))).await });
    Attester::on_ports(port, port)
}

#[tokio::test]
async fn a_pod_with_the_key_is_believed() {
    let report = pod("a", 1)
        .await
        .ask("a", LOCALHOST, &key(1), [9; 32], None)
        .await
        .unwrap();
    assert!(report.ready);
}

#[tokio::test]
async fn an_answer_made_with_another_key_is_not_believed() {
    assert_eq!(
        pod("a", 2).await.ask("a", LOCALHOST, &key(1), [9; 32], None).await,
        Err(Unattested::Forged)
    );
}

#[tokio::test]
async fn the_answer_of_another_pod_is_not_believed() {
    assert_eq!(
        pod("b", 1).await.ask("a", LOCALHOST, &key(1), [9; 32], None).await,
        Err(Unattested::Unreadable)
    );
}

#[tokio::test]
async fn a_pod_refuses_an_operator_without_the_key() {
    assert_eq!(
        pod("a", 1).await.ask("a", LOCALHOST, &key(3), [9; 32], None).await,
        Err(Unattested::Refused)
    );
}

#[test]
fn a_pod_that_refuses_because_of_its_clock_says_so_by_its_date() {
    let now = "2026-11-29T10:00:00Z".parse().unwrap();
    for (date, expected) in [
        (Some("Sun, 29 Nov 2026 10:05:00 GMT"), Unattested::Refused),
        (Some("Sun, 29 Nov 2026 10:05:01 GMT"), Unattested::Clock),
        (Some("Sun, 29 Nov 2026 09:54:59 GMT"), Unattested::Clock),
        (Some("yesterday"), Unattested::Refused),
        (None, Unattested::Refused),
    ] {
        let dates = date.map(|date| (DATE, date.parse().unwrap()));
        assert_eq!(refused(&dates.into_iter().collect(), now), expected, "{date:?}");
    }
}

#[tokio::test]
async fn a_pod_that_does_not_listen_is_unreachable() {
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(
        Attester::on_ports(port, port)
            .ask("a", LOCALHOST, &key(1), [9; 32], None)
            .await,
        Err(Unattested::Unreachable)
    );
}

fn keyset() -> Keyset {
    let kid = Kid::from_bytes([1; 5]);
    let digest = Token::generate(&kid, [1; 32]).digest_hex();
    let key = Key {
        kid,
        client: "web".into(),
        scopes: Scope::ALL.into(),
        digest,
        state: KeyState::Active,
        not_before: None,
        retire_after: None,
    };
    Keyset {
        version: VERSION,
        revision: 7,
        keys: vec![key],
    }
}

#[tokio::test]
async fn a_keyset_is_brought_with_a_code_that_no_question_has() {
    let taken = |headers: HeaderMap, body: Bytes| async move {
        let header = |name| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let (nonce, code) = (header(NONCE_HEADER), header(MAC_HEADER));
        let proven = key(1).verify_keyset(&nonce, &body, &code) && !key(1).verify_request(&nonce, "", &code);
        if !proven || Keyset::parse(&body) != Ok(keyset()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let report = AttestReport {
            pod: "a".into(),
            ..Default::default()
        };
        let body = serde_json::to_vec(&report).unwrap();
        ([(MAC_HEADER, key(1).response_mac(&nonce, &body))], body).into_response()
    };
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let attester = Attester::on_ports(listener.local_addr().unwrap().port(), 0);
    let routes = Router::new().route(layout::KEYSET_BRING_PATH, put(taken));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let bring = async |pod: &str, seed: u8| attester.bring(pod, LOCALHOST, &key(seed), [9; 32], &keyset()).await;
    assert!(bring("a", 1).await.is_ok());
    assert_eq!(bring("a", 2).await, Err(Unattested::Refused));
    assert_eq!(bring("b", 1).await, Err(Unattested::Unreadable));
}

#[tokio::test]
async fn a_canary_travels_under_the_code_of_the_question() {
    let addresses = [SocketAddr::from(([10, 0, 0, 7], 8082))];
    let canary = Canary::new(&addresses, &[4; 32]).unwrap();
    let pod = pod("a", 1).await;
    assert!(pod.ask("a", LOCALHOST, &key(1), [9; 32], Some(&canary)).await.is_ok());
}

#[tokio::test]
async fn only_an_answer_of_the_capture_server_is_being_let_in() {
    let served = async |router: Router| {
        let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Attester::on_ports(0, port)
    };
    let live = Router::new().route("/health/live", get(|| async {}));
    assert!(served(live).await.is_let_in(LOCALHOST).await);
    // A sidecar that accepts everything and finds nothing behind it.
    let sidecar = Router::new().fallback(|| async { StatusCode::SERVICE_UNAVAILABLE });
    assert!(!served(sidecar).await.is_let_in(LOCALHOST).await);
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(
        !Attester::on_ports(0, port).is_let_in(LOCALHOST).await,
        "accepted and never answered"
    );
}
