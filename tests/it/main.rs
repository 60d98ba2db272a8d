//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod basics;
mod machine;
mod provider;
mod real_model;
mod stores;
mod tidy;
