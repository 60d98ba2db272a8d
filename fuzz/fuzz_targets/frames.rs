//! No text of a model, a tool or a user changes what an event stream is: a parser that was written from the standard alone
//! (WHATWG HTML §9.2.6) reads one event, with the id and the name that it should have, and the very text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use steerage::{
    dialect::native::{self, Notice},
    env::Millis,
    event::Event,
    frame::Encoder,
    id::{EventId, SessionId},
};

#[derive(Debug, Default, PartialEq)]
struct Dispatched {
    event: String,
    data: String,
    last_event_id: String,
}

/// The standard's algorithm, step by step and without a thought for speed.
fn read(stream: &str) -> Vec<Dispatched> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut event, mut data, mut id) = (Vec::new(), String::new(), String::new(), String::new());
    // What stands behind the last line end is no line.
    let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push(Dispatched { event: event.clone(), data: data.clone(), last_event_id: id.clone() });
            }
            event.clear();
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event = value.to_owned(),
            "data" => data += &format!("{value}\n"),
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    events
}

fn one(stream: &[u8]) -> Dispatched {
    let mut events = read(std::str::from_utf8(stream).expect("a stream is UTF-8"));
    assert_eq!(events.len(), 1, "{:?}", String::from_utf8_lossy(stream));
    events.remove(0)
}

fuzz_target!(|text: &str| {
    let id: EventId = "k7q2mx.42".parse().expect("a cursor");
    let events = [
        (Event::TextDelta { block: 1, text: text.to_owned(), lossy: false }, "text.delta", "text"),
        (Event::ReasoningDelta { block: 2, text: text.to_owned(), lossy: true }, "reasoning.delta", "text"),
        (Event::ToolCallDelta { block: 3, arguments: text.to_owned() }, "tool_call.delta", "arguments"),
    ];
    let mut encoder = Encoder::default();
    let mut frames = Vec::new();
    for (event, kind, field) in events {
        let frame = encoder.encode(id, Millis(1), &event);
        let read = one(frame.sse());
        assert_eq!((read.event.as_str(), read.last_event_id.as_str()), (kind, "k7q2mx.42"));
        let json: Value = serde_json::from_str(&read.data).expect("the data is JSON");
        assert_eq!(json[field], text);
        assert_eq!((json["type"].as_str(), json["id"].as_str()), (Some(kind), Some("k7q2mx.42")));
        frames.push(frame);
    }
    assert_eq!(read(std::str::from_utf8(&native::join(&frames)).expect("UTF-8")).len(), 3);

    let session: SessionId = "s".parse().expect("a name");
    let mut many = Vec::new();
    native::multiplexed(&session, "s:k7q2mx.42", &frames[0], &mut many);
    let read = one(&many);
    let json: Value = serde_json::from_str(&read.data).expect("the data is JSON");
    assert_eq!((&json["text"], json["session_id"].as_str()), (&Value::from(text), Some("s")));
    assert_eq!(read.last_event_id, "s:k7q2mx.42");

    let notice = Notice::StoreFailed { message: text.to_owned() };
    let read = one(&notice.sse(None));
    assert_eq!((read.event.as_str(), read.last_event_id.as_str()), ("store_failed", ""));
    assert_eq!(serde_json::from_str::<Value>(&read.data).expect("JSON")["message"], text);
});
