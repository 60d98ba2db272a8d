//! Steerage holds LLM generations as durable sessions: any client can stream one, lose it, pick it up again at the
//! exact event, and steer it, approve its tools or stop it while it runs.
//!
//! The modules are listed by floor, lowest first. A file imports lower floors and its own folder, nothing else;
//! `tests/it/tidy.rs` enforces it.

// Floor 0: words.
pub mod command;
pub mod digest;
pub mod env;
pub mod event;
pub mod id;
pub mod spec;

// Floor 1: mechanisms.
pub mod fetch;
pub mod frame;
pub mod log;
pub mod sse;

// Floor 2: ports and their adapters.
pub mod dialect;
pub mod provider;
pub mod store;
pub mod tool;

// Floor 3: one session.
pub mod session;

// Floor 4: the sessions alive here.
pub mod registry;

// Floor 5: doors.
pub mod http;

// Floor 6: the roof.
pub mod config;
pub mod server;

pub use config::Config;
pub use server::Server;
