//! How much at once: the queue in front of the browsers, and the answers that are not read yet.

pub mod admission;
pub mod answers;
pub mod queue;
