//! An event in its place, read back from the JSON of its frame.

use serde::Deserialize;

use super::{Block, Event};
use crate::{
    env::Millis,
    id::{EventId, Seq},
};

/// An event in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its cursor.
    pub id: EventId,
    /// When it happened; deltas do not say.
    pub at: Option<String>,
    /// The fact.
    pub event: Event,
}

impl Record {
    /// Its position.
    pub fn seq(&self) -> Seq {
        self.id.seq
    }

    /// Reads the JSON of a frame back.
    pub fn decode(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            id: EventId,
            at: Option<String>,
        }
        if is_text_delta(json) {
            let TextDelta { id, block, text, lossy } = serde_json::from_slice(json)?;
            return Ok(Self { id, at: None, event: Event::TextDelta { block, text, lossy } });
        }
        let head: Head = serde_json::from_slice(json)?;
        Ok(Self { id: head.id, at: head.at, event: serde_json::from_slice(json)? })
    }

    /// When it happened, if it says.
    pub fn at_millis(&self) -> Option<Millis> {
        parse_rfc3339(self.at.as_deref()?)
    }
}

/// What most of a log is. It is read in one pass, where an event of any type takes two and a copy of its fields: a session
/// that comes back into memory is read whole.
#[derive(Deserialize)]
struct TextDelta {
    id: EventId,
    block: Block,
    text: String,
    #[serde(default)]
    lossy: bool,
}

/// Whether the type says so where we write it: behind the cursor and the position, and before any text.
fn is_text_delta(json: &[u8]) -> bool {
    const LONGEST_HEAD: usize = 96;
    let head = &json[..json.len().min(LONGEST_HEAD)];
    let next = memchr::memmem::find(head, b",\"type\":\"");
    next.is_some_and(|at| head[at..].starts_with(b",\"type\":\"text.delta\","))
}

/// Reads a moment as [`Millis::rfc3339`] writes it.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Millis(u64::try_from(since.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{env::Millis, frame::Encoder};

    #[test]
    fn a_delta_is_read_as_any_other_event_is() {
        let mut encoder = Encoder::default();
        let id: EventId = "k7q2mx.18446744073709551615".parse().unwrap();
        for text in ["", "a", ",\"type\":\"text.ended\",", "wört \"四\"\r\n\u{0}\u{2028}", &"long ".repeat(50)] {
            for lossy in [false, true] {
                let event = Event::TextDelta { block: 7, text: text.into(), lossy };
                let frame = encoder.encode(id, Millis(0), &event);
                assert!(is_text_delta(&frame.json()));
                assert_eq!(Record::decode(&frame.json()).unwrap(), Record { id, at: None, event });
            }
            // The same words as what somebody said.
            let said = Event::ToolCallDelta { block: 1, arguments: text.into() };
            let frame = encoder.encode(id, Millis(0), &said);
            assert!(!is_text_delta(&frame.json()));
            assert_eq!(Record::decode(&frame.json()).unwrap().event, said);
        }
        for broken in
            [r#"{"id":"k7q2mx.1","seq":1,"type":"text.delta","block":1}"#, r#"{"id":"x","type":"text.delta","#]
        {
            assert!(Record::decode(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
