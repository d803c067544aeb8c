//! Keys, policy, attestation: what the operator steers by.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use screenshot_policy::attest::{AttestReport, InternalKey, MAC_HEADER, NONCE_HEADER, nonce, nonce_text};
use screenshot_policy::layout::BROWSER_HEALTH_PATH;
use serde_json::json;

use crate::harness::{Answer, Running, Site, get, key, keyset, limits, policy, send, until};

/// A nonce that was never used before.
fn fresh_nonce() -> String {
    static USED: AtomicU8 = AtomicU8::new(0);
    nonce_text(nonce(Timestamp::now(), [USED.fetch_add(1, Ordering::Relaxed); 24]))
}

async fn attest(server: &Running, with: &InternalKey, nonce: &str) -> Answer {
    let (nonce_header, mac) = (
        format!("{NONCE_HEADER}: {nonce}"),
        format!("{MAC_HEADER}: {}", with.request_mac(nonce, "")),
    );
    get(server.health, "/internal/attest", &[&nonce_header, &mac]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key_is_refused_soon_after_the_keyset_changes_and_a_bad_keyset_keeps_the_old() {
    let site = Site::new(limits(5_000));
    let args = site.args();
    let server = Running::with(site, args).await;
    let status = async |n: u8| server.capture_as(key(n).0.text(), json!({})).await.status;
    // Without a jailer a good token gets as far as "not ready".
    until("the first keyset", async || {
        status(1).await == 503 && server.reasons().await == ["JailerAbsent"]
    })
    .await;
    assert_eq!(status(2).await, 401);
    server.site.write("keyset.json", &keyset(2, &[2]));
    until("the second keyset", async || status(2).await == 503).await;
    assert_eq!(status(1).await, 401);
    server
        .site
        .write("keyset.json", "{\"version\":1,\"revision\":3,\"keys\":[]}");
    let key = InternalKey::from_bytes([9; 32]);
    until("the stale mark", async || {
        let report: AttestReport = serde_json::from_slice(&attest(&server, &key, &fresh_nonce()).await.body).unwrap();
        report.keyset.unwrap().stale.as_deref() == Some("keyset_empty")
    })
    .await;
    assert_eq!(status(2).await, 503);
    let metrics = String::from_utf8(get(server.metrics, "/metrics", &[]).await.body).unwrap();
    assert!(metrics.contains("screenshot_server_keyset_stale 1"), "{metrics}");
    assert!(metrics.contains("screenshot_server_keyset_revision 2"), "{metrics}");
    server.stop().await;
}

/// Brings a keyset as the operator does, with a code over `signed`.
async fn bring(server: &Running, with: &InternalKey, signed: &str, keyset: &str) -> Answer {
    let nonce = fresh_nonce();
    let headers = [
        format!("{NONCE_HEADER}: {nonce}"),
        format!("{MAC_HEADER}: {}", with.keyset_mac(&nonce, signed.as_bytes())),
        format!("content-length: {}", keyset.len()),
    ];
    let headers = headers.each_ref().map(String::as_str);
    let answer = send(server.health, "PUT /internal/keyset", &headers, keyset).await;
    if let Some(mac) = answer.header(MAC_HEADER) {
        assert!(with.verify_response(&nonce, &answer.body, mac));
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_that_the_operator_brings_counts_at_once_and_nobody_else_can_bring_one() {
    let site = Site::new(limits(5_000));
    let args = site.args();
    let server = Running::with(site, args).await;
    let status = async |n: u8| server.capture_as(key(n).0.text(), json!({})).await.status;
    until("the first keyset", async || status(1).await == 503).await;
    let (ours, wrong) = (InternalKey::from_bytes([9; 32]), InternalKey::from_bytes([8; 32]));
    let (second, third) = (keyset(2, &[1, 2]), keyset(3, &[1, 3]));

    let endless = " ".repeat(65 * 1024);
    for (key, signed, sent) in [
        (&wrong, &second, &second),
        (&ours, &second, &third),
        (&ours, &endless, &endless),
    ] {
        let refused = bring(&server, key, signed, sent).await;
        assert!(refused.status == 401 && refused.header(MAC_HEADER).is_none());
    }
    assert_eq!(send(server.api, "PUT /internal/keyset", &[], "").await.status, 404);
    assert_eq!((status(2).await, status(3).await), (401, 401));

    let report = async |keyset: &str| {
        let answer = bring(&server, &ours, keyset, keyset).await;
        let report: AttestReport = serde_json::from_slice(&answer.body).unwrap();
        report.keyset.unwrap().revision
    };
    assert_eq!(report(&third).await, 3);
    assert_eq!((status(1).await, status(2).await, status(3).await), (503, 401, 503));
    // An older keyset changes nothing, and is answered with the truth.
    assert_eq!(report(&second).await, 3);
    assert_eq!(report("{").await, 3);
    assert_eq!((status(2).await, status(3).await), (401, 503));
    // The file has the last word.
    server.site.write("keyset.json", &keyset(4, &[1]));
    until("the file's keyset", async || status(3).await == 401).await;
    assert_eq!(status(1).await, 503);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_that_stops_in_the_middle_is_waited_for_three_seconds_and_no_longer() {
    let site = Site::new(limits(5_000));
    let args = site.args();
    let server = Running::with(site, args).await;
    let (ours, nonce, sent) = (InternalKey::from_bytes([9; 32]), fresh_nonce(), "{\"version\"");
    // The code is right for what has come: it is refused for what has not.
    let headers = [
        format!("{NONCE_HEADER}: {nonce}"),
        format!("{MAC_HEADER}: {}", ours.keyset_mac(&nonce, sent.as_bytes())),
        "content-length: 100".to_owned(),
    ];
    let headers = headers.each_ref().map(String::as_str);
    let began = Instant::now();
    // The connection stays open: the rest could still come.
    let answer = send(server.health, "PUT /internal/keyset", &headers, sent).await;
    let took = began.elapsed();
    assert_eq!(answer.problem(), (401, "unauthorized".into()));
    assert!(answer.header(MAC_HEADER).is_none());
    assert!(
        took >= Duration::from_millis(2_900) && took < Duration::from_secs(10),
        "{took:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_another_digest_is_never_enforced_half() {
    let site = Site::new(limits(5_000));
    let mut args = site.args();
    args.policy_digest = Some(policy(limits(5_001)).digest().to_owned());
    let server = Running::with(site, args).await;
    until("the reason", async || {
        server.reasons().await.contains(&"policy_digest".to_owned())
    })
    .await;
    assert_eq!(get(server.health, "/health/ready", &[]).await.status, 503);
    assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
    assert_eq!(server.html("x").await.problem(), (503, "not_ready".into()));
    // The right one comes late and is taken; from then on the file may be anything.
    server
        .site
        .write("policy.json", &policy(limits(5_001)).canonical_json());
    until("the policy", async || server.reasons().await == ["JailerAbsent"]).await;
    server.site.write("policy.json", "{");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.reasons().await, ["JailerAbsent"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_is_told_a_word_of_why_a_server_is_not_ready_and_the_health_port_a_sentence() {
    let site = Site::new(limits(5_000));
    let args = site.args();
    let server = Running::with(site, args).await;
    until("the reason", async || server.reasons().await == ["JailerAbsent"]).await;
    let (api, health) = (
        get(server.api, "/health/ready", &[]).await,
        get(server.health, "/health/ready", &[]).await,
    );
    assert_eq!((api.status, health.status), (503, 503));
    let word = json!({"ready": false, "reasons": [{"reason": "JailerAbsent"}]});
    assert_eq!(api.json(), word);
    let message = "waiting for the jailer's socket";
    let sentence = json!({"ready": false, "reasons": [{"reason": "JailerAbsent", "message": message}]});
    assert_eq!(health.json(), sentence);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keyset_or_policy_the_server_lives_and_is_not_ready() {
    let site = Site::new(limits(5_000));
    for name in ["policy.json", "keyset.json"] {
        std::fs::remove_file(site.path(name)).unwrap();
    }
    let args = site.args();
    let server = Running::with(site, args).await;
    until("the reasons", async || {
        let reasons = server.reasons().await;
        ["policy_missing", "keyset_missing"]
            .iter()
            .all(|reason| reasons.iter().any(|got| got == reason))
    })
    .await;
    // Nobody asks the jailer: it is not to blame.
    assert_eq!(get(server.health, BROWSER_HEALTH_PATH, &[]).await.status, 200);
    assert_eq!(server.html("x").await.status, 503);
    assert_eq!(get(server.health, "/health/live", &[]).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attestation_answers_only_the_key_holder_and_is_signed_over_the_nonce() {
    let (server, _jailer) = Running::ready(limits(20_000)).await;
    let (key, nonce) = (InternalKey::from_bytes([9; 32]), fresh_nonce());
    let answer = attest(&server, &key, &nonce).await;
    assert_eq!(answer.status, 200);
    let mac = answer.header(MAC_HEADER).unwrap();
    assert!(key.verify_response(&nonce, &answer.body, mac));
    assert!(!key.verify_response(&fresh_nonce(), &answer.body, mac));
    let report: AttestReport = serde_json::from_slice(&answer.body).unwrap();
    assert!(report.ready && report.sandbox.verified, "{report:?}");
    assert!(report.sandbox.checks.len() >= 6 && report.sandbox.checks.values().all(|held| *held));
    assert_eq!(report.policy_digest.as_deref(), Some(policy(limits(20_000)).digest()));
    assert_eq!((report.pod.as_str(), report.keyset.unwrap().revision), ("pod-it", 1));
    assert!(report.browser.version.unwrap().contains("Chrome/"));

    let wrong = InternalKey::from_bytes([8; 32]);
    for refused in [
        attest(&server, &wrong, &fresh_nonce()).await,
        // Played back.
        attest(&server, &key, &nonce).await,
        get(server.health, "/internal/attest", &[]).await,
    ] {
        assert_eq!(refused.status, 401);
        assert!(refused.header(MAC_HEADER).is_none());
    }
    assert_eq!(get(server.api, "/internal/attest", &[]).await.status, 404);
    server.stop().await;
}
