//! Checks that the browser made what was asked for: kind, size in bytes, size in pixels.
//!
//! In: bytes from the browser (a hostile page may have taken it over). Out: nothing, or the check that failed.
//! Must not: decode a picture; the first bytes say enough, and a decoder is one more thing to attack.

use std::ops::RangeInclusive;

use super::CaptureError;
use crate::browser::{Density, ImageFormat, Viewport};

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG_MAGIC: &[u8] = b"\xff\xd8";
const PDF_MAGIC: &[u8] = b"%PDF-";

/// The size that a picture must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// In CSS pixels.
    pub size: Viewport,
    /// Image pixels for each of them.
    pub density: Density,
}

impl Expected {
    fn holds(&self, (width, height): (u32, u32)) -> bool {
        sides(self.size.width, self.density).contains(&width) && sides(self.size.height, self.density).contains(&height)
    }
}

/// How many image pixels a side may have: exactly so many, or, where that is no whole number, either neighbour.
fn sides(css: u32, density: Density) -> RangeInclusive<u32> {
    let hundredths = u64::from(css) * u64::from(density.0);
    let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    whole(hundredths / 100)..=whole(hundredths.div_ceil(100))
}

/// Checks a picture; `max_bytes` is the policy's.
pub fn picture(bytes: &[u8], format: ImageFormat, expected: Expected, max_bytes: u64) -> Result<(), CaptureError> {
    bounded(bytes, max_bytes)?;
    let size = match format {
        ImageFormat::Png => png_size(bytes),
        ImageFormat::Jpeg { .. } => jpeg_size(bytes),
    };
    if size.is_some_and(|size| expected.holds(size)) {
        Ok(())
    } else {
        Err(CaptureError::OutputInvalid)
    }
}

/// Checks a print.
pub fn print(bytes: &[u8], max_bytes: u64) -> Result<(), CaptureError> {
    bounded(bytes, max_bytes)?;
    if bytes.starts_with(PDF_MAGIC) {
        Ok(())
    } else {
        Err(CaptureError::OutputInvalid)
    }
}

/// Checks the number of bytes alone.
pub fn bounded(bytes: &[u8], max_bytes: u64) -> Result<(), CaptureError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        Err(CaptureError::OutputTooLarge)
    } else {
        Ok(())
    }
}

/// Width and height stand in the first chunk, which begins right after the magic.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.starts_with(PNG_MAGIC) && bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((number(16)?, number(20)?))
}

/// Width and height stand in the frame header; the segments before it say how long they are.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    bytes.starts_with(JPEG_MAGIC).then_some(())?;
    let mut at = 2;
    loop {
        let [0xff, marker] = *bytes.get(at..at + 2)? else {
            return None;
        };
        // Frame headers are C0 to CF, less tables (C4), an extension (C8) and arithmetic conditioning (CC).
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return Some((u32::from(number(at + 7)?), u32::from(number(at + 5)?)));
        }
        at += 2 + usize::from(number(at + 2)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected {
        size: Viewport { width: 3, height: 2 },
        density: Density::ONE,
    };

    fn png() -> Vec<u8> {
        [PNG_MAGIC, b"\0\0\0\x0dIHDR\0\0\0\x03\0\0\0\x02", b"rest"].concat()
    }

    fn jpeg() -> Vec<u8> {
        let segment: &[u8] = b"\xff\xe0\0\x04ab";
        [JPEG_MAGIC, segment, b"\xff\xc0\0\x0b\x08\0\x02\0\x03rest"].concat()
    }

    #[test]
    fn a_picture_of_the_asked_kind_and_size_passes_and_any_other_does_not() {
        let (as_png, as_jpeg) = (ImageFormat::Png, ImageFormat::Jpeg { quality: 80 });
        assert_eq!(picture(&png(), as_png, EXPECTED, 100), Ok(()));
        assert_eq!(picture(&jpeg(), as_jpeg, EXPECTED, 100), Ok(()));
        let other = Expected {
            size: Viewport { width: 2, height: 3 },
            ..EXPECTED
        };
        for (bytes, format, expected) in [
            (png(), as_png, other),
            (jpeg(), as_jpeg, other),
            (png(), as_jpeg, EXPECTED),
            (jpeg(), as_png, EXPECTED),
            (b"<html>".to_vec(), as_png, EXPECTED),
            (png()[..18].to_vec(), as_png, EXPECTED),
            (jpeg()[..9].to_vec(), as_jpeg, EXPECTED),
            (b"\xff\xd8\xff\xe0\0\0".to_vec(), as_jpeg, EXPECTED),
        ] {
            let checked = picture(&bytes, format, expected, 100);
            assert_eq!(checked, Err(CaptureError::OutputInvalid), "{bytes:?} {format:?}");
        }
    }

    #[test]
    fn density_counts_and_only_a_broken_pixel_may_go_either_way() {
        assert_eq!(sides(3, Density(200)), 6..=6);
        assert_eq!(sides(3, Density(150)), 4..=5);
        assert_eq!(sides(4, Density(150)), 6..=6);
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let checked = picture(&png(), ImageFormat::Png, EXPECTED, 8);
        assert_eq!(checked, Err(CaptureError::OutputTooLarge));
        assert_eq!(print(b"%PDF-1.4", 7), Err(CaptureError::OutputTooLarge));
    }

    #[test]
    fn a_print_is_one() {
        assert_eq!(print(b"%PDF-1.4", 100), Ok(()));
        assert_eq!(print(&png(), 100), Err(CaptureError::OutputInvalid));
    }
}
