//! Steerage holds LLM generations as durable sessions: any client can stream one, lose it, pick it up again at the
//! exact event, and steer it, approve its tools or stop it while it runs.
//!
//! The modules are listed by floor, lowest first. A file imports lower floors and its own folder, nothing else;
//! `tests/it/tidy.rs` enforces it.

// Words, each knowing only those before it.
pub mod crash;
pub mod digest;
pub mod id;
pub mod spec;

pub mod command;
pub mod env;

pub mod event;

// Mechanisms.
pub mod auth;
pub mod fetch;
pub mod frame;
pub mod limit;
pub mod metrics;
pub mod openai;
pub mod sse;
pub mod trace;

pub mod log;

// Ports and their adapters.
pub mod dialect;
pub mod provider;
pub mod store;
pub mod tool;

// One session.
pub mod session;

// The sessions alive here.
pub mod registry;

// Doors.
pub mod http;

// The roof.
pub mod config;

pub mod server;
pub mod telemetry;

pub use config::Config;
pub use server::Server;
