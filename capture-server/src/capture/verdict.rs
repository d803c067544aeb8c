//! Who is to blame? All signals of one capture in, the one cause out.
//!
//! Several things fail at once when a capture fails; the order here says which of them is *the* cause: the egress
//! refusal of the main document > a spent budget > a crash > the document's own network failure > its HTTP status >
//! the deadline > the driver. Pure. Must not: look at sub-resources, whose refusals are listed, not fatal.

use capture_egress::{Decision, Fault, Refusal, Spent};

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
        Fault::Budget => one_socket_too_many(signals, refusal),
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

/// Every other spent budget ends the capture and is told by that. A site's own failure is told as what it is: the proxy
/// says 403.
fn one_socket_too_many(signals: &Signals, refusal: &Refusal) -> Option<CaptureError> {
    let own = signals.navigation.is_some() || signals.status == Some(refusal.status());
    let budget = refusal.reason();
    (own && *refusal == Refusal::Budget(Spent::Sockets)).then_some(CaptureError::BudgetSpent { budget })
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
mod tests;
