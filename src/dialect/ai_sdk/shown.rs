//! What is open in the message as its reader has it: a step, texts and reasonings in it.
//!
//! A step of the message is a step of the run, all attempts at it and its tools included: it ends when the next one
//! begins, when everything waits for the client, or with the run. So a text that goes on in another attempt goes on in
//! its step, and an attempt that was lost before it showed anything leaves no trace.

use super::{
    Chunks,
    chunk::{Chunk, Part},
};
use crate::event::{Block, fields::Piece};

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Shown {
    step: Option<Step>,
    /// Whether the newest step has calls, be it open or not, in this response or an earlier one.
    calls: bool,
    parts: Vec<OpenPart>,
}

#[derive(Debug)]
struct Step {
    number: u32,
    /// Whether nothing was shown in it.
    empty: bool,
}

/// A text or a reasoning.
#[derive(Debug)]
struct OpenPart {
    piece: Piece,
    block: Block,
    /// The id of the part as JSON, for its many deltas.
    quoted: String,
}

impl OpenPart {
    fn new(piece: Piece, block: Block) -> Self {
        Self { piece, block, quoted: format!("\"{block}\"") }
    }

    fn start(&self, chunks: &mut Chunks) {
        let id = Part(self.block);
        chunks.push(&if self.piece == Piece::Text { Chunk::TextStart { id } } else { Chunk::ReasoningStart { id } });
    }

    fn end(&self, chunks: &mut Chunks) {
        let id = Part(self.block);
        chunks.push(&if self.piece == Piece::Text { Chunk::TextEnd { id } } else { Chunk::ReasoningEnd { id } });
    }
}

impl Shown {
    /// The beginning of another response: its reader has nothing open.
    pub(super) fn restart(&mut self) {
        *self = Self { calls: self.calls, ..Self::default() };
    }

    fn position(&self, piece: Piece, block: Block) -> Option<usize> {
        self.parts.iter().position(|part| (part.piece, part.block) == (piece, block))
    }

    /// A part begins, unless it is open.
    pub(super) fn begin(&mut self, piece: Piece, block: Block, chunks: &mut Chunks) {
        if self.position(piece, block).is_none() {
            self.show(chunks);
            let part = OpenPart::new(piece, block);
            part.start(chunks);
            self.parts.push(part);
        }
    }

    /// More of a part, which begins if it is not open.
    pub(super) fn delta(&mut self, piece: Piece, block: Block, literal: &str, chunks: &mut Chunks) {
        self.begin(piece, block, chunks);
        let at = self.position(piece, block).expect("it has just begun, if it had not before");
        chunks.push_delta(piece, &self.parts[at].quoted, literal);
    }

    /// A part ends, if it is open.
    pub(super) fn end(&mut self, piece: Piece, block: Block, chunks: &mut Chunks) {
        if let Some(at) = self.position(piece, block) {
            self.parts.remove(at).end(chunks);
        }
    }

    /// Something is about to be shown: it has a step.
    pub(super) fn show(&mut self, chunks: &mut Chunks) {
        if self.step.is_none() {
            self.open_step(0, chunks);
        }
        if let Some(step) = &mut self.step {
            step.empty = false;
        }
    }

    /// The same, of a call.
    pub(super) fn show_call(&mut self, chunks: &mut Chunks) {
        self.show(chunks);
        self.calls = true;
    }

    /// A model call begins. Another attempt at a step goes on in it, and so does what follows a step that showed nothing.
    pub(super) fn start_step(&mut self, number: u32, chunks: &mut Chunks) {
        match &mut self.step {
            Some(step) if step.number == number || step.empty => step.number = number,
            _ => {
                self.finish_step(chunks);
                self.open_step(number, chunks);
            }
        }
    }

    fn open_step(&mut self, number: u32, chunks: &mut Chunks) {
        self.step = Some(Step { number, empty: true });
        self.calls = false;
        chunks.push(&Chunk::StartStep);
    }

    /// Ends the step, if one is open. Nothing stays open in it: older clients forget the open parts there.
    pub(super) fn finish_step(&mut self, chunks: &mut Chunks) {
        if self.step.take().is_some() {
            self.parts.drain(..).for_each(|part| part.end(chunks));
            chunks.push(&Chunk::FinishStep);
        }
    }

    /// Begins a step without anything in it where the last one has calls, all of which have ended. A client can be told to
    /// send by itself once all calls of the last step have their ends; after the end of a run it would do so for ever.
    pub(super) fn leave_calls(&mut self, chunks: &mut Chunks) {
        if self.calls {
            self.open_step(0, chunks);
            self.finish_step(chunks);
        }
    }

    /// Ends the step, unless it showed nothing yet, or a text in it may go on.
    pub(super) fn finish_unless_empty(&mut self, chunks: &mut Chunks) {
        if self.parts.is_empty() && self.step.as_ref().is_some_and(|step| !step.empty) {
            self.finish_step(chunks);
        }
    }
}
