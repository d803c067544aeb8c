//! A pod is believed only if it holds the service's key, answers this very question, and is the pod that was asked.

use std::net::Ipv4Addr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;

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
        if !key(1).verify_request(&nonce, &code) {
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
    Attester::on_port(port)
}

#[tokio::test]
async fn a_pod_with_the_key_is_believed() {
    let report = pod("a", 1).await.ask("a", LOCALHOST, &key(1), [9; 32]).await.unwrap();
    assert!(report.ready);
}

#[tokio::test]
async fn an_answer_made_with_another_key_is_not_believed() {
    assert_eq!(
        pod("a", 2).await.ask("a", LOCALHOST, &key(1), [9; 32]).await,
        Err(Unattested::Forged)
    );
}

#[tokio::test]
async fn the_answer_of_another_pod_is_not_believed() {
    assert_eq!(
        pod("b", 1).await.ask("a", LOCALHOST, &key(1), [9; 32]).await,
        Err(Unattested::Unreadable)
    );
}

#[tokio::test]
async fn a_pod_refuses_an_operator_without_the_key() {
    assert_eq!(
        pod("a", 1).await.ask("a", LOCALHOST, &key(3), [9; 32]).await,
        Err(Unattested::Refused)
    );
}

#[tokio::test]
async fn a_pod_that_does_not_listen_is_unreachable() {
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(
        Attester::on_port(port).ask("a", LOCALHOST, &key(1), [9; 32]).await,
        Err(Unattested::Unreachable)
    );
}
