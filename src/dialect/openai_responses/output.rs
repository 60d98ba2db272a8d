//! The items of one turn and the events that tell them: every number of an event and of an item is given here.

use std::fmt;

use super::{
    Chunks, ItemId, ItemKind,
    item::{self, Status},
};
use crate::{
    event::{Block, fields::Piece},
    id::{EventId, SessionId},
};

/// The items of one turn.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Number of the next event.
    sequence: u64,
    /// Each as JSON once it is done.
    items: Vec<Option<String>>,
    /// What is open of texts and thoughts, in order.
    blocks: Vec<OpenBlock>,
    /// Whether one of them is whole.
    unsettled: bool,
}

/// A text or a thought.
#[derive(Debug)]
struct OpenBlock {
    piece: Piece,
    block: Block,
    place: Place,
    /// What its deltas begin with.
    head: String,
    /// The literal of the text so far, without its last quote.
    text: String,
    /// All of it has come. Whether it was cut shows in what comes next.
    whole: bool,
}

/// An item, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: ItemId,
    index: usize,
}

impl fmt::Display for Place {
    /// The two fields that say so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#""item_id":"{}","output_index":{}"#, self.id, self.index)
    }
}

impl OpenBlock {
    fn literal(&self) -> String {
        format!("{}\"", self.text)
    }

    fn part(&self, text: &str) -> String {
        if self.piece == Piece::Text { item::text_part(text) } else { item::thought_part(text) }
    }

    fn json(&self, part: &str, status: Status) -> String {
        let id = &self.place.id;
        if self.piece == Piece::Text { item::message(id, part, status) } else { item::thought(id, part, status) }
    }
}

impl Output {
    /// Tells an event. `rest` are its fields, beginning with a comma.
    pub(super) fn tell(&mut self, kind: &str, rest: fmt::Arguments<'_>, chunks: &mut Chunks) {
        let sequence = self.sequence;
        self.sequence += 1;
        chunks.push_joined([&format!(r#"{{"type":"{kind}","sequence_number":{sequence}{rest}}}"#)]);
    }

    /// Tells an event of an item.
    pub(super) fn tell_of(&mut self, place: &Place, kind: &str, rest: fmt::Arguments<'_>, chunks: &mut Chunks) {
        self.tell(kind, format_args!(",{place}{rest}"), chunks);
    }

    /// Tells a fragment. `head` is [`Self::head`] of its kind and place.
    pub(super) fn tell_delta(&mut self, head: &str, literal: &str, chunks: &mut Chunks) {
        tell_delta(&mut self.sequence, head, literal, chunks);
    }

    /// An item begins.
    pub(super) fn add(&mut self, id: ItemId, json: &str, chunks: &mut Chunks) -> Place {
        let index = self.items.len();
        self.items.push(None);
        self.tell("response.output_item.added", format_args!(r#","output_index":{index},"item":{json}"#), chunks);
        Place { id, index }
    }

    /// An item is done.
    pub(super) fn done(&mut self, place: &Place, json: String, chunks: &mut Chunks) {
        let index = place.index;
        self.tell("response.output_item.done", format_args!(r#","output_index":{index},"item":{json}"#), chunks);
        self.items[index] = Some(json);
    }

    fn position(&self, piece: Piece, block: Block) -> Option<usize> {
        self.blocks.iter().position(|open| (open.block, open.piece) == (block, piece))
    }

    /// A text or a thought begins with this event, unless it is open.
    pub(super) fn begin(
        &mut self,
        piece: Piece,
        block: Block,
        session: &SessionId,
        event: EventId,
        chunks: &mut Chunks,
    ) {
        self.settle(Status::Completed, chunks);
        if self.position(piece, block).is_some() {
            return;
        }
        let (kind, delta, more) = match piece {
            Piece::Text => (ItemKind::Message, "response.output_text.delta", r#","content_index":0,"logprobs":[]"#),
            _ => (ItemKind::Reasoning, "response.reasoning_text.delta", r#","content_index":0"#),
        };
        let id = ItemId { kind, session: session.clone(), event };
        let place = Place { id: id.clone(), index: self.items.len() };
        let head = delta_head(delta, &place, more);
        let open = OpenBlock { piece, block, place, head, text: "\"".to_owned(), whole: false };
        let place = self.add(id, &open.json("", Status::InProgress), chunks);
        let part = open.part("\"\"");
        let rest = format_args!(r#","content_index":0,"part":{part}"#);
        self.tell_of(&place, "response.content_part.added", rest, chunks);
        self.blocks.push(open);
    }

    /// More of a text or of a thought. Tells whether it is open.
    pub(super) fn delta(&mut self, piece: Piece, block: Block, literal: &str, chunks: &mut Chunks) -> bool {
        self.settle(Status::Completed, chunks);
        let is_it = |open: &&mut OpenBlock| (open.block, open.piece) == (block, piece);
        let Some(open) = self.blocks.iter_mut().find(is_it) else { return false };
        open.text.push_str(&literal[1..literal.len() - 1]);
        tell_delta(&mut self.sequence, &open.head, literal, chunks);
        true
    }

    /// All of a text or of a thought has come.
    pub(super) fn end(&mut self, piece: Piece, block: Block) {
        if let Some(at) = self.position(piece, block) {
            (self.blocks[at].whole, self.unsettled) = (true, true);
        }
    }

    /// It is clear now how what is whole has ended.
    pub(super) fn settle(&mut self, status: Status, chunks: &mut Chunks) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        while let Some(at) = self.blocks.iter().position(|open| open.whole) {
            let open = self.blocks.remove(at);
            self.close(&open, status, chunks);
        }
    }

    /// Nothing comes any more.
    pub(super) fn close_blocks(&mut self, status: Status, chunks: &mut Chunks) {
        for open in std::mem::take(&mut self.blocks) {
            self.close(&open, status, chunks);
        }
    }

    fn close(&mut self, open: &OpenBlock, status: Status, chunks: &mut Chunks) {
        let (text, place) = (open.literal(), &open.place);
        let (part, kind, more) = match open.piece {
            Piece::Text => (item::text_part(&text), "response.output_text.done", r#","logprobs":[]"#),
            _ => (item::thought_part(&text), "response.reasoning_text.done", ""),
        };
        self.tell_of(place, kind, format_args!(r#","content_index":0,"text":{text}{more}"#), chunks);
        let rest = format_args!(r#","content_index":0,"part":{part}"#);
        self.tell_of(place, "response.content_part.done", rest, chunks);
        self.done(place, open.json(&part, status), chunks);
    }

    /// The items as JSON, in order. `calls` are the calls that are neither done nor forgotten, as they are now.
    pub(super) fn json(&self, calls: &[(Place, String)]) -> String {
        let mut json = String::from("[");
        for (index, item) in self.items.iter().enumerate() {
            let of_block = || {
                let open = self.blocks.iter().find(|open| open.place.index == index)?;
                Some(open.json(&open.part(&open.literal()), Status::InProgress))
            };
            let of_call = || Some(calls.iter().find(|(place, _)| place.index == index)?.1.clone());
            if let Some(item) = item.clone().or_else(of_block).or_else(of_call) {
                json += if json.len() > 1 { "," } else { "" };
                json += &item;
            }
        }
        json + "]"
    }
}

/// What the deltas of an item begin with: all of the event before its number.
pub(super) fn delta_head(kind: &str, place: &Place, more: &str) -> String {
    format!(r#"{{"type":"{kind}",{place}{more},"sequence_number":"#)
}

fn tell_delta(sequence: &mut u64, head: &str, literal: &str, chunks: &mut Chunks) {
    chunks.push_joined([head, decimal(*sequence, &mut [0; DIGITS_MAX]), r#","delta":"#, literal, "}"]);
    *sequence += 1;
}

const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

/// `number` in decimal: formatting it takes longer than the rest of a delta.
fn decimal(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &str {
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[start..]).expect("digits are ASCII");
        }
    }
}
