//! The capture rooms: from a parsed request to a picture or to the one cause why there is none.
//!
//! `request` parses, `engine` walks, `drive` drives the page, `pool` and `link` hold the browsers' jails, `wait` says when a page is ready,
//! `verdict` says who is to blame, `output` checks what the browser made.

mod drive;
mod encode;
pub mod engine;
pub mod link;
pub mod output;
pub mod phase;
pub mod pool;
pub mod request;
pub mod verdict;
pub mod wait;

pub use phase::{Ledger, Phase};
pub use verdict::CaptureError;

/// Which browsers a capture may use and which gate it goes through: large work must not hold small work up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// A window's worth of pixels.
    Fast,
    /// Whole pages and large areas.
    Bulk,
}
