//! The pages of the benchmark, and what their pictures must look like.
//!
//! Four pages: `trivial` (eight elements), `article` (some 680 elements, twelve images, CSS and JavaScript), `long`
//! (32 images, taken as a full page) and `demo`, the demo site's page of scripts. All are made here, the same each time,
//! and served without caching. Must not: fetch anything, or let a page depend on clock or chance.

mod build;
mod serve;

pub use serve::{ENDLESS, MIX, SILENT, Site};

use serde::{Deserialize, Serialize};

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// Eight elements.
    Trivial,
    /// What a news site's article weighs.
    Article,
    /// Many screens of images.
    Long,
    /// The demo site's `/scripts`.
    Demo,
}

/// A pixel whose colour is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top, or from the end.
    pub y: u32,
    /// Whether `y` counts from the picture's end.
    pub from_end: bool,
    /// Red, green, blue.
    pub colour: [u8; 3],
}

/// How high a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Height {
    /// So many pixels.
    Exactly(u32),
    /// At least so many: the fonts of the machine decide.
    AtLeast(u32),
}

impl Height {
    /// Whether a picture's height is right.
    pub fn fits(self, height: u32) -> bool {
        match self {
            Self::Exactly(expected) => height == expected,
            Self::AtLeast(least) => height >= least,
        }
    }
}

/// Set by the page's own script once it has run to its end.
const SCRIPT_RAN: [u8; 3] = [0, 160, 80];
/// Stands in the corner of every image.
const IMAGE_CAME: [u8; 3] = [200, 30, 60];
/// Stands at the end of a page.
const PAGE_ENDS: [u8; 3] = [20, 60, 220];
/// The demo site's background.
const PAPER: [u8; 3] = [0xf6, 0xf7, 0xfb];

/// Height of `long` in CSS pixels.
const LONG_HEIGHT: u32 = 11_887;

impl Page {
    /// The word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trivial => "trivial",
            Self::Article => "article",
            Self::Long => "long",
            Self::Demo => "demo",
        }
    }

    /// Where the site serves it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Trivial => "/trivial",
            Self::Article => "/article",
            Self::Long => "/long",
            Self::Demo => "/scripts",
        }
    }

    /// Height of the whole page at 1280 pixels' width.
    pub const fn full_height(self) -> Height {
        match self {
            Self::Trivial => Height::Exactly(720),
            Self::Article => Height::AtLeast(5_000),
            Self::Long => Height::Exactly(LONG_HEIGHT),
            Self::Demo => Height::AtLeast(800),
        }
    }

    /// Pixels that prove that the page was complete: its images there, its script run, its end reached.
    pub fn marks(self, full_page: bool) -> Vec<Mark> {
        let at = |x, y, from_end, colour| Mark { x, y, from_end, colour };
        let mut marks = match self {
            Self::Trivial => vec![at(10, 10, false, IMAGE_CAME), at(10, 10, true, PAGE_ENDS)],
            Self::Article => vec![at(1270, 10, false, SCRIPT_RAN), at(44, 44, false, IMAGE_CAME)],
            Self::Long => vec![at(44, 24, false, IMAGE_CAME)],
            Self::Demo => vec![at(5, 5, true, PAPER)],
        };
        if full_page && self == Self::Long {
            marks.push(at(10, 10, true, PAGE_ENDS));
        }
        marks
    }

    /// Colours that a sample of the picture has at least: a blank one has few.
    pub const fn least_colours(self) -> usize {
        match self {
            Self::Trivial => 3,
            Self::Article | Self::Long => 1_000,
            Self::Demo => 200,
        }
    }
}
