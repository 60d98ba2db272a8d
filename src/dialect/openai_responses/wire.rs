//! How events travel: as SSE. On a WebSocket each is a message as it is.

/// What is sent after a silence. A comment does no harm as long as no `id:` was sent before.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// The event's name: its `type`, which stands first.
pub fn kind(chunk: &str) -> &str {
    let kind = chunk.strip_prefix(r#"{"type":""#).and_then(|rest| rest.split('"').next());
    kind.unwrap_or("message")
}

/// An event as SSE. Without `id:`, which one of the SDKs keeps and then fails on the next comment.
pub fn sse(chunk: &str, out: &mut Vec<u8>) {
    for piece in ["event: ", kind(chunk), "\ndata: ", chunk, "\n\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_by_its_type() {
        let mut out = Vec::new();
        sse(r#"{"type":"response.created","sequence_number":0}"#, &mut out);
        assert_eq!(out, b"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n");
    }
}
