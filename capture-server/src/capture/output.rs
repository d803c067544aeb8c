//! Checks that the browser made the picture that was asked for: kind, size in bytes, size in pixels.
//!
//! In: bytes from the browser (a hostile page may have taken it over). Out: nothing, or the check that failed.
//! Must not: decode the picture; the first bytes say enough, and a decoder is one more thing to attack.

use super::CaptureError;
use crate::browser::{ImageFormat, Viewport};

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG_MAGIC: &[u8] = b"\xff\xd8\xff";

/// Media type of a format.
pub const fn media_type(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "image/png",
        ImageFormat::Jpeg { .. } => "image/jpeg",
    }
}

/// Checks a picture; `max_bytes` is the policy's.
pub fn check(bytes: &[u8], format: ImageFormat, size: Viewport, max_bytes: u64) -> Result<(), CaptureError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(CaptureError::OutputTooLarge);
    }
    let good = match format {
        ImageFormat::Png => bytes.starts_with(PNG_MAGIC) && png_size(bytes) == Some(size),
        ImageFormat::Jpeg { .. } => bytes.starts_with(JPEG_MAGIC),
    };
    if good { Ok(()) } else { Err(CaptureError::OutputInvalid) }
}

/// Width and height stand in the first chunk, which begins right after the magic.
fn png_size(bytes: &[u8]) -> Option<Viewport> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some(Viewport {
        width: number(16)?,
        height: number(20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Viewport = Viewport { width: 3, height: 2 };

    fn png() -> Vec<u8> {
        [PNG_MAGIC, b"\0\0\0\x0dIHDR\0\0\0\x03\0\0\0\x02", b"rest"].concat()
    }

    #[test]
    fn a_png_of_the_asked_size_passes_and_any_other_does_not() {
        assert_eq!(check(&png(), ImageFormat::Png, SIZE, 100), Ok(()));
        let other = Viewport { width: 2, height: 3 };
        assert_eq!(
            check(&png(), ImageFormat::Png, other, 100),
            Err(CaptureError::OutputInvalid)
        );
        assert_eq!(
            check(b"<html>", ImageFormat::Png, SIZE, 100),
            Err(CaptureError::OutputInvalid)
        );
        assert_eq!(
            check(&png()[..18], ImageFormat::Png, SIZE, 100),
            Err(CaptureError::OutputInvalid)
        );
    }

    #[test]
    fn the_kind_must_be_the_asked_one() {
        let jpeg = ImageFormat::Jpeg { quality: 80 };
        assert_eq!(check(b"\xff\xd8\xff\xe0", jpeg, SIZE, 100), Ok(()));
        assert_eq!(check(&png(), jpeg, SIZE, 100), Err(CaptureError::OutputInvalid));
    }

    #[test]
    fn too_many_bytes_are_refused() {
        assert_eq!(
            check(&png(), ImageFormat::Png, SIZE, 8),
            Err(CaptureError::OutputTooLarge)
        );
    }
}
