//! Tests that take something away from the node or the operator, or that measure. They run one by one, with nothing else.

mod children;
mod figures;
mod node;
mod operator;
mod replicas;
