//! The Responses API of OpenAI: a turn of a run is one response, told in numbered events.
//!
//! One stream is one response to its reader, and a run may be several: it is steered, or it waits for a person or for the
//! client. Which frame belongs to which turn, and every event of a turn, depends on the frames alone and never on how
//! they were batched: the number of an event is a cursor.
//!
//! `responses` folds and splits; `turn` is one response, `output` its items and events, `shown` the calls among
//! them, `item` and `settings` their JSON; `calls` knows what has no end yet. `items` is the whole log as items, with
//! what was `brought` along, and `wire` frames events. The other way, `request` reads what
//! a client asks for.

mod brought;
mod calls;
pub mod id;
mod item;
mod items;
mod output;
mod read;
pub mod request;
mod responses;
mod settings;
mod shown;
mod turn;
pub mod wire;

pub use super::Chunks;
pub use id::{ItemId, ItemKind, ResponseId};
pub use items::Items;
pub use responses::{Responses, Waiting};
pub use turn::Failure;
