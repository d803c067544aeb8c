//! What makes a pass happen.

pub mod controller;
pub mod queue;
