//! What a dialect reads of an event's JSON: borrowed where it can be, so that no text is decoded only to be encoded
//! again.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    event::{ApprovalOutcome, Block, FinishReason, ToolFailure},
    id::{ApprovalId, CallId, RunId},
    spec::ToolSpec,
};

/// What a delta is a fragment of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text,
    Reasoning,
    Arguments,
}

/// A fragment; its text is the JSON literal, as it stands in the frame.
#[derive(Debug, PartialEq)]
pub(crate) struct Delta<'a> {
    pub(crate) piece: Piece,
    pub(crate) block: Block,
    pub(crate) literal: &'a str,
}

impl<'a> Delta<'a> {
    /// Reads the body of a frame as our encoder writes the body of a delta. `None` for any other, also for a delta that
    /// is written in another way.
    pub(crate) fn of(body: &'a [u8]) -> Option<Self> {
        let rest = body.strip_prefix(br#""type":""#)?;
        let known: [(Piece, &[u8], &[u8]); 3] = [
            (Piece::Text, br#"text.delta","block":"#, br#","text":"#),
            (Piece::Arguments, br#"tool_call.delta","block":"#, br#","arguments":"#),
            (Piece::Reasoning, br#"reasoning.delta","block":"#, br#","text":"#),
        ];
        let (piece, rest, key) =
            known.into_iter().find_map(|(piece, head, key)| Some((piece, rest.strip_prefix(head)?, key)))?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let block = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let rest = rest[digits..].strip_prefix(key)?;
        let (literal, rest) = rest.split_at(literal_length(rest)?);
        let ends = matches!(rest, br#"}"# | br#","lossy":true}"#);
        Some(Self { piece, block, literal: std::str::from_utf8(literal).ok()? }).filter(|_| ends)
    }

    /// Reads the JSON of a delta, however it is written.
    pub(crate) fn decode(piece: Piece, json: &'a [u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            block: Block,
            #[serde(borrow, alias = "arguments")]
            text: &'a RawValue,
        }
        let Fields { block, text } = serde_json::from_slice(json)?;
        match text.get() {
            literal if literal.starts_with('"') => Ok(Self { piece, block, literal }),
            _ => Err(serde::de::Error::custom("a delta is a text")),
        }
    }
}

/// Bytes of the string literal that `json` begins with.
fn literal_length(json: &[u8]) -> Option<usize> {
    let mut end = usize::from(json.first() == Some(&b'"'));
    while end > 0 {
        end += memchr::memchr(b'"', &json[end..])? + 1;
        let escapes = json[..end - 1].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return Some(end);
        }
    }
    None
}

/// `session.created`: whose tools there are.
#[derive(Deserialize)]
pub(crate) struct Created {
    #[serde(default)]
    pub(crate) tools: Vec<ToolSpec>,
}

/// `run.started`.
#[derive(Deserialize)]
pub(crate) struct Started {
    pub(crate) run_id: RunId,
}

/// `step.started`.
#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) step: u32,
}

/// `text.started`, `text.ended`, and the same of reasoning.
#[derive(Deserialize)]
pub(crate) struct Boundary {
    pub(crate) block: Block,
}

/// `input.added`.
#[derive(Deserialize)]
pub(crate) struct Input<'a> {
    #[serde(borrow)]
    pub(crate) message_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) content: &'a RawValue,
}

/// `tool_call.started` and `tool_call.ready`.
#[derive(Deserialize)]
pub(crate) struct Called<'a> {
    pub(crate) block: Block,
    pub(crate) call_id: CallId,
    pub(crate) name: String,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
}

/// `approval.requested`.
#[derive(Deserialize)]
pub(crate) struct Requested<'a> {
    pub(crate) approval_id: ApprovalId,
    pub(crate) call_id: CallId,
    #[serde(borrow)]
    pub(crate) arguments: &'a RawValue,
    #[serde(default)]
    pub(crate) allowed: bool,
}

/// `approval.resolved`.
#[derive(Deserialize)]
pub(crate) struct Resolved<'a> {
    pub(crate) approval_id: ApprovalId,
    pub(crate) outcome: ApprovalOutcome,
    #[serde(borrow)]
    pub(crate) edited_arguments: Option<&'a RawValue>,
    pub(crate) message: Option<String>,
}

/// `tool.started`.
#[derive(Deserialize)]
pub(crate) struct Begun {
    pub(crate) call_id: CallId,
}

/// `tool.completed`. The output may be `null`.
#[derive(Deserialize)]
pub(crate) struct Completed<'a> {
    pub(crate) call_id: CallId,
    #[serde(borrow)]
    pub(crate) output: &'a RawValue,
}

/// `tool.failed`.
#[derive(Deserialize)]
pub(crate) struct Failed {
    pub(crate) call_id: CallId,
    pub(crate) code: ToolFailure,
    pub(crate) message: String,
}

/// `run.completed`.
#[derive(Deserialize)]
pub(crate) struct RunCompleted {
    pub(crate) finish_reason: FinishReason,
}

/// `run.failed`.
#[derive(Deserialize)]
pub(crate) struct RunFailed {
    pub(crate) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        env::Millis,
        event::Event,
        frame::{Encoder, Frame},
    };

    fn frame(event: &Event) -> Frame {
        Encoder::default().encode("k7q2mx.18446744073709551615".parse().unwrap(), Millis(0), event)
    }

    #[test]
    fn a_delta_as_we_write_it_is_read_without_being_decoded() {
        let texts = [
            "",
            "a",
            "\"",
            "\\",
            "\\\"",
            "\"\\",
            "\",\"lossy\":true}",
            "\"}",
            "wört 四\r\n\u{0}\u{2028}",
            "{\"n\":\"x\\\\\"}",
        ];
        for text in texts.map(str::to_owned).into_iter().chain(["long \"quotes\" and \\ ".repeat(50)]) {
            let literal = serde_json::to_string(&text).unwrap();
            let mut events = vec![(Piece::Arguments, Event::ToolCallDelta { block: 7, arguments: text.clone() })];
            for lossy in [false, true] {
                events.push((Piece::Text, Event::TextDelta { block: 7, text: text.clone(), lossy }));
                events.push((Piece::Reasoning, Event::ReasoningDelta { block: 7, text: text.clone(), lossy }));
            }
            for (piece, event) in events {
                let (frame, due) = (frame(&event), Delta { piece, block: 7, literal: &literal });
                assert_eq!(Delta::of(frame.body()).as_ref(), Some(&due), "{event:?}");
                assert_eq!(Delta::decode(piece, &frame.json()).unwrap(), due);
            }
        }
    }

    #[test]
    fn whatever_is_no_delta_of_ours_is_left_to_the_decoder() {
        for body in [
            r#""type":"text.delta","text":"a","block":7}"#,
            r#""type":"text.delta","block":7,"text":"a","more":"x"}"#,
            r#""type":"text.delta","block":7,"text":"a","lossy":false}"#,
            r#""type":"text.delta","block":,"text":"a"}"#,
            r#""type":"text.delta","block":99999999999,"text":"a"}"#,
            r#""type":"text.delta","block":7,"text":"a\"}"#,
            r#""type":"text.delta","block":7,"text":"#,
            r#""type":"text.delta","block":7,"text":5}"#,
            r#""type":"text.delta","block":7,"arguments":"a"}"#,
            r#""type":"text.ended","block":7}"#,
            r#""at":"x","type":"text.delta","block":7,"text":"a"}"#,
            "",
        ] {
            assert_eq!(Delta::of(body.as_bytes()), None, "{body}");
        }
        let other_order = br#"{"type":"text.delta","text":"a\u0041","block":7}"#;
        let due = Delta { piece: Piece::Text, block: 7, literal: r#""a\u0041""# };
        assert_eq!(Delta::decode(Piece::Text, other_order).unwrap(), due);
        for broken in [&br#"{"type":"text.delta","text":"a"}"#[..], br#"{"type":"text.delta","block":7,"text":5}"#] {
            assert!(Delta::decode(Piece::Text, broken).is_err());
        }
    }
}
