//! Drives one page from its URL to its picture. The walk alone: what may cut it short is the engine's business.
//!
//! In: an empty page, its events, a request. Out: a picture, or [`Stop`]. What was seen on the way stays in [`Drive`],
//! also when the deadline cuts in. Must not: keep time, judge who is to blame, or answer with a picture when the page's
//! own navigation failed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use capture_egress::Spent;
use screenshot_policy::policy::CaptureLimits;
use tokio::time::{Sleep, sleep};
use url::Url;

use super::engine::Picture;
use super::output::Expected;
use super::request::{CaptureRequest, Format, Part};
use super::verdict::Signals;
use super::wait::{Progress, Wait};
use super::{CaptureError, Ledger, Phase, encode, output};
use crate::browser::{Area, DriverError, Element, Event, Events, ImageFormat, Page, Shot, Viewport};
use crate::clock;
use crate::limits::admission::Slot;

/// How long the browser may take to show its own page in the place of a document that could not be had. Its address,
/// which is the end of the redirects, is known only then.
const ERROR_PAGE: Duration = Duration::from_millis(500);
/// Chromium's word for a navigation that ends without any document, not even one of its own.
const ABORTED: &str = "net::ERR_ABORTED";
/// Chromium's word for a failure that it does not say more about.
const FAILED: &str = "net::ERR_FAILED";
/// How often a document that goes away while it is asked is asked again, and how long it is waited for.
const ASK_AGAIN: usize = 5;
const MOVED_ON: Duration = Duration::from_millis(20);
/// A document that has not loaded by then may never do: it is asked for its status once, so that an error page with a
/// picture that does not come is told as what it is when the time runs out.
const SLOW: Duration = Duration::from_secs(1);
/// How long a whole page may be scrolled through, in milliseconds.
const SCROLL_BUDGET_MS: u64 = 5_000;

/// The budget of what a page may unpack, as it is called beside the proxy's.
const UNPACKED: &str = "budget_decoded_bytes";
/// The proxy's own word for its budget of requests.
const REQUESTS: &str = Spent::Requests.reason();
/// Bytes on the wire of one character of markup, at most: the browser escapes it.
const ESCAPED: u64 = 6;

/// A picture that was asked for before its document was known to stand, or why it cannot be had.
type Early = Result<Vec<u8>, CaptureError>;

/// Why the drive ended before there was a picture. What the page itself did wrong stands in the signals.
pub enum Stop {
    /// See the signals.
    Signalled,
    /// The driver failed.
    Driver(DriverError),
    /// Our own limit.
    Cause(CaptureError),
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// What is known while the page is driven; survives the deadline's cutting in.
pub struct Drive {
    /// What the browser said of the navigation.
    pub wait: Wait,
    /// What speaks against the page.
    pub signals: Signals,
    /// Where the time goes.
    pub ledger: Ledger,
    /// Bytes that the page may still unpack.
    pub unpackable: u64,
    /// Requests that the page may still make, as the browser counts them: many share a tunnel, of which the proxy sees one.
    pub askable: u64,
    /// The capture's place at the gate: whatever cannot be called back keeps it.
    pub place: Arc<Slot>,
}

impl Drive {
    /// Takes a piece of a body into account.
    fn unpacked(&mut self, bytes: u64) -> Result<(), Stop> {
        spend(&mut self.unpackable, bytes, UNPACKED, &mut self.signals)
    }

    /// Takes a request into account.
    fn requested(&mut self) -> Result<(), Stop> {
        spend(&mut self.askable, 1, REQUESTS, &mut self.signals)
    }

    fn enter(&mut self, phase: Phase) {
        self.ledger.enter(phase, clock::monotonic());
    }
}

/// Takes an amount from what is left of a budget; more than there is signals the budget's word.
fn spend(left: &mut u64, amount: u64, budget: &'static str, signals: &mut Signals) -> Result<(), Stop> {
    let Some(rest) = left.checked_sub(amount) else {
        signals.spent = Some(budget);
        return Err(Stop::Signalled);
    };
    *left = rest;
    Ok(())
}

/// From the empty page to the picture.
pub async fn drive(
    (page, events): (&mut Page, &mut Events),
    drive: &mut Drive,
    request: &CaptureRequest,
    url: &Url,
    limits: &CaptureLimits,
) -> Result<Picture, Stop> {
    watched(page.resize(request.window), events, drive).await?;
    let answer = watched(page.navigate(url.as_str()), events, drive).await?;
    drive.wait.navigated(&answer);
    drive.signals.download = answer.download;
    drive.signals.navigation = answer.error;
    if let Some(word) = &drive.signals.navigation {
        if word != ABORTED {
            error_page(events, &mut drive.wait).await;
        }
        return Err(Stop::Signalled);
    }
    if drive.signals.download {
        return Err(Stop::Signalled);
    }
    drive.enter(Phase::Load);
    let early = load(page, events, drive, window_shot(request)).await?;
    if drive.signals.status.is_some_and(|status| status >= 400) {
        return Err(Stop::Signalled);
    }
    let made = if let Some(early) = early {
        checked(early.map_err(Stop::Cause)?, request, limits, None)?
    } else {
        drive.enter(Phase::Settle);
        let area = settle(page, events, drive, request, limits).await?;
        drive.enter(Phase::Shot);
        make(page, events, drive, request, limits, area).await?
    };
    drive.enter(Phase::Encode);
    let bytes = encode::anew(&request.format, made, Arc::clone(&drive.place))
        .await
        .map_err(Stop::Cause)?;
    output::bounded(&bytes, limits.max_output_bytes.get()).map_err(Stop::Cause)?;
    Ok(Picture {
        bytes: bytes.into(),
        media_type: request.format.media_type(),
    })
}

/// Brings the loaded page into the state to be shown, and finds what of it that is; `None` for the window.
async fn settle(
    page: &Page,
    events: &mut Events,
    drive: &mut Drive,
    request: &CaptureRequest,
    limits: &CaptureLimits,
) -> Result<Option<Area>, Stop> {
    let viewport = request.window.viewport;
    let area = match &request.part {
        Part::Window => return Ok(None),
        Part::Clip(area) => *area,
        Part::FullPage => {
            let most = limits.max_full_page_height.get();
            watched(
                page.scroll_through(viewport.height, most, SCROLL_BUDGET_MS),
                events,
                drive,
            )
            .await?;
            let content = watched(page.content_size(), events, drive).await?;
            let size = Viewport {
                width: viewport.width,
                height: content.height.max(viewport.height),
            };
            Area { x: 0, y: 0, size }
        }
        Part::Element(selector) => match watched(page.element(selector), events, drive).await? {
            Element::At(area) => area,
            Element::Missing => return Err(Stop::Cause(CaptureError::ElementNotFound)),
            Element::Invalid => return Err(Stop::Cause(CaptureError::SelectorInvalid)),
        },
    };
    if !request.allows(area.size, limits) {
        return Err(Stop::Cause(CaptureError::PageTooLarge));
    }
    if !request.reckoned(area.size, limits) {
        return Err(Stop::Cause(CaptureError::ElementTooLarge));
    }
    Ok(Some(area))
}

/// Lets the browser make what only it can.
async fn make(
    page: &Page,
    events: &mut Events,
    drive: &mut Drive,
    request: &CaptureRequest,
    limits: &CaptureLimits,
    area: Option<Area>,
) -> Result<Vec<u8>, Stop> {
    let most = limits.max_output_bytes.get();
    match &request.format {
        Format::Pdf(paper) => {
            let bytes = watched(page.pdf(paper), events, drive).await.map_err(unprintable)?;
            output::print(&bytes, most).map_err(Stop::Cause)?;
            Ok(bytes)
        }
        Format::Html => {
            let text = watched(page.markup(most / ESCAPED), events, drive)
                .await
                .map_err(too_large)?;
            let text = text.ok_or(Stop::Cause(CaptureError::OutputTooLarge))?;
            Ok(text.into_bytes())
        }
        Format::Png { .. } | Format::Jpeg { .. } | Format::Webp { .. } => {
            let format = request.format.image().unwrap_or(ImageFormat::Png);
            let bytes = watched(page.screenshot(Shot { format, area }), events, drive)
                .await
                .map_err(too_large)?;
            checked(bytes, request, limits, area)
        }
    }
}

/// A picture of what was asked.
fn checked(
    bytes: Vec<u8>,
    request: &CaptureRequest,
    limits: &CaptureLimits,
    area: Option<Area>,
) -> Result<Vec<u8>, Stop> {
    let format = request.format.image().unwrap_or(ImageFormat::Png);
    let expected = Expected {
        size: area.map_or(request.window.viewport, |area| area.size),
        density: request.window.density,
    };
    output::picture(&bytes, format, expected, limits.max_output_bytes.get()).map_err(Stop::Cause)?;
    Ok(bytes)
}

/// The picture of a request that needs nothing more once its page is loaded.
fn window_shot(request: &CaptureRequest) -> Option<Shot> {
    let format = request.format.image()?;
    (request.part == Part::Window).then_some(Shot { format, area: None })
}

/// The browser refuses to print only what the options leave nothing of, such as pages that are not there.
fn unprintable(stop: Stop) -> Stop {
    match stop {
        Stop::Driver(DriverError::Rejected { .. }) => Stop::Cause(CaptureError::NothingToPrint),
        other => too_large(other),
    }
}

/// What the wire takes holds every output that may be: an answer that is longer holds one of too many bytes.
fn too_large(stop: Stop) -> Stop {
    match stop {
        Stop::Driver(DriverError::Oversized { .. }) => Stop::Cause(CaptureError::OutputTooLarge),
        other => other,
    }
}

/// Waits for a command while the events go on: a page that crashes never answers.
async fn watched<T>(
    command: impl Future<Output = Result<T, DriverError>>,
    events: &mut Events,
    drive: &mut Drive,
) -> Result<T, Stop> {
    tokio::pin!(command);
    loop {
        tokio::select! {
            biased;
            answer = &mut command => return answer.map_err(Stop::Driver),
            stopped = next(events, drive) => stopped?,
        }
    }
}

/// Takes in one event; a crash ends the drive.
async fn next(events: &mut Events, drive: &mut Drive) -> Result<(), Stop> {
    match events.next().await {
        Some(Event::Unpacked { bytes }) => drive.unpacked(bytes)?,
        Some(Event::Requested) => drive.requested()?,
        Some(event) => drive.wait.on(&event),
        None => return Err(Stop::Driver(DriverError::Closed)),
    }
    if drive.wait.progress() == Progress::Crashed {
        drive.signals.crashed = true;
        return Err(Stop::Signalled);
    }
    Ok(())
}

/// Waits for the page's document, and asks it for its status. A `shot` is asked for in the same breath, as it waits for the
/// page's next frame anyhow, and stands if the document does.
async fn load(page: &Page, events: &mut Events, drive: &mut Drive, shot: Option<Shot>) -> Result<Option<Early>, Stop> {
    let mut asked = 0;
    let mut slow = Slow::new();
    loop {
        match drive.wait.progress() {
            Progress::Ready => {}
            Progress::Failed => {
                drive.signals.navigation = Some(FAILED.to_owned());
                return Err(Stop::Signalled);
            }
            Progress::Pending | Progress::Crashed => {
                slow.next(page, events, drive).await?;
                continue;
            }
        }
        let loader = drive.wait.loader().map(str::to_owned);
        if shot.is_some() {
            // Nothing is to be settled of a window.
            drive.enter(Phase::Settle);
            drive.enter(Phase::Shot);
        }
        let answered = watched(status_and_shot(page, shot), events, drive).await;
        let stands = drive.wait.progress() == Progress::Ready && drive.wait.loader() == loader.as_deref();
        match answered {
            Ok((status, early)) if stands => {
                drive.signals.status = status;
                return Ok(early);
            }
            Ok(_) => drive.enter(Phase::Load),
            // The document went away under the question: the next one's events are on their way.
            Err(Stop::Driver(DriverError::Rejected { .. })) if asked < ASK_AGAIN => {
                asked += 1;
                drive.enter(Phase::Load);
                if let Ok(taken) = tokio::time::timeout(MOVED_ON, next(events, drive)).await {
                    taken?;
                }
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// The document's status and, unless it is that of an error page, the picture. One of too many bytes fails nothing yet:
/// the status comes first, and the document may have gone away.
async fn status_and_shot(page: &Page, shot: Option<Shot>) -> Result<(Option<u16>, Option<Early>), DriverError> {
    let Some(shot) = shot else {
        return Ok((page.document_status().await?, None));
    };
    let picture = async {
        match page.screenshot(shot).await {
            Err(DriverError::Oversized { .. }) => Ok(Err(CaptureError::OutputTooLarge)),
            answer => answer.map(Ok),
        }
    };
    let status = page.document_status();
    tokio::pin!(status, picture);
    let (status, early) = tokio::select! {
        biased;
        status = &mut status => (status?, None),
        early = &mut picture => (status.await?, Some(early?)),
    };
    let early = match early {
        Some(early) => Some(early),
        None if status.is_some_and(|status| status >= 400) => None,
        None => Some(picture.await?),
    };
    Ok((status, early))
}

/// The wait for a document that is not loaded yet.
struct Slow {
    /// The document that is waited for.
    loader: Option<String>,
    /// When it is asked; `None` once it was.
    ask: Option<Pin<Box<Sleep>>>,
}

impl Slow {
    fn new() -> Self {
        Self {
            loader: None,
            ask: None,
        }
    }

    /// Takes in one event, or asks a slow document for its status. Every document has its own second.
    async fn next(&mut self, page: &Page, events: &mut Events, drive: &mut Drive) -> Result<(), Stop> {
        if self.loader.as_deref() != drive.wait.loader() {
            self.loader = drive.wait.loader().map(str::to_owned);
            self.ask = Some(Box::pin(sleep(SLOW)));
            drive.signals.status = None;
        }
        let Some(ask) = &mut self.ask else {
            return next(events, drive).await;
        };
        tokio::select! {
            biased;
            taken = next(events, drive) => return taken,
            () = ask => self.ask = None,
        }
        match watched(page.document_status(), events, drive).await {
            Ok(status) if self.loader.as_deref() == drive.wait.loader() => drive.signals.status = status,
            // It went away under the question.
            Ok(_) | Err(Stop::Driver(DriverError::Rejected { .. })) => {}
            Err(stop) => return Err(stop),
        }
        Ok(())
    }
}

/// The answer to a navigation overtakes the event that says where it failed.
async fn error_page(events: &mut Events, wait: &mut Wait) {
    let shown = async {
        while wait.document_url().is_none()
            && let Some(event) = events.next().await
        {
            wait.on(&event);
        }
    };
    let _ = tokio::time::timeout(ERROR_PAGE, shown).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_long_for_the_wire_is_an_output_of_too_many_bytes_and_no_other_failure_is() {
        let method = "Page.printToPDF";
        for told in [too_large, unprintable] {
            let stop = told(Stop::Driver(DriverError::Oversized { method }));
            assert!(matches!(stop, Stop::Cause(CaptureError::OutputTooLarge)));
            let stop = told(Stop::Driver(DriverError::Protocol { method }));
            assert!(matches!(stop, Stop::Driver(DriverError::Protocol { .. })));
        }
    }
}
