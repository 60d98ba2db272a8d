//! Outward wire formats: pure folds from frames to bytes.

use serde::Serialize;

pub mod ai_sdk;
pub mod native;
pub mod openai_chat;
pub mod openai_responses;

/// What a fold gives: JSON texts, in order, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    json: Vec<u8>,
    /// Where each chunk ends.
    ends: Vec<usize>,
}

impl Chunks {
    /// Without a chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all of them.
    pub fn size(&self) -> usize {
        self.json.len()
    }

    /// Lets them go and keeps the memory.
    pub fn clear(&mut self) {
        self.json.clear();
        self.ends.clear();
    }

    /// What is left when the first `skip` chunks are left out; `skip` becomes how many are still to be left out.
    #[must_use]
    pub fn without_first(mut self, skip: &mut usize) -> Self {
        let gone = std::mem::take(skip);
        *skip = gone.saturating_sub(self.len());
        if let Some(last) = gone.min(self.len()).checked_sub(1) {
            let start = self.ends[last];
            self.json.drain(..start);
            self.ends.drain(..=last);
            self.ends.iter_mut().for_each(|end| *end -= start);
        }
        self
    }

    /// Each as JSON, one line.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let json = &self.json[std::mem::replace(&mut start, *end)..*end];
            std::str::from_utf8(json).expect("frames are UTF-8, and so is what is made of them")
        })
    }

    /// Adds one.
    pub(crate) fn push(&mut self, chunk: &impl Serialize) {
        serde_json::to_writer(&mut self.json, chunk).expect("a chunk is plain JSON");
        self.ends.push(self.json.len());
    }

    /// Adds one that is the pieces joined.
    pub(crate) fn push_joined<const N: usize>(&mut self, pieces: [&str; N]) {
        for piece in pieces {
            self.json.extend_from_slice(piece.as_bytes());
        }
        self.ends.push(self.json.len());
    }
}
