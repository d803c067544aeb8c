//! A picture that is encoded anew while nobody waits for it any more: its place is free when the work ends, not before.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use capture_server::access::{self, Caller};
use capture_server::capture::request::CaptureRequest;
use capture_server::capture::{CaptureError, Ledger, Phase};
use capture_server::clock;
use capture_server::service::{self, Network, Service};
use capture_server::state::Status;
use screenshot_policy::keyset::Keyset;

use crate::harness::{Jailer, Site, key, keyset, limits, policy, until};

fn caller() -> Caller {
    let keys: Keyset = serde_json::from_str(&keyset(1, &[1])).unwrap();
    let mut headers = http::HeaderMap::new();
    let value = format!("Bearer {}", key(1).0.text());
    headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
    access::authenticate(&headers, Some(&keys), clock::wall()).unwrap()
}

/// Takes a picture that is encoded anew; at most so long.
async fn capture(service: &Service, most: Duration) -> Result<(), CaptureError> {
    let body = br#"{"html_content":"<p>x","window_width":200,"window_height":100,"format":"webp"}"#;
    let request = CaptureRequest::parse(body, service.policy.limits()).unwrap();
    let (caller, now) = (caller(), clock::monotonic());
    let permit = caller.permit_capture(request.scope()).unwrap();
    let taken = service.capture(&caller, permit, request, now + most, "it", Ledger::open(now));
    taken.await.unwrap().result.map(drop)
}

#[test]
fn an_encoder_that_nobody_waits_for_keeps_its_place_until_it_is_done() {
    // The only thread that encodes is busy until it is told otherwise: the work stands where it cannot be called back.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let site = Site::new(limits(20_000));
        let _jailer = Jailer::start(&site);
        let status = Arc::new(Status::default());
        let (policy, socket) = (Arc::new(policy(limits(20_000))), site.path("run/jailer.sock"));
        let service = Service::start(
            service::Config::new(policy, socket, Network::system().unwrap()),
            &status,
        );
        until("the proof", async || status.sandbox().verified).await;
        assert_eq!(capture(&service, Duration::from_secs(20)).await, Ok(()));
        until("its place again", async || service.admission.in_flight() == 0).await;
        let (go, wait) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv().is_ok());
        let late = capture(&service, Duration::from_secs(4)).await;
        assert_eq!(late, Err(CaptureError::Timeout(Phase::Encode)));
        // The browser is cleared away; its place is not free, for as long as one cares to look.
        until("no browser at work", async || service.pool.census()[1..] == [0, 0]).await;
        for _ in 0..50 {
            assert_eq!(service.admission.in_flight(), 1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(go);
        busy.await.unwrap();
        until("the place", async || service.admission.in_flight() == 0).await;
        assert_eq!(capture(&service, Duration::from_secs(20)).await, Ok(()));
    });
}
