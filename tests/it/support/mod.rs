//! What the scenarios share: a real server behind in-memory pipes, and clients that are written without ours.

pub(crate) mod broken;
pub(crate) mod client;
pub(crate) mod folder;
pub(crate) mod mortal;
pub(crate) mod pipe;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod story;
pub(crate) mod wire;

pub(crate) use broken::Breakable;
pub(crate) use client::{Client, Sse, SseEvent};
pub(crate) use folder::Folder;
pub(crate) use server::{TestServer, unmetered};
pub(crate) use story::Story;
