//! A fast wrong picture is a failure: decodes every different picture and looks at its pixels.
//!
//! In: encoded pictures as they come. Out: what they look like, or what is wrong with one. Decoding waits until the
//! clock has stopped. Must not: know how a picture was made.

use std::io::Cursor;

use bytes::Bytes;
use image::{ImageFormat, ImageReader, RgbImage};
use sha2::{Digest as _, Sha256};

use crate::protocol::{Format, Job, Pixels};
use crate::site::{Height, Mark};

/// How far a lossy format may be off, of 255, in the middle of a mark.
const LOSS: u8 = 16;
/// Pages are made to look the same each time. More different pictures than this are none of theirs.
const MAX_DIFFERENT: usize = 32;

/// The different pictures of one cell.
#[derive(Debug, Default)]
pub struct Pictures {
    kept: Vec<Bytes>,
    overflow: bool,
}

impl Pictures {
    /// Keeps a picture unless it is there already.
    pub fn keep(&mut self, picture: Bytes) {
        if self.kept.contains(&picture) {
            return;
        }
        if self.kept.len() < MAX_DIFFERENT {
            self.kept.push(picture);
        } else {
            self.overflow = true;
        }
    }

    /// Looks at all of them.
    pub fn look(&self, job: &Job) -> Result<Vec<Pixels>, String> {
        if self.overflow {
            return Err(format!("more than {MAX_DIFFERENT} different pictures of one page"));
        }
        let mut pixels = self
            .kept
            .iter()
            .map(|picture| look(picture, job))
            .collect::<Result<Vec<_>, _>>()?;
        pixels.sort();
        pixels.dedup_by(|a, b| a.digest == b.digest);
        Ok(pixels)
    }
}

fn look(picture: &[u8], job: &Job) -> Result<Pixels, String> {
    let name = job.format.name();
    let format = match job.format {
        Format::Png | Format::PngSmall => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    };
    let reader = ImageReader::with_format(Cursor::new(picture), format);
    let image = reader
        .decode()
        .map_err(|error| format!("not a {name}: {error}"))?
        .to_rgb8();
    judge(&image, job)?;
    let mut hash = Sha256::new();
    hash.update(image.width().to_be_bytes());
    hash.update(image.height().to_be_bytes());
    // Two encoders of a lossy format lose different things: of those the marks and the size are what is compared.
    if job.format.is_lossless() {
        hash.update(image.as_raw());
    } else {
        hash.update(name);
    }
    Ok(Pixels {
        digest: hex::encode(hash.finalize()),
        bytes: picture.len() as u64,
    })
}

fn judge(image: &RgbImage, job: &Job) -> Result<(), String> {
    let name = job.page.name();
    let expected = if job.full_page {
        job.page.full_height()
    } else {
        Height::Exactly(job.height)
    };
    if image.width() != job.width || !expected.fits(image.height()) {
        let (width, height) = image.dimensions();
        return Err(format!("{name} has {width}x{height} pixels"));
    }
    for Mark { x, y, from_end, colour } in job.page.marks(job.full_page) {
        let y = if from_end { image.height().saturating_sub(y) } else { y };
        let found = image.get_pixel_checked(x, y).map(|pixel| pixel.0);
        if !found.is_some_and(|found| alike(found, colour, job.format)) {
            return Err(format!("{name} has {found:?} instead of {colour:?} at {x},{y}"));
        }
    }
    let mut colours: Vec<[u8; 3]> = image.pixels().step_by(61).map(|pixel| pixel.0).collect();
    colours.sort_unstable();
    colours.dedup();
    let least = job.page.least_colours();
    if colours.len() < least {
        return Err(format!("{name} has only {} colours", colours.len()));
    }
    Ok(())
}

/// Whether a pixel has a colour, as exactly as its format keeps it.
fn alike(found: [u8; 3], colour: [u8; 3], format: Format) -> bool {
    let most = if format.is_lossless() { 0 } else { LOSS };
    found.iter().zip(colour).all(|(one, other)| one.abs_diff(other) <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Page;
    use image::Rgb;

    fn job() -> Job {
        Job {
            page: Page::Trivial,
            url: String::new(),
            width: 1280,
            height: 720,
            full_page: false,
            format: Format::Png,
            of_another: false,
        }
    }

    fn drawn(change: impl FnOnce(&mut RgbImage)) -> Bytes {
        let mut image = RgbImage::from_fn(1280, 720, |x, y| {
            #[allow(clippy::cast_possible_truncation)] // a pattern
            Rgb([(x / 8) as u8, (y / 4) as u8, 7])
        });
        for mark in Page::Trivial.marks(false) {
            let y = if mark.from_end { 720 - mark.y } else { mark.y };
            image.put_pixel(mark.x, y, Rgb(mark.colour));
        }
        change(&mut image);
        let mut encoded = Cursor::new(Vec::new());
        image.write_to(&mut encoded, ImageFormat::Png).unwrap();
        encoded.into_inner().into()
    }

    #[test]
    fn a_right_picture_has_a_digest_of_its_pixels() {
        let (one, other) = (drawn(|_| {}), drawn(|image| image.put_pixel(640, 360, Rgb([1, 2, 3]))));
        let mut pictures = Pictures::default();
        for picture in [&one, &one, &other] {
            pictures.keep(picture.clone());
        }
        let pixels = pictures.look(&job()).unwrap();
        assert_eq!(pixels.len(), 2);
        assert_ne!(pixels[0].digest, pixels[1].digest);
    }

    #[test]
    fn a_lossy_picture_may_be_off_by_what_its_format_loses_and_no_more() {
        let colour = [200, 100, 50];
        assert!(alike([201, 99, 60], colour, Format::Jpeg) && !alike([201, 99, 60], colour, Format::PngSmall));
        assert!(!alike([200, 130, 50], colour, Format::Webp));
    }

    #[test]
    fn a_picture_of_a_wrong_size_or_without_a_mark_or_empty_is_refused() {
        let mark = Page::Trivial.marks(false)[0];
        let without = drawn(|image| image.put_pixel(mark.x, mark.y, Rgb([9, 9, 9])));
        let blank = drawn(|image| image.pixels_mut().for_each(|pixel| *pixel = Rgb(mark.colour)));
        let other_size = Job { width: 1281, ..job() };
        for (picture, job) in [(without, job()), (blank, job()), (drawn(|_| {}), other_size)] {
            let mut pictures = Pictures::default();
            pictures.keep(picture);
            assert!(pictures.look(&job).is_err());
        }
        let mut pictures = Pictures::default();
        pictures.keep(Bytes::from_static(b"no picture"));
        assert!(pictures.look(&job()).is_err());
    }
}
