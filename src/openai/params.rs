//! The sampling parameters that every upstream knows.

use serde_json::Value;

use super::{Body, InvalidRequest, Place, fields::as_text, list};
use crate::spec::Params;

/// Takes them out of a request; `max_tokens` are the names that a limit of the answer has there, best first.
pub(crate) fn params(body: &mut Body, max_tokens: &[&str]) -> Result<Params, InvalidRequest> {
    let temperature = body.number("temperature")?;
    if temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        return Err(InvalidRequest::value(&Place::Top("temperature"), "it is a number from 0 to 2"));
    }
    let top_p = body.number("top_p")?;
    if top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Err(InvalidRequest::value(&Place::Top("top_p"), "it is a number above 0, up to 1"));
    }
    let mut limit = None;
    for name in max_tokens {
        let place = Place::Top(name);
        let Some(tokens) = body.integer(name)? else { continue };
        let tokens = u32::try_from(tokens).ok().filter(|tokens| *tokens > 0);
        let tokens = tokens.ok_or_else(|| InvalidRequest::value(&place, "it is at least 1 and fits 32 bits"))?;
        if limit.replace(tokens).is_some_and(|other| other != tokens) {
            let rule = format_args!("it says something else than '{}'", max_tokens[0]);
            return Err(InvalidRequest::value(&place, rule));
        }
    }
    let stop = body.take("stop").map(stop).transpose()?.unwrap_or_default();
    Ok(Params { temperature, top_p, max_tokens: limit, stop, seed: body.integer("seed")?, ..Params::default() })
}

/// One text, or several. OpenAI takes 4; what we take more the upstream may refuse.
fn stop(value: Value) -> Result<Vec<String>, InvalidRequest> {
    const TEXTS_MAX: usize = 16;
    const BYTES_MAX: usize = 256;
    let place = Place::Top("stop");
    let one = |text: &Value, place: &Place<'_>| match as_text(text, place)? {
        text if (1..=BYTES_MAX).contains(&text.len()) => Ok(text.to_owned()),
        _ => Err(InvalidRequest::value(place, format_args!("it is 1 to {BYTES_MAX} bytes"))),
    };
    match &value {
        Value::String(_) => Ok(vec![one(&value, &place)?]),
        Value::Array(_) => {
            let texts = list(&value, &place, TEXTS_MAX)?.iter().enumerate();
            texts.map(|(at, text)| one(text, &place.item(at))).collect()
        }
        other => Err(InvalidRequest::not_a("a string or an array of strings", &place, other)),
    }
}
