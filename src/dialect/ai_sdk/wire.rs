//! How chunks travel: as SSE, and as the messages of the SDK's WebSocket transport.

use std::io::Write as _;

/// The first bytes of a response: a comment, so that proxies let go of the headers.
pub const OPENING: &[u8] = b": steerage\n\n";
/// What follows the last chunk of a response.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// What is sent after a silence.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// A chunk as an SSE event. It has no cursor: this protocol comes back with a number of chunks, or with nothing.
pub fn sse(chunk: &str, out: &mut Vec<u8>) {
    for piece in ["data: ", chunk, "\n\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// The messages that answer one request on a WebSocket. The name of the request is the client's.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As JSON.
    request_id: String,
}

impl Answer {
    /// Answers to this request.
    pub fn to(request_id: &str) -> Self {
        Self { request_id: literal(request_id) }
    }

    fn message(&self, kind: &str, more: std::fmt::Arguments<'_>) -> String {
        format!(r#"{{"type":"{kind}","requestId":{}{more}}}"#, self.request_id)
    }

    /// A `resume` has found an answer; its chunks follow.
    pub fn start(&self) -> String {
        self.message("start", format_args!(""))
    }

    /// A chunk; `sequence` counts from 0 and without a gap.
    pub fn chunk(&self, sequence: u64, chunk: &str) -> String {
        let head = self.request_id.len() + chunk.len() + r#"{"type":"chunk","requestId":,"sequence":,"chunk":}"#.len();
        let mut message = Vec::with_capacity(head + 20);
        write!(message, r#"{{"type":"chunk","requestId":{},"sequence":{sequence},"chunk":"#, self.request_id)
            .expect("memory takes every byte");
        message.extend_from_slice(chunk.as_bytes());
        message.push(b'}');
        String::from_utf8(message).expect("joined of texts")
    }

    /// The answer is over.
    pub fn end(&self) -> String {
        self.message("end", format_args!(""))
    }

    /// A `resume` has found nothing to resume.
    pub fn no_active(&self) -> String {
        self.message("no-active", format_args!(""))
    }

    /// The request has failed.
    pub fn error(&self, text: &str) -> String {
        self.message("error", format_args!(r#","errorText":{}"#, literal(text)))
    }
}

fn literal(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_chunk_is_one_line_of_an_event() {
        let mut out = Vec::new();
        sse(r#"{"type":"abort"}"#, &mut out);
        out.extend_from_slice(DONE);
        assert_eq!(out, b"data: {\"type\":\"abort\"}\n\ndata: [DONE]\n\n");
    }

    #[test]
    fn messages_name_their_request_whatever_its_name_is() {
        for name in ["r1", "", "a\"b\\c\n{}", "四"] {
            let answer = Answer::to(name);
            let parse = |message: String| serde_json::from_str::<Value>(&message).unwrap();
            let bare = |kind: &str| json!({"type": kind, "requestId": name});
            assert_eq!(parse(answer.start()), bare("start"));
            assert_eq!(parse(answer.end()), bare("end"));
            assert_eq!(parse(answer.no_active()), bare("no-active"));
            assert_eq!(
                parse(answer.error("it \"broke\"")),
                json!({"type": "error", "requestId": name, "errorText": "it \"broke\""})
            );
            assert_eq!(
                parse(answer.chunk(u64::MAX, r#"{"type":"text-delta","id":"1","delta":"é\n"}"#)),
                json!({"type": "chunk", "requestId": name, "sequence": u64::MAX,
                       "chunk": {"type": "text-delta", "id": "1", "delta": "é\n"}})
            );
        }
    }
}
