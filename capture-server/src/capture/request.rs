//! Parsing of a capture request: bytes of JSON in, a [`CaptureRequest`] within the policy's bounds out.
//!
//! What parses is servable: every later room can rely on each number and on the URL's form. Errors name the field
//! and the rule, never the caller's value. Must not: judge addresses or ports (the egress room does, on what it
//! really connects to), read a clock, or know HTTP.

use screenshot_policy::policy::CaptureLimits;
use serde_json::{Map, Value};
use url::Url;

use crate::browser::{ImageFormat, Viewport};

/// Every field there is, in the order in which the documentation lists them.
pub const FIELDS: [&str; 7] = [
    "url",
    "html_content",
    "window_width",
    "window_height",
    "full_page",
    "format",
    "quality",
];

/// Longest URL in bytes.
pub const MAX_URL_BYTES: usize = 8192;
const DEFAULT_WIDTH: u32 = 1280;
const DEFAULT_HEIGHT: u32 = 720;
const DEFAULT_QUALITY: u8 = 80;

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A page of the network.
    Url(Url),
    /// HTML that the caller brought.
    Html(String),
}

/// A capture that the policy allows, as far as a request alone can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureRequest {
    /// What is to be shown.
    pub source: Source,
    /// The window.
    pub viewport: Viewport,
    /// Whether the picture has the page's whole height.
    pub full_page: bool,
    /// Encoding.
    pub format: ImageFormat,
}

/// Why a request cannot be served. The texts are for the caller and hold nothing of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// No JSON object.
    #[error("the body must be one JSON object")]
    Syntax,
    /// A field that does not exist. Its name is the caller's text and is not repeated.
    #[error("the body has a field that does not exist; the fields are: {}", FIELDS.join(", "))]
    UnknownField,
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
    fn field(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Field {
            field,
            rule: rule.into(),
        }
    }

    /// The bounded word for logs, metrics and the problem's type.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Syntax => "invalid_syntax",
            Self::UnknownField => "unknown_field",
            Self::Field { .. } => "invalid_field",
        }
    }

    /// The field to blame, if it is one of ours.
    pub const fn blamed(&self) -> Option<&'static str> {
        match self {
            Self::Field { field, .. } => Some(field),
            Self::Syntax | Self::UnknownField => None,
        }
    }
}

impl CaptureRequest {
    /// Parses a body under the policy's limits.
    pub fn parse(body: &[u8], limits: &CaptureLimits) -> Result<Self, InvalidRequest> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return Err(InvalidRequest::Syntax);
        };
        if fields.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            return Err(InvalidRequest::UnknownField);
        }
        let source = source(&mut fields)?;
        let viewport = viewport(&fields, limits)?;
        let full_page = flag(&fields, "full_page")?;
        let format = format(&fields)?;
        Ok(Self {
            source,
            viewport,
            full_page,
            format,
        })
    }
}

fn source(fields: &mut Map<String, Value>) -> Result<Source, InvalidRequest> {
    match (fields.remove("url"), fields.remove("html_content")) {
        (Some(_), Some(_)) => Err(InvalidRequest::field("url", "and html_content exclude each other")),
        (None, None) => Err(InvalidRequest::field("url", "or html_content is required")),
        (Some(Value::String(text)), None) => page_url(&text).map(Source::Url),
        (Some(_), None) => Err(InvalidRequest::field("url", "must be a string")),
        (None, Some(Value::String(html))) => {
            if html.is_empty() {
                Err(InvalidRequest::field("html_content", "must not be empty"))
            } else {
                Ok(Source::Html(html))
            }
        }
        (None, Some(_)) => Err(InvalidRequest::field("html_content", "must be a string")),
    }
}

fn page_url(text: &str) -> Result<Url, InvalidRequest> {
    let invalid = |rule: &str| InvalidRequest::field("url", rule);
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

fn viewport(fields: &Map<String, Value>, limits: &CaptureLimits) -> Result<Viewport, InvalidRequest> {
    let width = size(fields, "window_width", DEFAULT_WIDTH, limits.max_width)?;
    let height = size(fields, "window_height", DEFAULT_HEIGHT, limits.max_height)?;
    let max = limits.max_pixels;
    if u64::from(width) * u64::from(height) > max {
        let rule = format!("times window_height must be at most {max} pixels");
        return Err(InvalidRequest::field("window_width", rule));
    }
    Ok(Viewport { width, height })
}

fn size(fields: &Map<String, Value>, field: &'static str, default: u32, max: u64) -> Result<u32, InvalidRequest> {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    let Some(value) = fields.get(field) else {
        return Ok(default.min(max));
    };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| InvalidRequest::field(field, format!("must be a whole number from 1 to {max}")))
}

fn flag(fields: &Map<String, Value>, field: &'static str) -> Result<bool, InvalidRequest> {
    match fields.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(InvalidRequest::field(field, "must be true or false")),
    }
}

fn format(fields: &Map<String, Value>) -> Result<ImageFormat, InvalidRequest> {
    let quality = match fields.get("quality") {
        None => None,
        Some(value) => {
            let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
            let number = number.filter(|number| (1..=100).contains(number));
            Some(number.ok_or_else(|| InvalidRequest::field("quality", "must be a whole number from 1 to 100"))?)
        }
    };
    match (fields.get("format").map(Value::as_str), quality) {
        (None | Some(Some("png")), None) => Ok(ImageFormat::Png),
        (None | Some(Some("png")), Some(_)) => Err(InvalidRequest::field("quality", "is only for format jpeg")),
        (Some(Some("jpeg")), quality) => Ok(ImageFormat::Jpeg {
            quality: quality.unwrap_or(DEFAULT_QUALITY),
        }),
        (Some(_), _) => Err(InvalidRequest::field("format", "must be png or jpeg")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<CaptureRequest, InvalidRequest> {
        CaptureRequest::parse(body.as_bytes(), &CaptureLimits::DEFAULT)
    }

    #[test]
    fn a_url_alone_gets_every_default() {
        let request = parse(r#"{"url":"https://example.com/a?b"}"#).unwrap();
        assert_eq!(
            request.viewport,
            Viewport {
                width: 1280,
                height: 720
            }
        );
        assert_eq!((request.full_page, request.format), (false, ImageFormat::Png));
        assert_eq!(
            request.source,
            Source::Url(Url::parse("https://example.com/a?b").unwrap())
        );
    }

    #[test]
    fn every_field_is_effective() {
        let body = r#"{"html_content":"<p>","window_width":300,"window_height":200,"full_page":true,"format":"jpeg","quality":7}"#;
        let request = parse(body).unwrap();
        assert_eq!(request.source, Source::Html("<p>".into()));
        assert_eq!(
            request.viewport,
            Viewport {
                width: 300,
                height: 200
            }
        );
        assert_eq!(
            (request.full_page, request.format),
            (true, ImageFormat::Jpeg { quality: 7 })
        );
    }

    #[test]
    fn each_broken_rule_blames_its_field() {
        let table = [
            (r#"{"url":"https://a.example/","html_content":"x"}"#, "url"),
            ("{}", "url"),
            (r#"{"url":7}"#, "url"),
            (r#"{"url":"SECRET"}"#, "url"),
            (r#"{"url":"file:///SECRET"}"#, "url"),
            (r#"{"url":"ftp://SECRET/"}"#, "url"),
            (r#"{"url":"data:text/html,SECRET"}"#, "url"),
            (r#"{"url":"http://SECRET:SECRET@a.example/"}"#, "url"),
            (r#"{"html_content":""}"#, "html_content"),
            (r#"{"html_content":["SECRET"]}"#, "html_content"),
            (r#"{"html_content":"x","window_width":0}"#, "window_width"),
            (r#"{"html_content":"x","window_width":-1}"#, "window_width"),
            (r#"{"html_content":"x","window_width":1.5}"#, "window_width"),
            (r#"{"html_content":"x","window_width":"SECRET"}"#, "window_width"),
            (r#"{"html_content":"x","window_height":99999999999}"#, "window_height"),
            (r#"{"html_content":"x","full_page":"SECRET"}"#, "full_page"),
            (r#"{"html_content":"x","full_page":null}"#, "full_page"),
            (r#"{"html_content":"x","format":"SECRET"}"#, "format"),
            (r#"{"html_content":"x","format":1}"#, "format"),
            (r#"{"html_content":"x","quality":50}"#, "quality"),
            (r#"{"html_content":"x","format":"jpeg","quality":0}"#, "quality"),
            (r#"{"html_content":"x","format":"jpeg","quality":101}"#, "quality"),
        ];
        for (body, field) in table {
            let error = parse(body).unwrap_err();
            assert_eq!(error.blamed(), Some(field), "{body}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_without_repeating_it() {
        let error = parse(r#"{"url":"https://a.example/","SECRET":1}"#).unwrap_err();
        assert_eq!(error, InvalidRequest::UnknownField);
        assert!(!error.to_string().contains("SECRET"));
    }

    #[test]
    fn whatever_is_no_object_is_refused() {
        for body in ["", "[]", "7", "{", "null", r#"{"url":"x"} {}"#] {
            assert_eq!(parse(body).unwrap_err(), InvalidRequest::Syntax, "{body}");
        }
    }

    #[test]
    fn the_area_is_bounded_beside_each_side() {
        let limits = CaptureLimits {
            max_pixels: 1000,
            ..CaptureLimits::DEFAULT
        };
        let wide = br#"{"html_content":"x","window_width":101,"window_height":10}"#;
        assert_eq!(
            CaptureRequest::parse(wide, &limits).unwrap_err().blamed(),
            Some("window_width")
        );
        let fits = br#"{"html_content":"x","window_width":100,"window_height":10}"#;
        assert!(CaptureRequest::parse(fits, &limits).is_ok());
    }
}
