//! Counts what a page unpacks and asks for: the proxy sees only what is on the wire, where one mebibyte can become one
//! gibibyte and a tunnel holds any number of requests.
//!
//! In: a page that is being loaded. Out: [`Event::Unpacked`](super::Event) for every piece of every answer and
//! [`Event::Requested`](super::Event) for every request, of its frames and workers as well. The browser pays for telling (a twentieth of a capture if it tells all the time), so it tells
//! only of pages that are still busy after [`AFTER`]: what one can unpack or ask for until then is bounded by
//! what a core can.
//! Must not: keep bodies, or decide how much is too much.

use std::time::Duration;

use chromiumoxide_cdp::cdp::browser_protocol::network::EnableParams;
use chromiumoxide_cdp::cdp::browser_protocol::target::SetAutoAttachParams;
use tokio_util::task::AbortOnDropHandle;

use super::{Client, DriverError};

/// How long a page is loaded before its bytes are counted.
const AFTER: Duration = Duration::from_millis(500);
/// Frames and workers that are counted; more than a jail has tasks for.
const MOST: usize = 300;

/// Counts from a while after now, unless the handle is dropped before.
pub(super) fn later(client: Client, session: String) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::time::sleep(AFTER).await;
        let _ = begin(&client, &session).await;
    }))
}

/// Counts on a session from now on, and asks for those of its frames and workers.
async fn begin(client: &Client, session: &str) -> Result<(), DriverError> {
    let keep_nothing = EnableParams {
        max_total_buffer_size: Some(0),
        max_resource_buffer_size: Some(0),
        ..EnableParams::default()
    };
    client.send(session, &keep_nothing).await?;
    let attach = SetAutoAttachParams {
        flatten: Some(true),
        ..SetAutoAttachParams::new(true, false)
    };
    client.send(session, &attach).await
}

/// A frame or a worker of the page on `page` can be talked to: it is counted, too.
pub(super) async fn attached(client: &Client, session: &str, page: &str) -> Result<(), DriverError> {
    if client.join(session, page, MOST) {
        begin(client, session).await?;
    }
    Ok(())
}
