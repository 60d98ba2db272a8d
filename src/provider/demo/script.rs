//! A script: everything that an answer will be, before the first token of it is sent.

use std::iter;

use serde_json::Value;

use crate::{
    event::FinishReason,
    provider::{Delta, ProviderError},
    spec::clip,
};

/// Characters of the longest token: a longer word is sent in pieces.
const TOKEN_CHARS_MAX: usize = 12;

/// Characters of one fragment of a call's arguments: short enough that any call has several.
const FRAGMENT_CHARS: usize = 6;

/// What an answer will be.
pub(super) struct Script {
    /// What happens, in order.
    pub(super) lines: Vec<Line>,
    /// How it ends when nothing else ends it.
    pub(super) finish_reason: FinishReason,
    /// Tokens per second where the prompt does not say.
    pub(super) rate: f64,
}

/// One thing that happens.
pub(super) enum Line {
    /// Words of the answer.
    Text(String),
    /// Words of the thinking.
    Reasoning(String),
    /// A single token, however long.
    Lump(String),
    /// Words of the answer, said over and over until this many tokens are sent.
    Flood(String, usize),
    /// A tool call.
    Call {
        /// Which of this answer.
        index: u32,
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// JSON text, or what was meant to be.
        arguments: String,
    },
    /// Silence for ever.
    Stall,
    /// The upstream fails.
    Fail(ProviderError),
}

/// One line taken apart into what is sent.
pub(super) enum Act {
    /// One token.
    Token(Delta),
    /// Something that is sent along and counts as no token.
    Mark(Delta),
    /// Silence for ever.
    Stall,
    /// The upstream fails.
    Fail(ProviderError),
}

impl Script {
    /// These things, then a usual end.
    pub(super) fn new(lines: Vec<Line>) -> Self {
        let calls = lines.iter().any(|line| matches!(line, Line::Call { .. }));
        let finish_reason = if calls { FinishReason::ToolCalls } else { FinishReason::Stop };
        Self { lines, finish_reason, rate: 30.0 }
    }

    /// Only words.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::new(vec![Line::Text(text.into())])
    }

    /// Only a failure.
    pub(super) fn failure(error: ProviderError) -> Self {
        Self::new(vec![Line::Fail(error)])
    }

    /// Ends the script before the first of the `stop` texts. Done beforehand, because a stop text may begin in one
    /// token and end in a later one.
    pub(super) fn stop_at(mut self, stop: &[String]) -> Self {
        for at in 0..self.lines.len() {
            let (Line::Text(text) | Line::Lump(text) | Line::Flood(text, _)) = &self.lines[at] else {
                continue;
            };
            // A stop text may span the seam between two rounds of a flood.
            let longest = stop.iter().map(String::len).max().unwrap_or(0);
            let rounds = if matches!(self.lines[at], Line::Flood(..)) { longest / text.len().max(1) + 2 } else { 1 };
            let mut said = text.repeat(rounds);
            if let Some(end) = first_of(&said, stop) {
                said.truncate(end);
                self.lines.truncate(at);
                self.lines.push(Line::Text(said));
                self.finish_reason = FinishReason::Stop;
                break;
            }
        }
        self
    }

    /// What is left of it when `said` is how its words begin, to the byte; else all of it. What was thought before those
    /// words is not thought again.
    pub(super) fn after(mut self, said: &str) -> Self {
        let mut left = said;
        let mut at = 0;
        while let Some(line) = self.lines.get_mut(at).filter(|_| !left.is_empty()) {
            let words = match line {
                Line::Text(words) | Line::Lump(words) => words,
                Line::Flood(words, count) => match rest_of_flood(words, *count, left) {
                    Some(lines) => {
                        self.lines.splice(..=at, lines);
                        return self;
                    }
                    None => return self,
                },
                _ => {
                    at += 1;
                    continue;
                }
            };
            if let Some(rest) = words.strip_prefix(left) {
                *words = rest.to_owned();
                left = "";
            } else if let Some(more) = left.strip_prefix(words.as_str()) {
                left = more;
                at += 1;
            } else {
                return self;
            }
        }
        if left.is_empty() {
            self.lines.drain(..at);
        }
        self
    }

    /// Everything that is sent, in order.
    pub(super) fn acts(self) -> impl Iterator<Item = Act> + Send {
        self.lines.into_iter().flat_map(Line::acts)
    }
}

impl Line {
    fn acts(self) -> Box<dyn Iterator<Item = Act> + Send> {
        let text = |text| Act::Token(Delta::Text { text, lossy: false });
        match self {
            Self::Text(words) => Box::new(tokens(words).map(text)),
            Self::Reasoning(words) => {
                Box::new(tokens(words).map(|text| Act::Token(Delta::Reasoning { text, lossy: false })))
            }
            Self::Lump(lump) => Box::new(iter::once(text(lump))),
            Self::Flood(words, count) => {
                let words: Vec<_> = tokens(words).collect();
                Box::new(words.into_iter().cycle().take(count).map(text))
            }
            Self::Call { index, id, name, arguments } => {
                let begin = Act::Mark(Delta::ToolCall { index, id: Some(id), name });
                let fragments = pieces(arguments, |n, _, _| n == FRAGMENT_CHARS);
                let fragments = fragments.map(move |fragment| Act::Token(Delta::Arguments { index, fragment }));
                Box::new(iter::once(begin).chain(fragments))
            }
            Self::Stall => Box::new(iter::once(Act::Stall)),
            Self::Fail(error) => Box::new(iter::once(Act::Fail(error))),
        }
    }
}

/// What is left of a flood of `count` tokens after `said`.
fn rest_of_flood(words: &str, count: usize, said: &str) -> Option<[Line; 2]> {
    let round: Vec<_> = tokens(words.to_owned()).collect();
    let mut left = said;
    for token in 0..count {
        let next = &round[token % round.len()];
        match left.strip_prefix(next.as_str()) {
            Some(more) => left = more,
            None => {
                let rest = next.strip_prefix(left)?;
                // The round is finished by itself, so that the flood begins with its first word again.
                let left = count - token - 1;
                let round_left = &round[token % round.len() + 1..];
                let round_left = &round_left[..round_left.len().min(left)];
                let words = [rest, &round_left.concat()].concat();
                return Some([Line::Text(words), Line::Flood(round.concat(), left - round_left.len())]);
            }
        }
    }
    None
}

/// The call at `index`, with an id that the same conversation always gives.
pub(super) fn call(index: u32, id: u64, name: &str, arguments: &Value) -> Line {
    Line::Call { index, id: format!("call_{id:016x}_{index}"), name: name.into(), arguments: arguments.to_string() }
}

/// Where the first of the `stop` texts begins.
pub(super) fn first_of(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
}

/// A text in one line, in quotes, and not too long to be quoted.
pub(super) fn quote(text: &str) -> String {
    const QUOTE_BYTES_MAX: usize = 240;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clipped = clip(&line, QUOTE_BYTES_MAX);
    let more = if clipped.len() < line.len() { "…" } else { "" };
    format!("\"{clipped}{more}\"")
}

/// A text as tokens: each a word with the white space after it, or a piece of that. Joined they are the text again.
fn tokens(text: String) -> impl Iterator<Item = String> + Send {
    pieces(text, |n, before, next| n == TOKEN_CHARS_MAX || (before.is_whitespace() && !next.is_whitespace()))
}

/// A text in pieces, cut where `cut(characters so far, last character, next character)` says so.
fn pieces(text: String, cut: fn(usize, char, char) -> bool) -> impl Iterator<Item = String> + Send {
    let mut start = 0;
    iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let mut before = None;
        let mut end = rest.len();
        for (n, (at, next)) in rest.char_indices().enumerate() {
            if before.is_some_and(|before| cut(n, before, next)) {
                end = at;
                break;
            }
            before = Some(next);
        }
        start += end;
        Some(rest[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_words_with_their_space_or_pieces_of_them() {
        let cut = |text: &str| tokens(text.into()).collect::<Vec<_>>();
        assert_eq!(cut("Up  and\naway"), ["Up  ", "and\n", "away"]);
        assert_eq!(cut(" extraordinarily"), [" ", "extraordinar", "ily"]);
        assert_eq!(cut(""), Vec::<String>::new());
        assert!(cut("一二三四五六七八九十一二三").len() == 2, "text without spaces is sent in pieces");
    }

    #[test]
    fn a_flood_goes_on_where_it_was_and_is_no_longer() {
        let flood = || Script::new(vec![Line::Flood("ab cd e ".into(), 8)]);
        let text = |script: Script| {
            let texts = script.acts().map(|act| match act {
                Act::Token(Delta::Text { text, .. }) => text,
                _ => panic!("only text is in it"),
            });
            texts.collect::<String>()
        };
        let whole = text(flood());
        assert_eq!(whole, "ab cd e ab cd e ab cd ");
        for at in 0..whole.len() {
            let said = &whole[..at];
            assert_eq!([said, &text(flood().after(said))].concat(), whole);
        }
    }

    #[test]
    fn a_stop_text_that_spans_tokens_and_rounds_is_found() {
        let said = |script: Script, stop: &str| {
            let texts = script.stop_at(&[stop.into()]).lines.into_iter().map(|line| match line {
                Line::Text(text) => text,
                _ => panic!("only text is left"),
            });
            texts.collect::<String>()
        };
        assert_eq!(said(Script::text("one two three"), "o thr"), "one tw");
        assert_eq!(said(Script::new(vec![Line::Flood("ab ".into(), 9)]), "b ab a"), "a");
    }
}
