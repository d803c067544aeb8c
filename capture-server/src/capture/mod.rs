//! The capture rooms: from a parsed request to a picture or to the one cause why there is none.
//!
//! `request` parses, `engine` walks, `pool` and `link` hold the browsers' jails, `wait` says when a page is ready,
//! `verdict` says who is to blame, `output` checks what the browser made.

pub mod engine;
pub mod link;
pub mod output;
pub mod pool;
pub mod request;
pub mod verdict;
pub mod wait;

pub use verdict::CaptureError;

/// Where a capture stands; part of every timeout's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for a slot.
    Queue,
    /// Waiting for a browser.
    Browser,
    /// Asking for the document.
    Navigate,
    /// Loading the page.
    Load,
    /// Making the picture.
    Render,
}

impl Phase {
    /// The public word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Browser => "browser",
            Self::Navigate => "navigate",
            Self::Load => "load",
            Self::Render => "render",
        }
    }
}
