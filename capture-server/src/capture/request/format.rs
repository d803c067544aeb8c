//! What the page is turned into: picture, print or markup, each with its options.
//!
//! In: the fields. Out: a [`Format`]. An option of another format is refused, not ignored. Must not: know what a browser
//! makes itself and what is made of that later (`capture::encode` does).

use super::fields::{Fields, wrong};
use super::{InvalidRequest, print};
use crate::browser::{ImageFormat, Paper};

const DEFAULT_QUALITY: u8 = 80;

/// What is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Lossless; `small` costs more time and fewer bytes.
    Png {
        /// Whether it is encoded for size.
        small: bool,
    },
    /// Lossy, with a quality of 1 to 100.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
    /// Lossy with a quality of 1 to 100, or lossless.
    Webp {
        /// `None`: lossless.
        quality: Option<u8>,
    },
    /// A printed document.
    Pdf(Box<Paper>),
    /// The markup as it stands after loading.
    Html,
}

impl Format {
    /// What the browser has to make for it, if that is a picture.
    pub fn image(&self) -> Option<ImageFormat> {
        match self {
            Self::Png { .. } | Self::Webp { .. } => Some(ImageFormat::Png),
            Self::Jpeg { quality } => Some(ImageFormat::Jpeg { quality: *quality }),
            Self::Pdf(_) | Self::Html => None,
        }
    }

    /// The answer's media type.
    pub const fn media_type(&self) -> &'static str {
        match self {
            Self::Png { .. } => "image/png",
            Self::Jpeg { .. } => "image/jpeg",
            Self::Webp { .. } => "image/webp",
            Self::Pdf(_) => "application/pdf",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Png,
    Jpeg,
    Webp,
    Pdf,
    Html,
}

/// Reads the format and all of its options.
pub fn format(fields: &mut Fields) -> Result<Format, InvalidRequest> {
    let kinds = [
        ("png", Kind::Png),
        ("jpeg", Kind::Jpeg),
        ("webp", Kind::Webp),
        ("pdf", Kind::Pdf),
        ("html", Kind::Html),
    ];
    let kind = fields.word("format", &kinds)?.unwrap_or(Kind::Png);
    let format = match kind {
        Kind::Png => Format::Png {
            small: fields
                .word("png_compression", &[("fast", false), ("small", true)])?
                .unwrap_or(false),
        },
        Kind::Jpeg => Format::Jpeg {
            quality: quality(fields)?.unwrap_or(DEFAULT_QUALITY),
        },
        Kind::Webp => webp(fields)?,
        Kind::Pdf => Format::Pdf(Box::new(print::paper(fields)?)),
        Kind::Html => Format::Html,
    };
    fields.absent(&["png_compression"], "is only for format png")?;
    fields.absent(&["quality"], "is only for format jpeg and lossy webp")?;
    fields.absent(&["lossless"], "is only for format webp")?;
    fields.absent(&print::FIELDS, "is only for format pdf")?;
    Ok(format)
}

fn webp(fields: &mut Fields) -> Result<Format, InvalidRequest> {
    let lossless = fields.flag("lossless")?.unwrap_or(false);
    let quality = if lossless {
        None
    } else {
        Some(quality(fields)?.unwrap_or(DEFAULT_QUALITY))
    };
    Ok(Format::Webp { quality })
}

fn quality(fields: &mut Fields) -> Result<Option<u8>, InvalidRequest> {
    let number = fields.whole("quality", 1, 100)?;
    number
        .map(|number| u8::try_from(number).map_err(|_| wrong("quality", "must be a whole number from 1 to 100")))
        .transpose()
}
