//! What a message says, as text.

use std::borrow::Cow;

use serde_json::Value;

use super::{Fields, InvalidRequest, MESSAGES_MAX, Place, list};

/// Between the parts of an answer, which are pieces of one text.
pub(crate) const PIECES: &str = "";
/// Between the parts of what somebody else says: as vLLM and llama.cpp join them.
pub(crate) const LINES: &str = "\n";

/// The kinds of part that are text. One list for both formats: clients that speak both mix them up.
const TEXTS: [&str; 3] = ["text", "input_text", "output_text"];
/// The kinds that would be lost without a word.
const OTHERS: [&str; 10] = [
    "image_url",
    "input_image",
    "image_file",
    "input_audio",
    "audio",
    "file",
    "input_file",
    "video_url",
    "input_video",
    "computer_screenshot",
];

/// The text of a content: itself, or its parts joined.
pub(crate) fn text(content: &Value, place: &Place<'_>, between: &str) -> Result<String, InvalidRequest> {
    if let Value::String(text) = content {
        return Ok(text.clone());
    }
    if !content.is_array() {
        return Err(InvalidRequest::not_a("a string or an array of parts", place, content));
    }
    let parts = list(content, place, MESSAGES_MAX)?.iter().enumerate();
    let texts: Vec<Cow<'_, str>> =
        parts.map(|(at, part)| part_text(part, &place.item(at))).collect::<Result<_, _>>()?;
    Ok(texts.join(between))
}

fn part_text<'a>(part: &'a Value, place: &Place<'_>) -> Result<Cow<'a, str>, InvalidRequest> {
    if let Value::String(text) = part {
        return Ok(text.into());
    }
    let fields = Fields::of(part, place)?;
    match fields.need_text("type")? {
        kind if TEXTS.contains(&kind) => Ok(fields.need_text("text")?.into()),
        "refusal" => Ok(fields.need_text("refusal")?.into()),
        kind if OTHERS.contains(&kind) => {
            let why = format_args!("a part of the type '{kind}' cannot be read here; send text");
            Err(InvalidRequest::unsupported_value(place, why))
        }
        kind => Err(InvalidRequest::none_of(&[&TEXTS[..], &["refusal"]].concat(), &place.field("type"), kind)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(content: Value) -> Result<String, (String, &'static str)> {
        text(&content, &Place::Top("content"), LINES).map_err(|no| (no.param.unwrap_or_default(), no.code))
    }

    #[test]
    fn parts_of_either_format_are_text() {
        let parts = json!([
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            "b",
            {"type": "input_text", "text": "c"},
            {"type": "output_text", "text": "d", "annotations": [], "logprobs": null},
            {"type": "refusal", "refusal": "e"},
        ]);
        assert_eq!(read(parts), Ok("a\nb\nc\nd\ne".into()));
        assert_eq!(read(json!("plain")), Ok("plain".into()));
        assert_eq!(read(json!([])), Ok(String::new()));
    }

    #[test]
    fn what_would_be_lost_and_what_is_no_part_is_refused_where_it_stands() {
        let refused = |param: &str, code| Err((param.to_owned(), code));
        for other in OTHERS {
            let part = json!([{"type": "text", "text": "what is this?"}, {"type": other}]);
            assert_eq!(read(part), refused("content[1]", "unsupported_value"), "{other}");
        }
        assert_eq!(read(json!([{"type": "txt"}])), refused("content[0].type", "invalid_value"));
        assert_eq!(read(json!([{"text": "a"}])), refused("content[0].type", "missing_required_parameter"));
        assert_eq!(read(json!([{"type": "text"}])), refused("content[0].text", "missing_required_parameter"));
        assert_eq!(read(json!([{"type": "text", "text": 5}])), refused("content[0].text", "invalid_type"));
        assert_eq!(read(json!([7])), refused("content[0]", "invalid_type"));
        assert_eq!(read(json!({"type": "text"})), refused("content", "invalid_type"));
    }
}
