//! Who is to blame? All signals of one capture in, the one cause out.
//!
//! Several things fail at once when a capture fails; the order here says which of them is *the* cause: the egress
//! refusal of the main document > a spent budget > a crash > the document's own network failure > its HTTP status >
//! the deadline > the driver. Pure. Must not: look at sub-resources, whose refusals are listed, not fatal.

use capture_egress::{Decision, Fault, Refusal};

use super::Phase;
use crate::browser::DriverError;

/// Why there is no picture. Every variant has its row in `http::problem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureError {
    /// The policy does not let the page's address be reached.
    TargetBlocked {
        /// The refusal's bounded word.
        rule: &'static str,
        /// The proxy's error type (RFC 9209).
        error: &'static str,
    },
    /// The page's host name has no address.
    DnsFailed,
    /// The page's host does not take a connection, or does not keep to HTTP.
    ConnectFailed,
    /// The upstream proxy, which every connection of the page goes through, gave none.
    UpstreamFailed {
        /// The refusal's bounded word.
        rule: &'static str,
        /// The proxy's error type (RFC 9209).
        error: &'static str,
    },
    /// The page's certificate or TLS is not acceptable.
    TlsFailed {
        /// The error type of RFC 9209: whether it was the certificate.
        error: &'static str,
    },
    /// The navigation failed in another way.
    NavigationFailed,
    /// The address answers with a file to be saved.
    Download,
    /// The page answers with an error status.
    HttpStatus(u16),
    /// The page used up what one capture may use of the network.
    BudgetSpent {
        /// Which budget.
        budget: &'static str,
    },
    /// The page crashed its process.
    PageCrashed,
    /// The page is taller or wider than a picture may be.
    PageTooLarge,
    /// The element is larger than what the capture was let in with.
    ElementTooLarge,
    /// No element matches the selector, or it has no size.
    ElementNotFound,
    /// The selector is none.
    SelectorInvalid,
    /// The print options leave no page to be printed.
    NothingToPrint,
    /// The time ran out.
    Timeout(Phase),
    /// The picture has more bytes than it may have.
    OutputTooLarge,
    /// What the browser made is not the picture that was asked for.
    OutputInvalid,
    /// The browser misbehaved.
    Driver(DriverError),
    /// The browser, or the jailer with all browsers, is gone.
    BrowserLost,
    /// No browser can be had now.
    NoBrowser,
}

impl CaptureError {
    /// The bounded word: metric label, audit word, problem type.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TargetBlocked { .. } => "target_blocked",
            Self::DnsFailed => "dns_failed",
            // One public type: for a caller the page was not there, and the detail says why.
            Self::ConnectFailed | Self::UpstreamFailed { .. } => "connect_failed",
            Self::TlsFailed { .. } => "tls_failed",
            Self::NavigationFailed => "navigation_failed",
            Self::Download => "download",
            Self::HttpStatus(_) => "http_status",
            Self::BudgetSpent { .. } => "budget_exceeded",
            Self::PageCrashed => "page_crashed",
            Self::PageTooLarge => "page_too_large",
            Self::ElementTooLarge => "element_too_large",
            Self::ElementNotFound => "element_not_found",
            Self::SelectorInvalid => "selector_invalid",
            Self::NothingToPrint => "nothing_to_print",
            Self::Timeout(_) => "timeout",
            Self::OutputTooLarge => "output_too_large",
            Self::OutputInvalid => "output_invalid",
            Self::Driver(_) => "driver",
            Self::BrowserLost => "browser_lost",
            Self::NoBrowser => "no_browser",
        }
    }
}

impl CaptureError {
    /// The value of `Proxy-Status` (RFC 9209): what the proxy between browser and page has to say of it, if it has.
    pub fn proxy_status(&self) -> Option<String> {
        let error = |word: &str| format!("capture-egress; error={word}");
        let detailed = |word: &str, details: &str| format!("capture-egress; error={word}; details=\"{details}\"");
        match self {
            Self::TargetBlocked { rule, error } | Self::UpstreamFailed { rule, error } => Some(detailed(error, rule)),
            Self::DnsFailed => Some(error("dns_error")),
            Self::ConnectFailed => Some(error("destination_unavailable")),
            Self::TlsFailed { error: word } => Some(error(word)),
            Self::HttpStatus(status) => Some(format!("capture-egress; received-status={status}")),
            Self::BudgetSpent { budget } => Some(detailed("connection_limit_reached", budget)),
            _ => None,
        }
    }

    /// What a jail is blamed for after such an end: it serves nobody any more. `None`: the page merely was not there.
    pub const fn incident(&self) -> Option<&'static str> {
        match self {
            Self::PageCrashed => Some("crash"),
            Self::Timeout(_) => Some("timeout"),
            Self::BudgetSpent { .. } => Some("budget"),
            Self::Driver(_) => Some("driver"),
            Self::OutputInvalid => Some("output"),
            Self::BrowserLost => Some("browser_gone"),
            Self::TargetBlocked { .. }
            | Self::DnsFailed
            | Self::ConnectFailed
            | Self::UpstreamFailed { .. }
            | Self::TlsFailed { .. }
            | Self::NavigationFailed
            | Self::Download
            | Self::HttpStatus(_)
            | Self::PageTooLarge
            | Self::ElementTooLarge
            | Self::ElementNotFound
            | Self::SelectorInvalid
            | Self::NothingToPrint
            | Self::OutputTooLarge
            | Self::NoBrowser => None,
        }
    }
}

/// Everything that was seen of one capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signals {
    /// Host and port of the last place that the main document was asked for at.
    pub document: Option<(String, u16)>,
    /// Chromium's error word for the main document.
    pub navigation: Option<String>,
    /// Whether the document turned out to be a download.
    pub download: bool,
    /// HTTP status of the main document.
    pub status: Option<u16>,
    /// What the proxy refused.
    pub refusals: Vec<Decision>,
    /// The budget that was spent.
    pub spent: Option<&'static str>,
    /// Whether the page crashed.
    pub crashed: bool,
    /// The phase in which the time ran out.
    pub deadline: Option<Phase>,
    /// Whether the whole browser is gone.
    pub lost: bool,
    /// What went wrong between us and the browser.
    pub driver: Option<DriverError>,
}

/// Names the one cause; `None` if nothing went wrong with the page.
pub fn judge(signals: &Signals) -> Option<CaptureError> {
    refused_document(signals)
        .or_else(|| signals.spent.map(|budget| CaptureError::BudgetSpent { budget }))
        .or_else(|| signals.crashed.then_some(CaptureError::PageCrashed))
        .or_else(|| signals.download.then_some(CaptureError::Download))
        .or_else(|| signals.navigation.as_deref().map(network_failure))
        .or_else(|| {
            signals
                .status
                .filter(|status| *status >= 400)
                .map(CaptureError::HttpStatus)
        })
        .or_else(|| signals.deadline.map(CaptureError::Timeout))
        .or_else(|| signals.lost.then_some(CaptureError::BrowserLost))
        .or_else(|| signals.driver.map(driver_failure))
}

/// What the proxy refused counts against the main document only if the document failed and the refusal is about the
/// very place that it was last asked for at.
fn refused_document(signals: &Signals) -> Option<CaptureError> {
    let failed = signals.navigation.is_some() || signals.status.is_some_and(|status| status >= 400);
    let (host, port) = signals.document.as_ref().filter(|_| failed)?;
    let refusal = signals
        .refusals
        .iter()
        .rev()
        .find(|refused| refused.host == *host && refused.port == *port)?;
    let refusal = refusal.refusal.as_ref()?;
    match refusal.fault() {
        Fault::Policy | Fault::Request => Some(CaptureError::TargetBlocked {
            rule: refusal.reason(),
            error: refusal.proxy_error(),
        }),
        Fault::Budget => None,
        Fault::Target if refusal.reason().starts_with("dns_") || refusal.reason() == "no_address" => {
            Some(CaptureError::DnsFailed)
        }
        Fault::Target => Some(match refusal {
            Refusal::Upstream(_) => CaptureError::UpstreamFailed {
                rule: refusal.reason(),
                error: refusal.proxy_error(),
            },
            Refusal::Tls(_) => CaptureError::TlsFailed {
                error: refusal.proxy_error(),
            },
            _ => CaptureError::ConnectFailed,
        }),
    }
}

fn driver_failure(error: DriverError) -> CaptureError {
    match error {
        DriverError::Closed => CaptureError::BrowserLost,
        other => CaptureError::Driver(other),
    }
}

/// Chromium's own word for a failed main document, as far as a caller can use it.
fn network_failure(word: &str) -> CaptureError {
    let word = word.strip_prefix("net::").unwrap_or(word);
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| word.starts_with(prefix));
    if begins(&["ERR_NAME_", "ERR_DNS_", "ERR_ICANN_"]) {
        CaptureError::DnsFailed
    } else if begins(&["ERR_CERT_"]) {
        CaptureError::TlsFailed {
            error: "tls_certificate_error",
        }
    } else if begins(&["ERR_SSL_", "ERR_BAD_SSL", "ERR_ECH_"]) {
        CaptureError::TlsFailed {
            error: "tls_protocol_error",
        }
    } else if begins(&[
        "ERR_CONNECTION_",
        "ERR_TUNNEL_",
        "ERR_PROXY_",
        "ERR_ADDRESS_",
        "ERR_EMPTY_",
        "ERR_TIMED_OUT",
    ]) {
        CaptureError::ConnectFailed
    } else {
        CaptureError::NavigationFailed
    }
}

#[cfg(test)]
mod tests {
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
}
