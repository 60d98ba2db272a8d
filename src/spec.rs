//! What a client asks a session to be: model, instructions, tools, sampling parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Everything of a session that is fixed when it is created. Stored in `session.created`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Model name, `PROVIDER/NAME`, already resolved.
    pub model: String,
    /// System instructions, put before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// Sampling parameters.
    #[serde(default, skip_serializing_if = "Params::is_default")]
    pub params: Params,
    /// Whatever the client wants to find again; never interpreted.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Seconds after the last activity until the session expires.
    pub retention_s: u64,
    /// What happens when the last reader has gone; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disconnect: Option<OnDisconnect>,
}

/// Opt-in: a run whose readers have all gone is cancelled after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnDisconnect {
    /// Seconds from the moment the last reader left.
    pub cancel_after_s: u64,
}

/// Sampling parameters: the common ones by name, a provider's own under the provider's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Above 0, up to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Tokens of one step's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts that end the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Reproducibility, where the provider has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Rate of the demo provider; others ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Extra fields per provider name, passed on as they are.
    #[serde(flatten, deserialize_with = "extras")]
    pub extra: BTreeMap<String, Map<String, Value>>,
}

/// What is not one of the common parameters is an object of a provider's, or a mistake that is named.
fn extras<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Map<String, Value>>, D::Error> {
    let object = |(name, value): (String, Value)| match value {
        Value::Object(extra) => Ok((name, extra)),
        _ => Err(serde::de::Error::custom(format_args!(
            "unknown parameter `{}`; a provider's own parameters are an object under its name",
            clip(&name, 64)
        ))),
    };
    BTreeMap::<String, Value>::deserialize(d)?.into_iter().map(object).collect()
}

impl Params {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every number is in its range and every extra belongs to one of `providers`.
    pub fn check<'a>(&self, mut providers: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
        if self.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err("params.temperature is a number from 0 to 2".into());
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err("params.top_p is a number above 0, up to 1".into());
        }
        if self.max_tokens == Some(0) {
            return Err("params.max_tokens is at least 1".into());
        }
        if self.tokens_per_second.is_some_and(|r| !(r > 0.0 && r <= 100_000.0)) {
            return Err("params.tokens_per_second is a number above 0, up to 100000".into());
        }
        if self.stop.len() > 16 || self.stop.iter().any(|s| s.is_empty() || s.len() > 256) {
            return Err("params.stop is at most 16 texts of 1 to 256 bytes".into());
        }
        match self.extra.keys().find(|name| !providers.clone().any(|known| known == name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let known = providers.next().unwrap_or("demo");
                Err(format!(
                    "params.{} is neither a parameter (temperature, top_p, max_tokens, stop, seed, tokens_per_second) \
                     nor the name of a provider (such as {known})",
                    clip(name, 64)
                ))
            }
        }
    }
}

/// The first `bytes` of a text, cut at a character: foreign text in an error message stays short.
pub fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// A person.
    User,
    /// The model.
    Assistant,
}

/// Who runs a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// The client: it sees `tool_call.ready` and answers with a `tool_result` command.
    Client,
    /// This server, from its own tools.
    Builtin,
}

/// Whether a person must say yes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalPolicy {
    /// Every call waits for an `approve` command.
    Always,
    /// No call waits.
    Never,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the arguments object.
    #[serde(default = "any_object")]
    pub parameters: Value,
    /// Who runs it; the client unless said otherwise.
    #[serde(default = "client")]
    pub executor: Executor,
    /// `always` by default for what the server runs, `never` for what the client runs itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalPolicy>,
    /// Seconds until an unanswered approval times out; the server has a default, usually 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_timeout_s: Option<u64>,
    /// Seconds that one execution may take; 60 for the server's tools, 600 for the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// Whether running it twice with the same arguments does no harm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// Of a client's tool: a call of it ends the run, as completed, and its result comes with what the client asks next.
    /// Without it the run waits for the result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_run: bool,
}

fn any_object() -> Value {
    serde_json::json!({"type": "object"})
}

fn client() -> Executor {
    Executor::Client
}

/// Longest time-out that a tool may ask for: a day, the default retention.
const TIMEOUT_MAX_S: u64 = 86_400;

impl ToolSpec {
    /// Whether a call of it waits for a person.
    pub fn needs_approval(&self) -> bool {
        match self.approval {
            Some(policy) => policy == ApprovalPolicy::Always,
            None => self.executor != Executor::Client,
        }
    }

    /// Seconds that one execution may take. A person may be the client's tool, hence the longer default.
    pub fn timeout_s(&self) -> u64 {
        self.timeout_s.unwrap_or(match self.executor {
            Executor::Client => 600,
            Executor::Builtin => 60,
        })
    }

    /// Whether the declaration makes sense.
    pub fn check(&self) -> Result<(), String> {
        let name_ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(name_ok) {
            return Err("a tool name is 1 to 64 of A-Z a-z 0-9 _ -".into());
        }
        let name = &self.name;
        for (field, value) in [("approval_timeout_s", self.approval_timeout_s), ("timeout_s", self.timeout_s)] {
            if value.is_some_and(|s| !(1..=TIMEOUT_MAX_S).contains(&s)) {
                return Err(format!("tool {name}: {field} is 1 to {TIMEOUT_MAX_S} seconds"));
            }
        }
        if self.ends_run && self.executor != Executor::Client {
            return Err(format!("tool {name}: only a client's tool ends a run"));
        }
        if !self.parameters.is_object() {
            return Err(format!("tool {name}: parameters is a JSON Schema object"));
        }
        match jsonschema::validator_for(&self.parameters) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("tool {name}: parameters is not a JSON Schema: {}", clip(&error.to_string(), 256)))
            }
        }
    }

    /// Whether `arguments` fit the schema; the message names the first place that does not.
    pub fn check_arguments(&self, arguments: &Value) -> Result<(), String> {
        let validator = jsonschema::validator_for(&self.parameters).map_err(|error| error.to_string())?;
        match validator.iter_errors(arguments).next() {
            None => Ok(()),
            Some(error) => {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "arguments" } else { &place };
                Err(format!("{}: {}", clip(place, 128), clip(&error.to_string(), 256)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn weather() -> ToolSpec {
        serde_json::from_value(json!({
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }))
        .unwrap()
    }

    #[test]
    fn arguments_are_checked_against_the_schema() {
        assert_eq!(weather().check_arguments(&json!({"city": "Oslo"})), Ok(()));
        let error = weather().check_arguments(&json!({"city": 5})).unwrap_err();
        assert!(error.contains("/city"), "{error}");
        assert!(weather().check_arguments(&json!({})).is_err());
    }

    #[test]
    fn a_schema_that_is_none_and_a_reference_elsewhere_are_refused() {
        let bad = ToolSpec { parameters: json!({"type": "objekt"}), ..weather() };
        assert!(bad.check().unwrap_err().contains("not a JSON Schema"));
        let elsewhere = ToolSpec { parameters: json!({"$ref": "http://127.0.0.1:1/schema.json"}), ..weather() };
        assert!(elsewhere.check().is_err(), "a schema must never be fetched");
    }

    #[test]
    fn extras_belong_to_a_provider() {
        let params: Params = serde_json::from_value(json!({"temperature": 1.0, "local": {"top_k": 5}})).unwrap();
        assert_eq!(params.check(["local"].into_iter()), Ok(()));
        assert!(params.check(["demo"].into_iter()).unwrap_err().contains("params.local"));
        let error = serde_json::from_value::<Params>(json!({"temprature": 1.0})).unwrap_err();
        assert!(error.to_string().contains("`temprature`"), "{error}");
    }

    #[test]
    fn the_default_policy_asks_for_what_the_server_runs() {
        assert!(!weather().needs_approval());
        assert!(ToolSpec { executor: Executor::Builtin, ..weather() }.needs_approval());
    }
}
