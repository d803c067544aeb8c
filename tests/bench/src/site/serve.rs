//! Serves the files on one address. In: an address of this network namespace. Out: URLs of pages. Must not: cache.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Uri};
use tokio::net::TcpListener;

use super::{Page, build};
use crate::Failure;

type Files = HashMap<String, (&'static str, Bytes)>;

/// The running site. It ends with the runtime.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    address: SocketAddr,
}

impl Site {
    /// Starts it.
    pub async fn start(address: SocketAddr) -> Result<Self, Failure> {
        let files: Files = build::files()?
            .into_iter()
            .map(|file| (file.path, (file.kind, file.body)))
            .collect();
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::new(files));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        self.address
    }

    /// A page's URL.
    pub fn url(self, page: Page) -> String {
        self.at(page.path())
    }

    /// A path's URL.
    pub fn at(self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A page that never answers and one that never ends, for the faults among the captures.
pub const SILENT: &str = "/silent";
/// See [`SILENT`].
pub const ENDLESS: &str = "/endless";
/// Hostile pages of every kind.
pub const MIX: &[&str] = &[
    ENDLESS,
    "/dialogs",
    "/download",
    "/workers",
    "/hoard",
    SILENT,
    "/reloads",
];

async fn answer(State(files): State<Arc<Files>>, uri: Uri) -> Response {
    if uri.path() == SILENT {
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match files.get(uri.path()) {
        Some((kind, body)) => {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *response.body_mut() = Body::from(body.clone());
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
