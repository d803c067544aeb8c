//! Parsing of a capture request: bytes of JSON in, a [`CaptureRequest`] within the policy's bounds out.
//!
//! What parses is servable: every later room can rely on each number and on the URL's form. Errors name the field
//! and the rule, never the caller's value. Must not: judge addresses or ports (the egress room does, on what it
//! really connects to), read a clock, or know HTTP.

mod fields;
mod format;
mod print;

use screenshot_policy::keyset::Scope;
use screenshot_policy::policy::CaptureLimits;
use serde_json::Value;
use url::Url;

use super::Lane;
use crate::browser::{Area, Density, Viewport, Window};
use fields::{Fields, wrong};
pub use format::Format;

/// Every field that is not a print option, in the order in which the documentation lists them.
const COMMON: [&str; 12] = [
    "url",
    "html_content",
    "window_width",
    "window_height",
    "pixel_density",
    "full_page",
    "selector",
    "clip",
    "format",
    "quality",
    "png_compression",
    "lossless",
];

/// Every field there is.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    COMMON.into_iter().chain(print::FIELDS)
}

/// Longest URL in bytes.
pub const MAX_URL_BYTES: usize = 8192;
/// Longest selector in bytes.
const MAX_SELECTOR_BYTES: usize = 1024;
/// Longest name of an unknown field that is repeated.
const MAX_NAME_BYTES: usize = 64;
const DEFAULT_WIDTH: u32 = 1280;
const DEFAULT_HEIGHT: u32 = 720;
/// The widest and tallest picture that the format WebP can hold.
const WEBP_SIDE: u64 = 16_383;
/// Pixels from which on a picture is large work.
const BULK_PIXELS: u64 = 4_000_000;

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A page of the network.
    Url(Url),
    /// HTML that the caller brought.
    Html(String),
}

/// Which part of the page is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The window.
    Window,
    /// The whole page.
    FullPage,
    /// The first element that matches a selector.
    Element(String),
    /// A given area.
    Clip(Area),
}

/// A capture that the policy allows, as far as a request alone can tell.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureRequest {
    /// What is to be shown.
    pub source: Source,
    /// The window.
    pub window: Window,
    /// Which part of the page.
    pub part: Part,
    /// What it is turned into.
    pub format: Format,
}

/// Why a request cannot be served. The texts are for the caller and hold no value of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// No JSON object.
    #[error("the body must be one JSON object")]
    Syntax,
    /// A field that does not exist.
    #[error("{} does not exist; the fields are: {}", subject(name.as_deref()), field_names().collect::<Vec<_>>().join(", "))]
    UnknownField {
        /// Its name, if it looks like one: any other text is the caller's and is not repeated.
        name: Option<String>,
    },
    /// A field breaks its rule.
    #[error("{field} {rule}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
}

impl InvalidRequest {
    /// The bounded word for logs, metrics and the problem's type.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Syntax => "invalid_syntax",
            Self::UnknownField { .. } => "unknown_field",
            Self::Field { .. } => "invalid_field",
        }
    }

    /// The field to blame, if it has a name that can be repeated.
    pub fn blamed(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } => Some(field),
            Self::UnknownField { name } => name.as_deref(),
            Self::Syntax => None,
        }
    }

    fn unknown(name: &str) -> Self {
        let short = (1..=MAX_NAME_BYTES).contains(&name.len());
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Self::UnknownField {
            name: (short && plain).then(|| name.to_owned()),
        }
    }
}

fn subject(name: Option<&str>) -> String {
    name.map_or_else(|| "a field of the body".to_owned(), |name| format!("the field {name}"))
}

impl CaptureRequest {
    /// Whether it carries what is one caller's alone (credentials, headers, cookies, scripts to run), and so gets a jail
    /// of its own. It is taken apart field by field, so that whoever adds one has to decide here: none of today's is.
    pub const fn is_personal(&self) -> bool {
        let Self {
            source: Source::Url(_) | Source::Html(_),
            window: _,
            part: _,
            format: _,
        } = self;
        false
    }

    /// Which browsers it may use.
    pub fn lane(&self) -> Lane {
        let whole = self.part == Part::FullPage || matches!(self.format, Format::Pdf(_));
        if whole || self.most_pixels(&CaptureLimits::CEILING) > BULK_PIXELS {
            Lane::Bulk
        } else {
            Lane::Fast
        }
    }

    /// Pixels that the picture can have at most. How large a whole page or an element is, only the page knows: the one
    /// is taken to be as tall as may be, the other as large as the window or as small work may be, and has to be.
    pub fn most_pixels(&self, limits: &CaptureLimits) -> u64 {
        let Viewport { width, height } = self.window.viewport;
        let (width, height) = match &self.part {
            Part::Window | Part::Element(_) => (u64::from(width), u64::from(height)),
            Part::FullPage => (u64::from(width), limits.max_full_page_height.get()),
            Part::Clip(area) => (u64::from(area.size.width), u64::from(area.size.height)),
        };
        let asked = pixels(width, height, self.window.density);
        let most = match &self.part {
            Part::Element(_) => asked.max(BULK_PIXELS),
            Part::Window | Part::FullPage | Part::Clip(_) => asked,
        };
        most.min(limits.max_pixels.get())
    }

    /// What a key must open for it.
    pub fn scope(&self) -> Scope {
        match self.source {
            Source::Url(_) => Scope::CaptureUrl,
            Source::Html(_) => Scope::CaptureHtml,
        }
    }

    /// Parses a body under the policy's limits.
    pub fn parse(body: &[u8], limits: &CaptureLimits) -> Result<Self, InvalidRequest> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(InvalidRequest::Syntax);
        };
        if let Some(name) = fields.keys().find(|name| !field_names().any(|known| known == *name)) {
            return Err(InvalidRequest::unknown(name));
        }
        let mut fields = Fields::new(fields);
        let source = source(&mut fields)?;
        let window = window(&mut fields, limits)?;
        let part = part(&mut fields, window.density, limits)?;
        let format = format::format(&mut fields)?;
        if format.image().is_none() && !matches!(part, Part::Window | Part::FullPage) {
            let field = if matches!(part, Part::Clip(_)) {
                "clip"
            } else {
                "selector"
            };
            return Err(wrong(field, "is only for pictures"));
        }
        let request = Self {
            source,
            window,
            part,
            format,
        };
        request.fits_webp()?;
        Ok(request)
    }

    /// Whether a picture of this size may be made; of parts whose size only the page knows it is asked later.
    pub fn allows(&self, size: Viewport, limits: &CaptureLimits) -> bool {
        let (width, height) = (u64::from(size.width), u64::from(size.height));
        let (wide, tall) = (scaled(width, self.window.density), scaled(height, self.window.density));
        let holds = !matches!(self.format, Format::Webp { .. }) || wide.max(tall) <= WEBP_SIDE;
        let tall_enough = limits.max_full_page_height.get().max(limits.max_height.get());
        holds && height <= tall_enough && pixels(width, height, self.window.density) <= limits.max_pixels.get()
    }

    /// Whether an element of this size is what the capture was let in with. It has its place in a lane, its share and its
    /// memory before the page is asked how large the element is.
    pub fn reckoned(&self, size: Viewport, limits: &CaptureLimits) -> bool {
        pixels(u64::from(size.width), u64::from(size.height), self.window.density) <= self.most_pixels(limits)
    }

    fn fits_webp(&self) -> Result<(), InvalidRequest> {
        let size = match &self.part {
            Part::Window => self.window.viewport,
            Part::Clip(area) => area.size,
            Part::FullPage | Part::Element(_) => return Ok(()),
        };
        let longest = scaled(u64::from(size.width.max(size.height)), self.window.density);
        if matches!(self.format, Format::Webp { .. }) && longest > WEBP_SIDE {
            return Err(wrong(
                "format",
                format!("webp holds at most {WEBP_SIDE} pixels to a side"),
            ));
        }
        Ok(())
    }
}

/// Image pixels for so many CSS pixels, rounded up.
fn scaled(css: u64, density: Density) -> u64 {
    (css * u64::from(density.0)).div_ceil(100)
}

fn pixels(width: u64, height: u64, density: Density) -> u64 {
    scaled(width, density).saturating_mul(scaled(height, density))
}

fn source(fields: &mut Fields) -> Result<Source, InvalidRequest> {
    match (fields.take("url"), fields.take("html_content")) {
        (Some(_), Some(_)) => Err(wrong("url", "and html_content exclude each other")),
        (None, None) => Err(wrong("url", "or html_content is required")),
        (Some(Value::String(text)), None) => page_url(&text).map(Source::Url),
        (Some(_), None) => Err(wrong("url", "must be a string")),
        (None, Some(Value::String(html))) => {
            if html.is_empty() {
                Err(wrong("html_content", "must not be empty"))
            } else {
                Ok(Source::Html(html))
            }
        }
        (None, Some(_)) => Err(wrong("html_content", "must be a string")),
    }
}

fn page_url(text: &str) -> Result<Url, InvalidRequest> {
    let invalid = |rule: &str| wrong("url", rule);
    if text.len() > MAX_URL_BYTES {
        return Err(invalid("must have at most 8192 bytes"));
    }
    let url = Url::parse(text).map_err(|_| invalid("must be an absolute URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must begin with http:// or https://"));
    }
    if !url.has_host() {
        return Err(invalid("must have a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must not carry a user name or password"));
    }
    Ok(url)
}

fn window(fields: &mut Fields, limits: &CaptureLimits) -> Result<Window, InvalidRequest> {
    let width = side(fields, "window_width", DEFAULT_WIDTH, limits.max_width.get())?;
    let height = side(fields, "window_height", DEFAULT_HEIGHT, limits.max_height.get())?;
    let density = density(fields)?;
    let max = limits.max_pixels.get();
    if pixels(u64::from(width), u64::from(height), density) > max {
        let rule = format!("times window_height, at this pixel_density, must be at most {max} pixels");
        return Err(wrong("window_width", rule));
    }
    let viewport = Viewport { width, height };
    Ok(Window { viewport, density })
}

fn side(fields: &mut Fields, field: &'static str, default: u32, max: u64) -> Result<u32, InvalidRequest> {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    Ok(fields.whole(field, 1, max)?.unwrap_or(default.min(max)))
}

/// In quarters: so small a step that every screen there is has its own, and a picture's size stays predictable.
fn density(fields: &mut Fields) -> Result<Density, InvalidRequest> {
    const STEPS: [(f64, u16); 9] = [
        (1.0, 100),
        (1.25, 125),
        (1.5, 150),
        (1.75, 175),
        (2.0, 200),
        (2.25, 225),
        (2.5, 250),
        (2.75, 275),
        (3.0, 300),
    ];
    let rule = || wrong("pixel_density", "must be a number from 1 to 3 in steps of 0.25");
    let Some(number) = fields.number("pixel_density", 1.0, 3.0).map_err(|_| rule())? else {
        return Ok(Density::ONE);
    };
    let step = STEPS.iter().find(|(step, _)| (step - number).abs() < f64::EPSILON);
    step.map(|(_, hundredths)| Density(*hundredths)).ok_or_else(rule)
}

fn part(fields: &mut Fields, density: Density, limits: &CaptureLimits) -> Result<Part, InvalidRequest> {
    let full_page = fields.flag("full_page")?.unwrap_or(false);
    let selector = fields.text("selector", MAX_SELECTOR_BYTES)?;
    let clip = fields
        .take("clip")
        .map(|clip| area(clip, density, limits))
        .transpose()?;
    match (full_page, selector, clip) {
        (false, None, None) => Ok(Part::Window),
        (true, None, None) => Ok(Part::FullPage),
        (false, Some(selector), None) => Ok(Part::Element(selector)),
        (false, None, Some(area)) => Ok(Part::Clip(area)),
        (_, Some(_), _) => Err(wrong("selector", "excludes full_page and clip")),
        (true, None, Some(_)) => Err(wrong("clip", "excludes full_page")),
    }
}

fn area(clip: Value, density: Density, limits: &CaptureLimits) -> Result<Area, InvalidRequest> {
    let rule = |detail: String| wrong("clip", detail);
    let Value::Object(mut fields) = clip else {
        return Err(rule("must be an object of x, y, width and height".into()));
    };
    let (wide, tall) = (limits.max_width.get(), limits.max_full_page_height.get());
    let mut read = |name: &str, least: u64, most: u64| {
        let number = fields.remove(name).and_then(|value| value.as_u64());
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| rule(format!("must have {name} as a whole number from {least} to {most}")))
    };
    let (x, y) = (read("x", 0, wide)?, read("y", 0, tall)?);
    let size = Viewport {
        width: read("width", 1, wide)?,
        height: read("height", 1, tall)?,
    };
    if !fields.is_empty() {
        return Err(rule("must have nothing but x, y, width and height".into()));
    }
    if pixels(u64::from(size.width), u64::from(size.height), density) > limits.max_pixels.get() {
        return Err(rule(format!("must have at most {} pixels", limits.max_pixels.get())));
    }
    Ok(Area { x, y, size })
}

#[cfg(test)]
mod tests;
