//! The one cause of everything that was seen.

use super::*;
use capture_egress::{TlsError, UpstreamError};
use screenshot_policy::egress::Refusal as PolicyRefusal;

fn refusal(host: &str) -> Decision {
    let refusal = Refusal::Policy(PolicyRefusal::Port);
    Decision {
        host: host.into(),
        port: 80,
        address: None,
        via_upstream: false,
        outcome: refusal.reason(),
        refusal: Some(refusal),
        bytes: 0,
    }
}

fn everything() -> Signals {
    Signals {
        document: Some(("a.example".into(), 80)),
        navigation: Some("net::ERR_CONNECTION_RESET".into()),
        download: false,
        status: Some(500),
        refusals: vec![refusal("a.example")],
        spent: Some("budget_hosts"),
        crashed: true,
        deadline: Some(Phase::Load),
        lost: true,
        driver: Some(DriverError::Frame),
    }
}

#[test]
fn an_upstream_that_gives_no_connection_is_named_by_its_word() {
    let mut signals = everything();
    let refused = Refusal::Upstream(UpstreamError::Credentials);
    signals.refusals[0].refusal = Some(refused);
    let cause = judge(&signals);
    let (rule, error) = ("upstream_credentials", "proxy_configuration_error");
    assert_eq!(cause, Some(CaptureError::UpstreamFailed { rule, error }));
    let told = cause.and_then(|cause| cause.proxy_status());
    let expected = "capture-egress; error=proxy_configuration_error; details=\"upstream_credentials\"";
    assert_eq!(told.as_deref(), Some(expected));
    assert_eq!(cause.map(|cause| cause.reason()), Some("connect_failed"));
}

#[test]
fn the_causes_have_one_order() {
    let mut signals = everything();
    let mut causes = Vec::new();
    while let Some(cause) = judge(&signals) {
        causes.push(cause.reason());
        match cause {
            CaptureError::TargetBlocked { .. } => signals.refusals.clear(),
            CaptureError::BudgetSpent { .. } => signals.spent = None,
            CaptureError::PageCrashed => signals.crashed = false,
            CaptureError::ConnectFailed => signals.navigation = None,
            CaptureError::HttpStatus(_) => signals.status = None,
            CaptureError::Timeout(_) => signals.deadline = None,
            CaptureError::BrowserLost => signals.lost = false,
            _ => signals.driver = None,
        }
    }
    let expected = [
        "target_blocked",
        "budget_exceeded",
        "page_crashed",
        "connect_failed",
        "http_status",
        "timeout",
        "browser_lost",
        "driver",
    ];
    assert_eq!(causes, expected);
}

#[test]
fn a_sub_resources_refusal_is_not_the_pages() {
    let signals = Signals {
        document: Some(("a.example".into(), 80)),
        status: Some(200),
        refusals: vec![refusal("b.example"), refusal("a.example")],
        ..Signals::default()
    };
    assert_eq!(judge(&signals), None);
    let failed = Signals {
        navigation: Some("net::ERR_CERT_DATE_INVALID".into()),
        refusals: vec![refusal("b.example")],
        ..signals
    };
    let error = "tls_certificate_error";
    assert_eq!(judge(&failed), Some(CaptureError::TlsFailed { error }));
}

/// What the browser says of a connection that was cut is not why it was cut.
#[test]
fn a_named_hosts_certificate_that_the_proxy_refuses_is_a_failure_of_tls() {
    let refused = Refusal::Tls(TlsError::PinMismatch);
    let signals = Signals {
        document: Some(("a.example".into(), 80)),
        navigation: Some("net::ERR_CONNECTION_CLOSED".into()),
        refusals: vec![Decision {
            outcome: refused.reason(),
            refusal: Some(refused),
            ..refusal("a.example")
        }],
        ..Signals::default()
    };
    let error = "tls_certificate_error";
    let judged = judge(&signals);
    assert_eq!(judged, Some(CaptureError::TlsFailed { error }));
    let told = judged.and_then(|failure| failure.proxy_status());
    assert_eq!(told.as_deref(), Some("capture-egress; error=tls_certificate_error"));
}

#[test]
fn chromiums_words_fall_into_our_classes() {
    let table = [
        ("net::ERR_NAME_NOT_RESOLVED", "dns_failed"),
        ("net::ERR_CERT_AUTHORITY_INVALID", "tls_failed"),
        ("net::ERR_SSL_PROTOCOL_ERROR", "tls_failed"),
        ("net::ERR_CONNECTION_REFUSED", "connect_failed"),
        ("net::ERR_TUNNEL_CONNECTION_FAILED", "connect_failed"),
        ("net::ERR_UNSAFE_REDIRECT", "navigation_failed"),
        ("net::ERR_NEW_IN_CHROMIUM_200", "navigation_failed"),
    ];
    for (word, reason) in table {
        assert_eq!(network_failure(word).reason(), reason, "{word}");
    }
    let protocol = CaptureError::TlsFailed {
        error: "tls_protocol_error",
    };
    assert_eq!(network_failure("net::ERR_SSL_PROTOCOL_ERROR"), protocol);
}

#[test]
fn a_closed_pipe_is_a_lost_browser() {
    let signals = Signals {
        driver: Some(DriverError::Closed),
        ..Signals::default()
    };
    assert_eq!(judge(&signals), Some(CaptureError::BrowserLost));
}

/// One connection too many ends nothing but itself, so that no budget is told as spent.
#[test]
fn a_document_that_was_one_socket_too_many_is_a_spent_budget() {
    let refused = Refusal::Budget(Spent::Sockets);
    let signals = |navigation: Option<&str>, status| Signals {
        document: Some(("a.example".into(), 80)),
        navigation: navigation.map(str::to_owned),
        status,
        refusals: vec![Decision {
            outcome: refused.reason(),
            refusal: Some(refused),
            ..refusal("a.example")
        }],
        ..Signals::default()
    };
    let spent = CaptureError::BudgetSpent {
        budget: "budget_sockets",
    };
    let tunnel = signals(Some("net::ERR_TUNNEL_CONNECTION_FAILED"), None);
    assert_eq!(judge(&tunnel), Some(spent));
    assert_eq!(judge(&signals(None, Some(403))), Some(spent));
    // The document came; what was refused there was something of it.
    assert_eq!(judge(&signals(None, Some(404))), Some(CaptureError::HttpStatus(404)));
    assert_eq!(judge(&signals(None, Some(200))), None);
    // It was refused elsewhere.
    let mut elsewhere = signals(None, Some(403));
    elsewhere.document = Some(("b.example".into(), 80));
    assert_eq!(judge(&elsewhere), Some(CaptureError::HttpStatus(403)));
}
