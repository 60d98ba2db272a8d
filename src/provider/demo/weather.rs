//! Talk about the weather: when to look it up, and what to say about what became of the lookup.

use serde_json::Value;

use super::{answer::Answer, script::quote};
use crate::{event::ToolFailure, provider::Outcome, spec::clip};

/// Where nobody said where.
pub(super) const DEFAULT_CITY: &str = "Lisbon";

/// Longest foreign output that is repeated, in bytes.
const OUTPUT_BYTES_MAX: usize = 400;

/// A call with its end.
pub(super) struct Lookup<'a> {
    /// The tool.
    pub(super) name: &'a str,
    /// What the model asked, as far as it is known.
    pub(super) arguments: Option<&'a Value>,
    /// What a person asked instead.
    pub(super) edited: Option<&'a Value>,
    /// What became of it.
    pub(super) outcome: &'a Outcome,
}

impl Lookup<'_> {
    /// Why it has no output.
    pub(super) fn failure(&self) -> Option<ToolFailure> {
        match self.outcome {
            Outcome::Output(_) => None,
            Outcome::Failed { code, .. } => Some(*code),
        }
    }
}

/// Whether a text asks for the weather.
pub(super) fn is_asked_for(text: &str) -> bool {
    const WORDS: [&str; 5] = ["weather", "temperature", "forecast", "how warm", "how cold"];
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// The answer that first looks the weather of `city` up.
pub(super) fn look_up(city: String) -> Answer {
    Answer { sentences: vec!["Let me look that up. ".into()], lookup: Some(city), about_weather: true }
}

/// The answer from what became of the calls.
pub(super) fn tell(lookups: &[Lookup<'_>]) -> Answer {
    let mut sentences: Vec<_> = lookups.iter().flat_map(sentences).collect();
    if lookups.iter().any(|lookup| matches!(lookup.outcome, Outcome::Output(_))) {
        sentences.push("Take it as the old sailors took the sky — with thanks, and with a coat within reach. ".into());
        sentences.push("Ask me about another city whenever you like.".into());
    } else {
        sentences.push("I can try again whenever you ask me to.".into());
    }
    Answer { sentences, lookup: None, about_weather: true }
}

fn sentences(lookup: &Lookup<'_>) -> Vec<String> {
    let mut said = Vec::new();
    let edited_city = lookup.edited.and_then(city);
    match (lookup.edited, edited_city) {
        (Some(_), Some(city)) => said.push(format!("You changed the city to {city}, so that is where I looked. ")),
        (Some(edited), None) => said.push(format!("You changed the arguments to {}. ", short(edited))),
        (None, _) => {}
    }
    let asked = edited_city.or_else(|| lookup.arguments.and_then(city));
    let about = asked.map_or_else(|| format!("`{}`", lookup.name), |city| format!("the weather in {city}"));
    let because = |message: &str| {
        if message.is_empty() { String::new() } else { format!(" ({})", quote(message)) }
    };
    said.push(match lookup.outcome {
        Outcome::Output(output) => match report(output, asked) {
            Some(report) => report,
            None => format!("I asked for {about}, and this is the answer: {}. ", short(output)),
        },
        Outcome::Failed { code: ToolFailure::DeniedByUser, message } => {
            format!("I was refused the lookup of {about}{}, so I did not make it. ", because(message))
        }
        Outcome::Failed { code: ToolFailure::ApprovalTimedOut, .. } => {
            format!("I asked for leave to look up {about}, but nobody answered in time, so I did not look. ")
        }
        Outcome::Failed { code: ToolFailure::Interrupted, .. } => {
            format!("The lookup of {about} was interrupted before it began. ")
        }
        Outcome::Failed { code: ToolFailure::OutcomeUnknown, .. } => {
            format!("The lookup of {about} was begun, but its outcome is unknown, and I will not guess. ")
        }
        Outcome::Failed { code: ToolFailure::Error, message } => {
            format!("The lookup of {about} failed{}. ", because(message))
        }
    });
    said
}

/// The output in words, if it has the fields of the built-in tool.
fn report(output: &Value, asked: Option<&str>) -> Option<String> {
    let degrees = output.get("temperature_c")?.as_f64()?;
    let city = city(output).or(asked)?;
    let sky = output.get("conditions").and_then(Value::as_str).map_or(String::new(), |sky| format!(", with {sky}"));
    let demo = output.get("demo") == Some(&Value::Bool(true));
    let demo = if demo { "That is demo data, made up from the name of the city. " } else { "" };
    Some(format!("In {} it is {degrees} °C now{}. {demo}", clip(city, OUTPUT_BYTES_MAX), clip(&sky, OUTPUT_BYTES_MAX)))
}

fn city(fields: &Value) -> Option<&str> {
    fields.get("city").and_then(Value::as_str)
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    clip(&text, OUTPUT_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(outcome: Outcome, edited: Option<Value>) -> String {
        let arguments = json!({"city": "Oslo"});
        let lookup =
            Lookup { name: "get_weather", arguments: Some(&arguments), edited: edited.as_ref(), outcome: &outcome };
        tell(&[lookup]).text()
    }

    fn failed(code: ToolFailure, message: &str) -> String {
        told(Outcome::Failed { code, message: message.into() }, None)
    }

    #[test]
    fn an_output_is_told_in_words_whatever_it_is() {
        let output = json!({"city": "Oslo", "temperature_c": -3, "conditions": "wet snow", "demo": true});
        let text = told(Outcome::Output(output), None);
        assert!(text.starts_with("In Oslo it is -3 °C now, with wet snow. That is demo data"), "{text}");
        let text = told(Outcome::Output(json!("mild, they say")), None);
        assert!(text.contains("the weather in Oslo") && text.contains("mild, they say"), "{text}");
        let text = told(Outcome::Output(json!({"temperature_c": 4.5})), Some(json!({"city": "Bergen"})));
        assert!(
            text.starts_with("You changed the city to Bergen") && text.contains("In Bergen it is 4.5 °C"),
            "{text}"
        );
        assert!(told(Outcome::Output(json!(["x".repeat(100_000)])), Some(json!({"n": 1}))).len() < 1_000);
    }

    #[test]
    fn each_failure_is_told_as_what_it_is() {
        let denied = failed(ToolFailure::DeniedByUser, "too nosy");
        assert!(denied.contains("refused") && denied.contains("\"too nosy\""), "{denied}");
        let late = failed(ToolFailure::ApprovalTimedOut, "");
        assert!(late.contains("nobody answered") && !late.contains("refused"), "{late}");
        assert!(failed(ToolFailure::Interrupted, "").contains("interrupted"));
        assert!(failed(ToolFailure::OutcomeUnknown, "").contains("unknown"));
        assert!(failed(ToolFailure::Error, "no such city").contains("failed (\"no such city\")"));
    }
}
