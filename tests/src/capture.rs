//! The capture server's HTTP API, as a client speaks it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::Failure;

/// What the API answered.
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The picture or the problem.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks for a capture; `token` goes into `Authorization` when there is one.
///
/// # Errors
/// No answer within a minute.
pub fn capture(port: u16, token: Option<&str>, request: &Value) -> Result<Answer, Failure> {
    let mut call = agent()
        .post(format!("http://127.0.0.1:{port}/v1/capture"))
        .header("content-type", "application/json");
    if let Some(token) = token {
        call = call.header("authorization", format!("Bearer {token}"));
    }
    answer(call.send(request.to_string()))
}

/// Gets a page of the pod, such as `/health/ready`.
///
/// # Errors
/// No answer within a minute.
pub fn fetch(port: u16, path: &str) -> Result<Answer, Failure> {
    answer(agent().get(format!("http://127.0.0.1:{port}{path}")).call())
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .into()
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Failure> {
    let mut response = response.map_err(|error| format!("request: {error}"))?;
    let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    let body = response
        .body_mut()
        .with_config()
        .limit(256 << 20)
        .read_to_vec()
        .map_err(|error| format!("body: {error}"))?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers,
        body,
    })
}
