//! Why a pass ended early.
//!
//! Each variant has a bounded word ([`Error::reason`]) for metrics, logs and conditions. The text holds no secret: the
//! bodies of requests are never part of it.

use std::fmt;
use std::time::Duration;

/// Why a pass ended early. All of them are retried with backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{verb} {kind}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// An API call took longer than its limit.
    #[error("{verb} {kind}: no answer in time")]
    Timeout {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
    },
    /// Somebody else wrote the object since it was read; the next pass decides anew.
    #[error("{kind} was changed by somebody else meanwhile")]
    Conflict {
        /// The kind of object.
        kind: &'static str,
    },
    /// An object with a child's name belongs to somebody else.
    #[error("{kind} {name} exists and does not belong to this service")]
    NotOurs {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A watch that the pass depends on was never filled: everything would look as if it were missing.
    #[error("the watch of {kind} is not filled: {reason}")]
    Unwatched {
        /// The kind of object.
        kind: &'static str,
        /// One word out of a bounded set.
        reason: &'static str,
    },
    /// The resource has no name, namespace or uid: it did not come from an API server.
    #[error("the object lacks name, namespace or uid")]
    NoIdentity,
    /// The object cannot be read as a `ScreenshotService` (an older operator meets a newer resource).
    #[error("the object cannot be read as a ScreenshotService")]
    Unreadable,
    /// An object could not be written as JSON.
    #[error("an object could not be encoded")]
    Encode,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// More rotation steps in one pass than any rotation has.
    #[error("the rotation did not come to rest")]
    Restless,
}

impl Error {
    /// One word out of a bounded set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => api_reason(source),
            Self::Unwatched { reason, .. } => reason,
            Self::Timeout { .. } => "Timeout",
            Self::Conflict { .. } => "Conflict",
            Self::NotOurs { .. } => "NameTaken",
            Self::NoIdentity | Self::Unreadable => "Unreadable",
            Self::Encode => "Encode",
            Self::Random => "Random",
            Self::Restless => "Restless",
        }
    }

    /// Whether it passes by itself, so that the status need not speak of it at once.
    pub fn transient(&self) -> bool {
        let passing = [
            "Conflict",
            "Timeout",
            "NotSynced",
            "Throttled",
            "ApiUnreachable",
            "ApiUnavailable",
            "WebhookUnavailable",
            "NamespaceTerminating",
        ];
        passing.contains(&self.reason())
    }

    /// Whether it lasts until a person does something.
    pub fn lasting(&self) -> bool {
        let lasts = [
            "NameTaken",
            "Invalid",
            "Forbidden",
            "AdmissionRefused",
            "QuotaExceeded",
            "NotServed",
        ];
        lasts.contains(&self.reason())
    }

    /// What may be shown to everybody: bounded words only, never what the API server quotes of a request.
    pub fn public(&self) -> String {
        match self {
            Self::Api { verb, kind, source } => match self.reason() {
                "Forbidden" => {
                    format!("the operator may not {verb} {kind}: its role lacks a rule, or admission refused it")
                }
                "AdmissionRefused" => {
                    // Its own words may quote the object, which may be a Secret.
                    let who = refuser(source).map_or_else(String::new, |who| who.to_string());
                    format!(
                        "the cluster's admission refuses to let the operator {verb} {kind}: {who}; the operator's log has its words"
                    )
                }
                "WebhookUnavailable" => {
                    let who = unheard(source).map_or_else(String::new, |who| who.to_string());
                    format!("{who}, which the cluster asks before the operator may {verb} {kind}, does not answer")
                }
                "QuotaExceeded" => format!("a quota of the namespace leaves no room for {kind}"),
                _ => format!("the operator could not {verb} {kind}; its log says more"),
            },
            Self::Unwatched {
                kind,
                reason: "Forbidden",
            } => {
                format!("the operator may not list and watch {kind}: its role lacks a rule")
            }
            Self::NotOurs { kind, .. } => {
                format!("a {kind} of that name exists and does not belong to this service")
            }
            _ => "the operator could not write or read what the service needs; its log says more".to_owned(),
        }
    }

    /// Whether the API server does not know the object, or the kind. By the code: for an unknown kind it gives no reason.
    pub fn is_not_found(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(&**source, kube::Error::Api(status) if status.code == 404) && refuser(source).is_none()
    }

    /// How long the API server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = &**source else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    /// Wraps what a call to the API server returned.
    pub fn api(verb: &'static str, kind: &'static str, source: kube::Error) -> Self {
        match &source {
            // A webhook may choose the code of a conflict, and no next pass would decide otherwise.
            _ if refuser(&source).is_some() => Self::Api {
                verb,
                kind,
                source: Box::new(source),
            },
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => Self::Conflict { kind },
            _ => Self::Api {
                verb,
                kind,
                source: Box::new(source),
            },
        }
    }
}

/// Longest name shown of who refused, in characters: that of an object of Kubernetes is no longer.
const MAX_NAME: usize = 253;

/// Who of the cluster's admission refused a request, or was not there to be asked.
#[derive(Debug, PartialEq, Eq)]
struct Refuser<'a> {
    kind: &'static str,
    name: &'a str,
}

impl fmt::Display for Refuser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Webhooks and policies answer with a code of their own choice; the API server puts their names before their words.
fn refuser(source: &kube::Error) -> Option<Refuser<'_>> {
    let kube::Error::Api(status) = source else { return None };
    if !(400..500).contains(&status.code) || status.code == 429 {
        return None;
    }
    let forms = [
        ("webhook", "admission webhook \"", "\" denied the request"),
        (
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicy '",
            "' with binding '",
        ),
    ];
    forms.into_iter().find_map(|(kind, before, after)| {
        let (_, rest) = status.message.split_once(before)?;
        let (name, words) = rest.split_once(after)?;
        let denied = kind == "webhook" || words.contains("' denied request");
        (denied && is_name(name)).then_some(Refuser { kind, name })
    })
}

/// A webhook that must be asked and cannot be, by the words of the API server, which answers as if the fault were its own.
fn unheard(source: &kube::Error) -> Option<Refuser<'_>> {
    let kube::Error::Api(status) = source else { return None };
    let (_, rest) = status.message.split_once("failed calling webhook \"")?;
    let (name, _) = rest.split_once('"')?;
    let kind = "webhook";
    (status.code >= 500 && is_name(name)).then_some(Refuser { kind, name })
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
    text.len() <= MAX_NAME && text.chars().all(plain)
}

fn api_reason(source: &kube::Error) -> &'static str {
    let kube::Error::Api(status) = source else {
        return "ApiUnreachable";
    };
    if refuser(source).is_some() {
        return "AdmissionRefused";
    }
    match status.code {
        // Admission plugins of the API server itself say so in words only.
        403 if status.message.contains("exceeded quota") => "QuotaExceeded",
        403 if status.message.contains("because it is being terminated") => "NamespaceTerminating",
        403 => "Forbidden",
        401 => "Unauthorized",
        422 => "Invalid",
        429 => "Throttled",
        500..=599 if unheard(source).is_some() => "WebhookUnavailable",
        500..=599 => "ApiUnavailable",
        _ => "ApiError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, reason: &str, message: &str) -> Error {
        let status = kube::core::Status {
            code,
            reason: reason.into(),
            message: message.into(),
            ..Default::default()
        };
        Error::api("list", "HTTPRoute", kube::Error::Api(status.into()))
    }

    #[test]
    fn what_is_not_found_is_told_by_the_code_also_where_the_answer_is_plain_text() {
        assert!(answered(404, "NotFound", "").is_not_found());
        assert!(answered(404, "Failed to parse error data", "").is_not_found());
        assert!(!answered(403, "Forbidden", "").is_not_found());
    }

    #[test]
    fn what_the_api_server_quotes_of_a_request_is_not_shown_and_what_to_do_is() {
        let secret = "data.token: Invalid value: hunter2";
        for (code, message, reason, word) in [
            (
                403,
                "secrets is forbidden: User cannot list hunter2",
                "Forbidden",
                "role",
            ),
            (403, "exceeded quota: small, hunter2", "QuotaExceeded", "quota"),
            (422, secret, "Invalid", "list HTTPRoute"),
            (500, secret, "ApiUnavailable", "log"),
        ] {
            let error = answered(code, "", message);
            assert_eq!(error.reason(), reason);
            let shown = error.public();
            assert!(shown.contains(word) && !shown.contains("hunter2"), "{shown}");
            assert_eq!(error.lasting(), code < 500, "{reason}");
        }
        assert!(answered(403, "", "x because it is being terminated").transient());
        assert!(answered(429, "", "").transient());
    }

    #[test]
    fn who_of_admission_refuses_is_named_and_its_words_are_not_shown() {
        let webhook = "admission webhook \"labels.example.com\" denied the request: token hunter2";
        let policy = "services \"shots\" is forbidden: ValidatingAdmissionPolicy 'no-services' with binding 'here' denied request: hunter2";
        for (message, who) in [
            (webhook, "webhook labels.example.com;"),
            (policy, "ValidatingAdmissionPolicy no-services;"),
        ] {
            for code in [400, 401, 403, 404, 409, 413, 422] {
                let error = answered(code, "Conflict", message);
                assert_eq!(error.reason(), "AdmissionRefused", "{code}");
                assert!(error.lasting() && !error.transient() && !error.is_not_found(), "{code}");
                let shown = error.public();
                assert!(
                    shown.contains(who) && shown.contains("HTTPRoute") && !shown.contains("hunter2"),
                    "{shown}"
                );
            }
            for code in [429, 500] {
                assert_ne!(
                    answered(code, "", message).reason(),
                    "AdmissionRefused",
                    "it passes by itself"
                );
            }
        }
        let away =
            "Internal error occurred: failed calling webhook \"labels.example.com\": failed to call webhook: hunter2";
        let error = answered(500, "InternalError", away);
        assert_eq!(error.reason(), "WebhookUnavailable");
        assert!(error.transient() && !error.lasting());
        assert_eq!(
            error.public(),
            "webhook labels.example.com, which the cluster asks before the operator may list HTTPRoute, does not answer"
        );
        for no_name in [
            "failed calling webhook \"a b <script>\": no",
            "failed calling webhook \"a",
        ] {
            assert_eq!(answered(500, "", no_name).reason(), "ApiUnavailable");
        }
        let long = format!("admission webhook \"{}\" denied the request", "a".repeat(300));
        for message in [
            &long,
            "admission webhook \"a b <script>\" denied the request",
            "ValidatingAdmissionPolicy 'a' with binding 'b' warned",
        ] {
            assert_eq!(answered(403, "", message).reason(), "Forbidden");
        }
    }
}
