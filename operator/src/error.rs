//! Why a pass ended early.
//!
//! Each variant has a bounded word ([`Error::reason`]) for metrics, logs and conditions. The text holds no secret: the
//! bodies of requests are never part of it.

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
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.is_forbidden() => "Forbidden",
                kube::Error::Api(status) if status.is_invalid() => "Invalid",
                kube::Error::Api(_) => "ApiError",
                _ => "ApiUnreachable",
            },
            Self::Timeout { .. } => "Timeout",
            Self::Conflict { .. } => "Conflict",
            Self::NotOurs { .. } => "NameTaken",
            Self::NoIdentity | Self::Unreadable => "Unreadable",
            Self::Encode => "Encode",
            Self::Random => "Random",
            Self::Restless => "Restless",
        }
    }

    /// Whether the API server does not know the object, or the kind. The code tells: to a path of a group that it does
    /// not serve it answers in plain text, without the reason of a Status.
    pub fn is_not_found(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.code == http::StatusCode::NOT_FOUND.as_u16())
    }

    /// Wraps what a call to the API server returned.
    pub fn api(verb: &'static str, kind: &'static str, source: kube::Error) -> Self {
        match &source {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => Self::Conflict { kind },
            _ => Self::Api {
                verb,
                kind,
                source: Box::new(source),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_is_told_by_the_code_also_where_the_answer_is_plain_text() {
        let answered = |code: u16, reason: &str| {
            let status = kube::core::Status {
                code,
                reason: reason.into(),
                ..Default::default()
            };
            Error::api("list", "HTTPRoute", kube::Error::Api(status.into())).is_not_found()
        };
        assert!(answered(404, "NotFound"));
        assert!(answered(404, "Failed to parse error data"));
        assert!(!answered(403, "Forbidden"));
    }
}
