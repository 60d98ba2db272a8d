//! What a message says, as text.

use std::borrow::Cow;

use serde_json::Value;

use super::{Fields, InvalidRequest, MESSAGES_MAX, Place, list};

/// Between the parts of an answer, which are pieces of one text.
pub(crate) const PIECES: &str = "";
/// Between the parts of what somebody else says.
pub(crate) const PARAGRAPHS: &str = "\n\n";

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
