//! The Responses API of OpenAI: a turn of a run is one response, told in numbered events.
//!
//! One stream is one response to its reader, and a run may be several: it is steered, or it waits for a person or for the
//! client. Which frame belongs to which turn, and every event of a turn, depends on the frames alone and never on how
//! they were batched: the number of an event is a cursor. The other way, `request` reads
//! what a client asks for.

pub mod id;
mod items;
pub mod request;
mod responses;
pub mod wire;

pub use super::Chunks;
pub use id::{ItemId, ItemKind, ResponseId};
pub use items::Items;
pub use responses::{Failure, Responses, Waiting};
