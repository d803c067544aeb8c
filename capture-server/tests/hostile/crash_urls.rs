//! The browser's own addresses for crashes, of which no page and no caller gets one opened: here the driver opens them, with
//! another client's captures beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capture_server::access::{self, Caller};
use capture_server::capture::request::{CaptureRequest, Source};
use capture_server::capture::{CaptureError, Ledger};
use capture_server::clock;
use capture_server::service::{self, Network, Service};
use capture_server::state::Status;
use screenshot_policy::keyset::Keyset;
use screenshot_policy::policy::CaptureLimits;

use crate::harness::{Jailer, Site, key, keyset, limits, policy, until};

fn caller(n: u8) -> Caller {
    let keys: Keyset = serde_json::from_str(&keyset(1, &[1, 2])).unwrap();
    let mut headers = http::HeaderMap::new();
    let value = format!("Bearer {}", key(n).0.text());
    headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
    access::authenticate(&headers, Some(&keys), clock::wall()).unwrap()
}

/// A capture of this address, or of a page that everybody may bring.
async fn capture(service: &Service, n: u8, address: Option<&str>) -> Result<(), CaptureError> {
    let body = br#"{"html_content":"<p>beside","window_width":200,"window_height":100}"#;
    let mut request = CaptureRequest::parse(body, service.policy.limits()).unwrap();
    if let Some(address) = address {
        // Past the parser, which takes http and https alone.
        request.source = Source::Url(address.parse().unwrap());
    }
    let (caller, now) = (caller(n), clock::monotonic());
    let permit = caller.permit_capture(request.scope()).unwrap();
    let deadline = now + Duration::from_secs(8);
    let taken = service.capture(&caller, permit, request, deadline, "it", Ledger::open(now));
    taken.await.unwrap().result.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_crashes_the_browser_is_its_own_captures_end_and_not_another_clients() {
    let limits = CaptureLimits {
        concurrency: screenshot_policy::unit::Count::nearest(2),
        ..limits(8_000)
    };
    let site = Site::new(limits);
    let _jailer = Jailer::start(&site);
    let status = Arc::new(Status::default());
    let (policy, socket) = (Arc::new(policy(limits)), site.path("run/jailer.sock"));
    let service = Service::start(
        service::Config::new(policy, socket, Network::system().unwrap()),
        &status,
    );
    until("the proof", async || status.sandbox().verified).await;
    for address in ["chrome://crash", "chrome://kill", "chrome://gpucrash"] {
        // Both have a jail before.
        for n in [1, 2] {
            assert_eq!(capture(&service, n, None).await, Ok(()), "before {address}");
        }
        let began = Instant::now();
        let struck = async {
            let end = capture(&service, 2, Some(address)).await;
            (end, began.elapsed())
        };
        let neighbour = async {
            for _ in 0..10 {
                assert_eq!(capture(&service, 1, None).await, Ok(()), "beside {address}");
            }
        };
        let ((found, after), ()) = tokio::join!(struck, neighbour);
        println!("{address}: {found:?} after {after:?}");
        // The browser says first that there will be no document, and only then that a process has died.
        assert_eq!(found, Err(CaptureError::NavigationFailed), "{address}");
        assert!(after < Duration::from_secs(4), "{address}: {after:?}");
        assert_eq!(capture(&service, 2, None).await, Ok(()), "after {address}");
        until("every place", async || service.admission.in_flight() == 0).await;
    }
    assert!(status.sandbox().verified);
}
