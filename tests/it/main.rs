//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod basics;
mod chat;
mod examples;
