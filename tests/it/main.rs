//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod approvals;
mod badinput;
mod badsocket;
mod basics;
mod bounds;
mod commands;
mod machine;
