//! The Responses API of OpenAI: a turn of a run is one response, told in numbered events.

pub mod id;

pub use id::{ItemId, ItemKind, ResponseId};
