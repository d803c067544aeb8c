//! A browser and its one page, narrowed to the verbs that a capture needs.
//!
//! In: typed values (a URL already accepted, a viewport already bounded). Out: what happened, or a [`DriverError`].
//! Must not: decide whether a page is ready (`capture::wait` does) or who is to blame (`capture::verdict` does).
//! Dialogs are dismissed here and nowhere else, because an open dialog blocks every other command of the page.

use std::os::fd::OwnedFd;

use chromiumoxide_cdp::cdp::browser_protocol::browser::{
    GetVersionParams, SetDownloadBehaviorBehavior, SetDownloadBehaviorParams,
};
use chromiumoxide_cdp::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
use chromiumoxide_cdp::cdp::browser_protocol::inspector;
use chromiumoxide_cdp::cdp::browser_protocol::page::{
    EnableParams, GetLayoutMetricsParams, HandleJavaScriptDialogParams, NavigateParams, SetLifecycleEventsEnabledParams,
};
use chromiumoxide_cdp::cdp::browser_protocol::target::{
    AttachToTargetParams, CreateBrowserContextParams, CreateTargetParams, DisposeBrowserContextParams,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::commands::{Command, Size};
use super::wire::{PipeSink, PipeSource};
use super::{Client, DriverError, Event, Strays, Viewport, Window, tally};

/// Events a page may have that the engine has not looked at yet; beyond it the page counts as gone.
const FORWARDED_EVENTS: usize = 4096;

/// The browser's immediate answer to a navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Navigated {
    /// The document that is being loaded; `None` if none will be.
    pub loader: Option<String>,
    /// Chromium's own error word (`net::ERR_…`), if the navigation failed.
    pub error: Option<String>,
    /// Whether the answer turned out to be a download.
    pub download: bool,
}

/// One browser at the other end of a CDP pipe.
#[derive(Clone)]
pub struct Browser {
    client: Client,
}

impl Browser {
    /// Takes over the two pipe ends. `max_frame` bounds one message of the browser, in bytes; messages that are not
    /// understood are counted in `strays`.
    pub fn attach(read: OwnedFd, write: OwnedFd, max_frame: usize, strays: Strays) -> std::io::Result<Self> {
        let (source, sink) = (PipeSource::new(read, max_frame)?, PipeSink::new(write)?);
        Ok(Self {
            client: Client::start(source, sink, strays),
        })
    }

    /// Whether the pipe still stands.
    pub fn is_alive(&self) -> bool {
        self.client.is_alive()
    }

    /// Resolves when the browser is gone.
    pub async fn gone(&self) {
        self.client.gone().await;
    }

    /// The product and version, such as `HeadlessChrome/140.0.0.0`.
    pub async fn version(&self) -> Result<String, DriverError> {
        let answer = self.client.call(None, &GetVersionParams {}).await?;
        Ok(answer.product.chars().filter(char::is_ascii_graphic).take(64).collect())
    }

    /// Opens an empty page in a context of its own whose only way out is the proxy on `proxy_port` of the jail's
    /// loopback. The bypass list says that loopback, too, goes through it: the command line's does not carry over.
    /// The window has the size `window`.
    pub async fn open(&self, proxy_port: u16, window: Window) -> Result<(Page, Events), DriverError> {
        let client = &self.client;
        let context = CreateBrowserContextParams {
            dispose_on_detach: Some(true),
            proxy_server: Some(format!("http://127.0.0.1:{proxy_port}")),
            proxy_bypass_list: Some("<-loopback>".to_owned()),
            ..CreateBrowserContextParams::default()
        };
        let context = client.call(None, &context).await?.browser_context_id;
        let deny = SetDownloadBehaviorParams {
            browser_context_id: Some(context.clone().into()),
            ..SetDownloadBehaviorParams::new(SetDownloadBehaviorBehavior::Deny)
        };
        client.call(None, &deny).await?;
        let target = CreateTargetParams {
            browser_context_id: Some(context.clone().into()),
            ..CreateTargetParams::new("about:blank")
        };
        let target = client.call(None, &target).await?.target_id;
        let attach = AttachToTargetParams {
            flatten: Some(true),
            ..AttachToTargetParams::new(target.clone())
        };
        let session = client.call(None, &attach).await?.session_id;
        let events = client.subscribe(&session);
        let (forward, events_out) = mpsc::channel(FORWARDED_EVENTS);
        tokio::spawn(pump(client.clone(), session.clone(), events, forward));
        let mut page = Page {
            client: client.clone(),
            context,
            target,
            session,
            window: None,
            tally: None,
        };
        page.enable().await?;
        page.resize(window).await?;
        Ok((page, Events(events_out)))
    }
}

/// Dismisses dialogs, has frames and workers counted, and passes everything else on. Ends when the page's session or its
/// reader does.
async fn pump(client: Client, session: String, mut events: mpsc::Receiver<Event>, forward: mpsc::Sender<Event>) {
    while let Some(event) = events.recv().await {
        let sent = match event {
            Event::DialogOpening => {
                let dismiss = HandleJavaScriptDialogParams::new(false);
                client.send(&session, &dismiss).await.is_ok()
            }
            Event::Attached { session: other } => tally::attached(&client, &other, &session).await.is_ok(),
            Event::Detached { session: other } => {
                client.unsubscribe(&other);
                true
            }
            // Never waits: a dialog behind a full queue would hold the page up for good.
            other => forward.try_send(other).is_ok(),
        };
        if !sent {
            return;
        }
    }
}

/// One page in a browser context of its own.
pub struct Page {
    client: Client,
    context: String,
    target: String,
    session: String,
    window: Option<Window>,
    /// Will count what it unpacks.
    tally: Option<AbortOnDropHandle<()>>,
}

impl Drop for Page {
    fn drop(&mut self) {
        // A browser outlives its pages: what is kept of them must not pile up.
        self.client.unsubscribe(&self.session);
    }
}

/// What happens on a page, apart from the page, so that a command and the events can be waited for at once.
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event. `None`: the page or its browser is gone, nothing more will come.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl Page {
    /// The id of the page's top frame.
    pub fn frame(&self) -> &str {
        // Chromium gives a page's target and its first top frame the same id.
        &self.target
    }

    /// All at once: the browser takes them in order, and nothing is navigated before the last has answered. The Network
    /// domain stays off: its events cost the browser a twentieth of a capture, and what they say of the document the
    /// Page domain and the document itself say as well.
    async fn enable(&self) -> Result<(), DriverError> {
        let page = EnableParams::default();
        let lifecycle = SetLifecycleEventsEnabledParams::new(true);
        let enabled = tokio::try_join!(
            self.call(&page),
            self.call(&inspector::EnableParams {}),
            self.call(&lifecycle),
        );
        enabled.map(|_| ())
    }

    pub(super) async fn call<C: Command>(&self, command: &C) -> Result<C::Answer, DriverError> {
        self.client.call(Some(&self.session), command).await
    }

    /// Sets the window, unless the page has it.
    pub async fn resize(&mut self, window: Window) -> Result<(), DriverError> {
        if self.window == Some(window) {
            return Ok(());
        }
        let Window { viewport, density } = window;
        let metrics = SetDeviceMetricsOverrideParams::new(viewport.width, viewport.height, density.factor(), false);
        self.call(&metrics).await?;
        self.window = Some(window);
        Ok(())
    }

    /// Starts loading `url` and waits for the browser's first answer (the document's head, or a failure).
    pub async fn navigate(&mut self, url: &str) -> Result<Navigated, DriverError> {
        self.tally = Some(tally::later(self.client.clone(), self.session.clone()));
        let answer = self.call(&NavigateParams::new(url)).await?;
        Ok(Navigated {
            loader: answer.loader_id,
            error: answer.error_text,
            download: answer.is_download,
        })
    }

    /// The document's whole size in CSS pixels, rounded up.
    pub async fn content_size(&self) -> Result<Viewport, DriverError> {
        let Size { width, height } = self.call(&GetLayoutMetricsParams {}).await?.css_content_size;
        Ok(Viewport {
            width: pixels(width),
            height: pixels(height),
        })
    }

    /// Disposes of the page with its whole context: cookies, cache and storage go with it.
    pub async fn close(&self) -> Result<(), DriverError> {
        let dispose = DisposeBrowserContextParams::new(self.context.clone());
        self.client.call(None, &dispose).await.map(|_| ())
    }
}

/// A browser's measure as whole pixels; nonsense (NaN, negative, huge) ends at the bounds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to u32's range on the same line
pub(super) fn pixels(measure: f64) -> u32 {
    measure.ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_rounded_up_and_nonsense_is_bounded() {
        assert_eq!(pixels(1200.2), 1201);
        assert_eq!(pixels(-5.0), 0);
        assert_eq!(pixels(f64::INFINITY), u32::MAX);
        assert_eq!(pixels(f64::NAN), 0);
    }
}
