//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod basics;
mod cancel;
mod resume;
mod sim;
