//! How much at once: the queue in front of the browsers.

pub mod admission;
pub mod queue;
