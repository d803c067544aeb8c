//! Asks a pod what it enforces, and believes only an answer made with the service's own key.
//!
//! In: a pod's address, the internal key, a fresh nonce, the canary that the pod shall try, or a keyset to bring. Out: the
//! pod's report, or why there is none. [`Attester::is_let_in`] tries the pod's API port, where the operator has no business.
//! Plain HTTP on the pod's health port: the codes over nonce and body make both sides known to each other, and nothing
//! in the report is secret. Everything is bounded: time, size of the answer. Redirects are not followed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::DATE;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use screenshot_policy::attest::{AttestReport, InternalKey, MAC_HEADER, MAX_SKEW, NONCE_HEADER, nonce_text};
use screenshot_policy::canary::{CANARY_HEADER, Canary};
use screenshot_policy::keyset::Keyset;
use screenshot_policy::layout;

use crate::clock;

const TIMEOUT: Duration = Duration::from_secs(3);
const MAX_BODY: usize = 64 * 1024;
/// For a whole answer on the API port. A network plugin mostly drops what it does not let through.
const KNOCK: Duration = Duration::from_millis(500);

/// Why a pod's state is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unattested {
    /// The pod has no address yet.
    #[error("has no address yet")]
    NoAddress,
    /// There is no internal key yet.
    #[error("cannot be asked without the internal key")]
    NoKey,
    /// No connection or no answer in time.
    #[error("does not answer on its health port")]
    Unreachable,
    /// It refused, and by its answer's date its clock is another than this one.
    #[error("does not take the operator's questions: the clock of its node differs by more than five minutes")]
    Clock,
    /// It answered, but not with a report.
    #[error("answered without a report")]
    Refused,
    /// The answer was not made with the service's key.
    #[error("answered with a wrong code: not a pod of this service, or it holds another key")]
    Forged,
    /// The report cannot be read, or is another pod's.
    #[error("gave an unreadable report")]
    Unreadable,
}

/// The HTTP client for it.
#[derive(Clone)]
pub struct Attester {
    client: Client<HttpConnector, Full<Bytes>>,
    port: u16,
    api_port: u16,
}

impl Default for Attester {
    fn default() -> Self {
        Self::on_ports(layout::HEALTH_PORT, layout::API_PORT)
    }
}

impl Attester {
    /// Asks on other ports than the health port and the API port; for tests.
    #[expect(
        clippy::disallowed_methods,
        reason = "the way to capture pods: only ever asked for addresses, so that the resolver has nothing to do"
    )]
    pub fn on_ports(port: u16, api_port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        // A pod's address may belong to another pod the next time: no connection is kept.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { client, port, api_port }
    }

    /// Asks one pod, with a nonce that was never used before, and has it try the canary.
    ///
    /// # Errors
    /// Why there is no report.
    pub async fn ask(
        &self,
        pod: &str,
        ip: IpAddr,
        key: &InternalKey,
        nonce: [u8; 32],
        canary: Option<&Canary>,
    ) -> Result<AttestReport, Unattested> {
        let (nonce, canary) = (nonce_text(nonce), canary.map(Canary::text));
        let code = key.request_mac(&nonce, canary.as_deref().unwrap_or_default());
        let uri = self.uri(ip, layout::ATTEST_PATH);
        let mut question = request(Method::GET, uri, &nonce, &code, Bytes::new())?;
        if let Some(canary) = canary {
            let canary = canary.try_into().map_err(|_| Unattested::Unreachable)?;
            question.headers_mut().insert(CANARY_HEADER, canary);
        }
        self.report(pod, key, &nonce, question).await
    }

    /// Brings a keyset to one pod, with a nonce that was never used before, and asks what it then has in force.
    ///
    /// # Errors
    /// Why there is no report.
    pub async fn bring(
        &self,
        pod: &str,
        ip: IpAddr,
        key: &InternalKey,
        nonce: [u8; 32],
        keyset: &Keyset,
    ) -> Result<AttestReport, Unattested> {
        let (nonce, keyset) = (nonce_text(nonce), keyset.canonical_json());
        let code = key.keyset_mac(&nonce, keyset.as_bytes());
        let uri = self.uri(ip, layout::KEYSET_BRING_PATH);
        let bringing = request(Method::PUT, uri, &nonce, &code, keyset.into())?;
        self.report(pod, key, &nonce, bringing).await
    }

    /// Whether the capture server answers the operator on its API port. Only its own answer counts: where the operator
    /// runs in a service mesh, its sidecar accepts connections to anywhere.
    pub async fn is_let_in(&self, ip: IpAddr) -> bool {
        let address = SocketAddr::new(ip, self.api_port);
        let Ok(request) = Request::get(format!("http://{address}/health/live")).body(Full::default()) else {
            return false;
        };
        let answer = tokio::time::timeout(KNOCK, self.client.request(request)).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == http::StatusCode::OK))
    }

    fn uri(&self, ip: IpAddr, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(ip, self.port))
    }

    async fn report(
        &self,
        pod: &str,
        key: &InternalKey,
        nonce: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<AttestReport, Unattested> {
        let (body, code) = tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| Unattested::Unreachable)??;
        if !key.verify_response(nonce, &body, &code) {
            return Err(Unattested::Forged);
        }
        let report: AttestReport = serde_json::from_slice(&body).map_err(|_| Unattested::Unreadable)?;
        if report.pod == pod {
            Ok(report)
        } else {
            Err(Unattested::Unreadable)
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Bytes, String), Unattested> {
        let response = self
            .client
            .request(request)
            .await
            .map_err(|_| Unattested::Unreachable)?;
        if response.status() != http::StatusCode::OK {
            return Err(refused(response.headers(), clock::wall()));
        }
        let code = response
            .headers()
            .get(MAC_HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let code = code.ok_or(Unattested::Forged)?;
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok((body.map_err(|_| Unattested::Unreadable)?.to_bytes(), code))
    }
}

/// Why a pod refuses, as far as its answer tells.
fn refused(headers: &HeaderMap, now: Timestamp) -> Unattested {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| rfc2822::parse(date).ok());
    let apart = date.map(|date| now.duration_since(date.timestamp()).unsigned_abs());
    if apart.is_some_and(|apart| apart > MAX_SKEW) {
        Unattested::Clock
    } else {
        Unattested::Refused
    }
}

fn request(
    method: Method,
    uri: String,
    nonce: &str,
    code: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Unattested> {
    let request = Request::builder().method(method).uri(uri);
    let request = request.header(NONCE_HEADER, nonce).header(MAC_HEADER, code);
    request.body(Full::new(body)).map_err(|_| Unattested::Unreachable)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "pods on loopback")]
mod tests;
