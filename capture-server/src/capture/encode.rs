//! Encodes a picture anew, away from the browser, whose one main thread would stand still meanwhile.
//!
//! In: a PNG that `output` has checked (so its pixels are bounded). Out: a smaller PNG, or WebP. Runs on the blocking
//! threads, where work that has begun cannot be called back: it holds its capture's place until it ends, also when nobody
//! waits for it any more. Must not: trust the PNG beyond its header; a decoder's failure is a broken picture, never ours.

use std::io::Cursor;

use png::{BitDepth, ColorType, Compression};

use super::CaptureError;
use super::request::Format;

/// Effort of the WebP encoder, 0 to 6: at 2 it is a third faster than the browser's, for 4 % more bytes.
const WEBP_METHOD: i32 = 2;
/// The same for lossless pictures: at 0 they are smaller than the browser's own PNG for half of its time.
const WEBP_LOSSLESS_METHOD: i32 = 0;

struct Pixels {
    width: u32,
    height: u32,
    color: ColorType,
    bytes: Vec<u8>,
}

/// Makes what `format` asks for out of the browser's PNG; the PNG itself if that is it. `place` is dropped when the work
/// is done.
pub async fn anew(format: &Format, png: Vec<u8>, place: impl Send + 'static) -> Result<Vec<u8>, CaptureError> {
    let work: fn(&Pixels, Option<u8>) -> Option<Vec<u8>> = match format {
        Format::Png { small: true } => |pixels, _| small_png(pixels),
        Format::Webp { .. } => webp,
        Format::Png { small: false } | Format::Jpeg { .. } | Format::Pdf(_) | Format::Html => return Ok(png),
    };
    let quality = match format {
        Format::Webp { quality } => *quality,
        _ => None,
    };
    let encoded = tokio::task::spawn_blocking(move || {
        let made = decode(&png).and_then(|pixels| work(&pixels, quality));
        drop(place);
        made
    })
    .await;
    encoded.ok().flatten().ok_or(CaptureError::OutputInvalid)
}

fn decode(png: &[u8]) -> Option<Pixels> {
    let mut reader = png::Decoder::new(Cursor::new(png)).read_info().ok()?;
    let mut bytes = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut bytes).ok()?;
    bytes.truncate(frame.buffer_size());
    let plain = frame.bit_depth == BitDepth::Eight && matches!(frame.color_type, ColorType::Rgb | ColorType::Rgba);
    plain.then_some(Pixels {
        width: frame.width,
        height: frame.height,
        color: frame.color_type,
        bytes,
    })
}

fn small_png(pixels: &Pixels) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(pixels.bytes.len() / 4);
    let mut encoder = png::Encoder::new(&mut out, pixels.width, pixels.height);
    encoder.set_color(pixels.color);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels.bytes).ok()?;
    writer.finish().ok()?;
    Some(out)
}

fn webp(pixels: &Pixels, quality: Option<u8>) -> Option<Vec<u8>> {
    let encoder = match pixels.color {
        ColorType::Rgba => webp::Encoder::from_rgba(&pixels.bytes, pixels.width, pixels.height),
        _ => webp::Encoder::from_rgb(&pixels.bytes, pixels.width, pixels.height),
    };
    let mut config = webp::WebPConfig::new().ok()?;
    if let Some(quality) = quality {
        (config.lossless, config.quality, config.method) = (0, f32::from(quality), WEBP_METHOD);
    } else {
        // For lossless pictures the quality is the effort to make them small.
        (config.lossless, config.quality, config.method) = (1, 0.0, WEBP_LOSSLESS_METHOD);
        config.exact = 1;
    }
    encoder.encode_advanced(&config).ok().map(|memory| memory.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with enough in it to be worth compressing.
    fn picture(color: ColorType) -> Pixels {
        let (width, height) = (64, 48);
        let channels = if color == ColorType::Rgba { 4 } else { 3 };
        let bytes = (0..width * height)
            .flat_map(|at: u32| {
                let (x, y) = (at % width, at / width);
                let value = u8::try_from((x * y / 7 + (x ^ y)) % 256).unwrap();
                let pixel = [value, value / 2, 255 - value, 255];
                pixel.into_iter().take(channels)
            })
            .collect();
        Pixels {
            width,
            height,
            color,
            bytes,
        }
    }

    fn fast(pixels: &Pixels) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, pixels.width, pixels.height);
        encoder.set_color(pixels.color);
        encoder.set_compression(Compression::Fastest);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&pixels.bytes).unwrap();
        writer.finish().unwrap();
        out
    }

    fn rgba(bytes: &[u8]) -> image::RgbaImage {
        image::load_from_memory(bytes).unwrap().to_rgba8()
    }

    #[tokio::test]
    async fn a_small_png_and_a_lossless_webp_are_smaller_and_the_same_pixel_for_pixel() {
        for color in [ColorType::Rgb, ColorType::Rgba] {
            let png = fast(&picture(color));
            for format in [Format::Png { small: true }, Format::Webp { quality: None }] {
                let made = anew(&format, png.clone(), ()).await.unwrap();
                assert!(made.len() < png.len(), "{format:?}");
                assert_eq!(rgba(&made), rgba(&png), "{format:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_quality_of_a_lossy_webp_counts() {
        let png = fast(&picture(ColorType::Rgb));
        let mut sizes = Vec::new();
        for quality in [5, 95] {
            let made = anew(&Format::Webp { quality: Some(quality) }, png.clone(), ())
                .await
                .unwrap();
            assert!(made.starts_with(b"RIFF"));
            assert_eq!(rgba(&made).dimensions(), (64, 48));
            sizes.push(made.len());
        }
        assert!(sizes[0] < sizes[1], "{sizes:?}");
    }

    #[tokio::test]
    async fn what_needs_no_work_is_left_as_it_is_and_what_is_no_picture_is_refused() {
        let bytes = b"not a picture".to_vec();
        assert_eq!(
            anew(&Format::Png { small: false }, bytes.clone(), ()).await,
            Ok(bytes.clone())
        );
        let small = anew(&Format::Png { small: true }, bytes, ()).await;
        assert_eq!(small, Err(CaptureError::OutputInvalid));
    }
}
