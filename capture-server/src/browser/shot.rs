//! What a page can be asked to show of itself: picture, print, markup, and the measures for them.
//!
//! In: areas and options within bounds. Out: bytes as the browser encodes them. Scripts of ours run in a world of their
//! own, where the page has replaced nothing, and get their arguments as values, never as text of a script. Must not:
//! check what comes back (`capture::output` does).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chromiumoxide_cdp::cdp::browser_protocol::page::{
    self, CaptureScreenshotFormat, CaptureScreenshotParams, CreateIsolatedWorldParams, PrintToPdfParams,
};
use chromiumoxide_cdp::cdp::js_protocol::runtime::{CallArgument, CallFunctionOnParams, ExecutionContextId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::commands::{Command, Data};
use super::page::pixels;
use super::{DriverError, Page};

/// Size in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewport {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Image pixels for each CSS pixel, in hundredths: 100 to 300.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Density(pub u16);

impl Density {
    /// One image pixel for each CSS pixel.
    pub const ONE: Self = Self(100);

    /// As the browser takes it.
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// The window that a page is laid out in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its size in CSS pixels.
    pub viewport: Viewport,
    /// Image pixels for each of them.
    pub density: Density,
}

/// What the browser encodes a picture as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// Lossless, encoded for speed.
    Png,
    /// Lossy, with a quality of 1 to 100.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
}

/// A part of the page in CSS pixels, from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// Its size.
    pub size: Viewport,
}

/// What to photograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Encoding.
    pub format: ImageFormat,
    /// `Some`: this area, beyond the window if need be. `None`: the window.
    pub area: Option<Area>,
}

/// Print options; lengths in inches, as the browser takes them.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "print options are switches")]
pub struct Paper {
    /// Width of the sheet.
    pub width: f64,
    /// Height of the sheet.
    pub height: f64,
    /// Top, right, bottom, left.
    pub margins: [f64; 4],
    /// Whether the sheet lies on its side.
    pub landscape: bool,
    /// Whether backgrounds are printed.
    pub background: bool,
    /// 0.1 to 2.
    pub scale: f64,
    /// Such as `1-3, 5`; empty: all.
    pub ranges: String,
    /// Whether the page's own `@page` size goes before the sheet's.
    pub css_size: bool,
    /// Markup of header and footer.
    pub header_footer: Option<(String, String)>,
    /// Whether the document carries its structure for screen readers.
    pub tagged: bool,
    /// Whether its headings become an outline.
    pub outline: bool,
}

/// Goes down the page window by window, so that what loads only when seen is loaded, waits for its pictures, and comes
/// back up. Ends by itself after `budget` milliseconds.
const SCROLL: &str = "async function(step, most, budget) {
  const end = performance.now() + budget;
  const frame = () => new Promise(done => { requestAnimationFrame(() => done()); setTimeout(done, 100); });
  const root = document.scrollingElement || document.documentElement;
  for (let y = step; y < Math.min(most, root.scrollHeight) && performance.now() < end; y += step) {
    scrollTo({top: y, behavior: 'instant'});
    await frame();
  }
  const pending = () => Array.prototype.some.call(document.images, i => !i.complete && i.getClientRects().length);
  while (pending() && performance.now() < end) await new Promise(done => setTimeout(done, 25));
  scrollTo({top: 0, behavior: 'instant'});
  await frame();
  return true;
}";

/// Left, top, width and height of an element on the page; `false` for a selector that is none.
const ELEMENT: &str = "function(selector) {
  let found;
  try { found = document.querySelector(selector); } catch { return false; }
  if (!found) return null;
  const box = found.getBoundingClientRect();
  return [box.left + scrollX, box.top + scrollY, box.width, box.height];
}";

/// The document as it stands, unless it is longer than `most` UTF-16 units.
const MARKUP: &str = "function(most) {
  const type = document.doctype ? new XMLSerializer().serializeToString(document.doctype) + '\\n' : '';
  const text = type + (document.documentElement ? document.documentElement.outerHTML : '');
  return text.length > most ? false : text;
}";

/// The HTTP status that the document came with; 0 for one that did not come over HTTP.
const STATUS: &str = "function() {
  const [navigation] = performance.getEntriesByType('navigation');
  return navigation ? navigation.responseStatus : 0;
}";

/// What asking for an element gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Its place, in whole pixels around it.
    At(Area),
    /// There is none, or it has no size.
    Missing,
    /// The selector is none.
    Invalid,
}

impl Page {
    /// Takes the picture.
    pub async fn screenshot(&self, shot: Shot) -> Result<Vec<u8>, DriverError> {
        let (format, quality) = match shot.format {
            ImageFormat::Png => (CaptureScreenshotFormat::Png, None),
            ImageFormat::Jpeg { quality } => (CaptureScreenshotFormat::Jpeg, Some(i64::from(quality))),
        };
        let clip = shot.area.map(|Area { x, y, size }| page::Viewport {
            x: f64::from(x),
            y: f64::from(y),
            width: f64::from(size.width),
            height: f64::from(size.height),
            scale: 1.0,
        });
        let picture = CaptureScreenshotParams {
            format: Some(format),
            quality,
            optimize_for_speed: Some(true),
            capture_beyond_viewport: clip.is_some().then_some(true),
            clip,
            ..CaptureScreenshotParams::default()
        };
        self.data(&picture).await
    }

    /// Prints the page as PDF.
    pub async fn pdf(&self, paper: &Paper) -> Result<Vec<u8>, DriverError> {
        let [top, right, bottom, left] = paper.margins;
        let (header, footer) = paper.header_footer.clone().unzip();
        let print = PrintToPdfParams {
            landscape: Some(paper.landscape),
            display_header_footer: header.is_some().then_some(true),
            print_background: Some(paper.background),
            scale: Some(paper.scale),
            paper_width: Some(paper.width),
            paper_height: Some(paper.height),
            margin_top: Some(top),
            margin_bottom: Some(bottom),
            margin_left: Some(left),
            margin_right: Some(right),
            page_ranges: Some(paper.ranges.clone()),
            header_template: header,
            footer_template: footer,
            prefer_css_page_size: Some(paper.css_size),
            generate_tagged_pdf: Some(paper.tagged),
            generate_document_outline: Some(paper.outline),
            transfer_mode: None,
        };
        self.data(&print).await
    }

    /// The document's markup as it stands now; `None` if it has more than `most` characters.
    pub async fn markup(&self, most: u64) -> Result<Option<String>, DriverError> {
        let answer: Option<Value> = self.ask(MARKUP, &[json!(most)]).await?;
        Ok(match answer {
            Some(Value::String(text)) => Some(text),
            _ => None,
        })
    }

    /// The HTTP status of the document that is shown, as the browser noted it; the page cannot change it. `None`: it did
    /// not come over HTTP.
    pub async fn document_status(&self) -> Result<Option<u16>, DriverError> {
        let answer: Option<u16> = self.ask(STATUS, &[]).await?;
        Ok(answer.filter(|status| *status != 0))
    }

    /// Shows every part of the page once, down to `most` pixels, within `budget_ms` milliseconds.
    pub async fn scroll_through(&self, step: u32, most: u64, budget_ms: u64) -> Result<(), DriverError> {
        let arguments = [json!(step), json!(most), json!(budget_ms)];
        self.ask::<Value>(SCROLL, &arguments).await.map(|_| ())
    }

    /// Where the first element that matches lies.
    pub async fn element(&self, selector: &str) -> Result<Element, DriverError> {
        let answer: Option<Value> = self.ask(ELEMENT, &[json!(selector)]).await?;
        Ok(match answer {
            Some(Value::Bool(_)) => Element::Invalid,
            Some(place) => serde_json::from_value(place)
                .ok()
                .and_then(around)
                .map_or(Element::Missing, Element::At),
            None => Element::Missing,
        })
    }

    async fn data<C: Command<Answer = Data>>(&self, command: &C) -> Result<Vec<u8>, DriverError> {
        let Data { data } = self.call(command).await?;
        let protocol = DriverError::Protocol { method: C::METHOD };
        BASE64.decode(data).map_err(|_| protocol)
    }

    /// Runs a function of ours in a world of its own. `None`: it gave nothing, or failed.
    async fn ask<T: DeserializeOwned>(&self, function: &str, arguments: &[Value]) -> Result<Option<T>, DriverError> {
        let world = CreateIsolatedWorldParams {
            world_name: Some("capture".to_owned()),
            ..CreateIsolatedWorldParams::new(self.frame().to_owned())
        };
        let context = self.call(&world).await?.execution_context_id;
        let argument = |value: &Value| CallArgument {
            value: Some(value.clone()),
            ..CallArgument::default()
        };
        let function = CallFunctionOnParams {
            execution_context_id: Some(ExecutionContextId::new(context)),
            arguments: Some(arguments.iter().map(argument).collect()),
            return_by_value: Some(true),
            await_promise: Some(true),
            silent: Some(true),
            ..CallFunctionOnParams::new(function)
        };
        let answer = self.call(&function).await?;
        let Some(value) = answer.result.value.filter(|_| answer.exception_details.is_none()) else {
            return Ok(None);
        };
        let protocol = DriverError::Protocol {
            method: CallFunctionOnParams::METHOD,
        };
        serde_json::from_str(value.get()).map_err(|_| protocol)
    }
}

/// The whole pixels that hold a box. `None` for one without size.
fn around([left, top, width, height]: [f64; 4]) -> Option<Area> {
    let (x, y) = (left.max(0.0).floor(), top.max(0.0).floor());
    let size = Viewport {
        width: pixels(left + width - x),
        height: pixels(top + height - y),
    };
    let visible = width > 0.0 && height > 0.0 && size.width > 0 && size.height > 0;
    visible.then_some(Area {
        x: pixels(x),
        y: pixels(y),
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area {
            x,
            y,
            size: Viewport { width, height },
        }
    }

    #[test]
    fn an_elements_area_holds_every_pixel_that_it_touches() {
        assert_eq!(around([10.0, 20.0, 30.0, 40.0]), Some(area(10, 20, 30, 40)));
        assert_eq!(around([10.4, 20.6, 30.0, 40.0]), Some(area(10, 20, 31, 41)));
        assert_eq!(around([-5.0, 0.0, 30.0, 10.0]), Some(area(0, 0, 25, 10)));
    }

    #[test]
    fn nothing_is_shown_of_what_has_no_size_or_lies_off_the_page() {
        for place in [
            [0.0, 0.0, 0.0, 5.0],
            [-50.0, 0.0, 30.0, 10.0],
            [0.0, 0.0, f64::NAN, 1.0],
        ] {
            assert_eq!(around(place), None, "{place:?}");
        }
    }
}
