//! The browser driver: what the engine may ask of a browser, in our own words.
//!
//! In: the two ends of a CDP pipe that the jailer handed over. Out: a [`Page`] that can be prepared, navigated,
//! measured and photographed, and typed [`DriverError`]s. Must not: open sockets, start processes, decide about
//! addresses (the egress room does), or put a page's own text into an error.

pub mod client;
pub mod commands;
pub mod events;
pub mod page;
pub mod shot;
pub mod strays;
mod tally;
pub mod wire;

pub use client::Client;
pub use events::Event;
pub use page::{Browser, Events, Navigated, Page};
pub use shot::{Area, Density, Element, ImageFormat, Paper, Shot, Viewport, Window};
pub use strays::Strays;
pub use wire::{Frame, FrameSink, FrameSource, WireError};

/// What can go wrong between us and the browser. No variant carries text that a page could have chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The pipe ended: the browser is gone.
    #[error("the browser closed its pipe")]
    Closed,
    /// A frame broke the rules of the wire: it is no JSON.
    #[error("the browser sent a malformed message")]
    Frame,
    /// The browser's answer to a command is longer than the wire takes. It is gone; everything else goes on.
    #[error("the browser's answer to {method} is too long")]
    Oversized {
        /// The CDP method whose answer it was.
        method: &'static str,
    },
    /// The browser refused a command.
    #[error("the browser refused {method} with code {code}")]
    Rejected {
        /// The CDP method that was refused.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
    },
    /// The browser answered a command with something that does not fit its type.
    #[error("the browser's answer to {method} could not be understood")]
    Protocol {
        /// The CDP method whose answer was not understood.
        method: &'static str,
    },
}

impl DriverError {
    /// The bounded word for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Frame => "frame",
            Self::Oversized { .. } => "oversized",
            Self::Rejected { .. } => "rejected",
            Self::Protocol { .. } => "protocol",
        }
    }
}
