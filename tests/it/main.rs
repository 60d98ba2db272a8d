//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod basics;
mod cancel;
mod machine;
mod openapi;
mod provider;
mod real_model;
mod resume;
mod stores;
mod tidy;
