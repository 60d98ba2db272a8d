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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Params, (String, &'static str)> {
        let mut body = Body::read(body).unwrap();
        params(&mut body, &["max_completion_tokens", "max_tokens"])
            .map_err(|no| (no.param.unwrap_or_default(), no.code))
    }

    #[test]
    fn what_is_read_passes_the_check_of_a_session() {
        let edges =
            json!({"temperature": 2, "top_p": 1, "max_tokens": 1.0, "seed": -5, "stop": vec!["x".repeat(256); 16]});
        let read = read(edges).unwrap();
        assert_eq!(read.check(std::iter::empty()), Ok(()));
        assert_eq!((read.max_tokens, read.seed, read.stop.len()), (Some(1), Some(-5), 16));
    }

    #[test]
    fn two_limits_are_one_or_a_mistake() {
        assert_eq!(read(json!({"max_completion_tokens": 7, "max_tokens": 7})).unwrap().max_tokens, Some(7));
        let both = read(json!({"max_completion_tokens": 7, "max_tokens": 8}));
        assert_eq!(both, Err(("max_tokens".into(), "invalid_value")));
    }

    #[test]
    fn what_a_session_would_refuse_is_refused_with_its_name() {
        for (body, param, code) in [
            (json!({"temperature": 2.1}), "temperature", "invalid_value"),
            (json!({"temperature": -0.1}), "temperature", "invalid_value"),
            (json!({"temperature": "1"}), "temperature", "invalid_type"),
            (json!({"top_p": 0}), "top_p", "invalid_value"),
            (json!({"top_p": 1.5}), "top_p", "invalid_value"),
            (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
            (json!({"max_tokens": -1}), "max_tokens", "invalid_value"),
            (json!({"max_tokens": 4_294_967_296_u64}), "max_tokens", "invalid_value"),
            (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
            (json!({"max_tokens": 1e300}), "max_tokens", "invalid_type"),
            (json!({"seed": u64::MAX}), "seed", "invalid_type"),
            (json!({"stop": 5}), "stop", "invalid_type"),
            (json!({"stop": ""}), "stop", "invalid_value"),
            (json!({"stop": ["a", null]}), "stop[1]", "invalid_type"),
            (json!({"stop": ["x".repeat(257)]}), "stop[0]", "invalid_value"),
            (json!({"stop": vec!["x"; 17]}), "stop", "invalid_value"),
        ] {
            assert_eq!(read(body.clone()), Err((param.into(), code)), "{body}");
        }
    }
}
