//! What a response says of its request: as the request said it, or else as the session is.

use serde_json::{Map, Value, json};

use super::{read, request::SERVER_LABEL};
use crate::spec::{Executor, SessionSpec, ToolSpec};

/// What is the same in all responses of a run.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Fields of the response object, as JSON without the braces.
    pub(super) fields: String,
    /// The client's own.
    pub(super) metadata: Map<String, Value>,
    /// What the first response goes on with.
    pub(super) previous: Option<String>,
}

/// A field that a request may set; what kind of value is believed; the value where nobody says.
type Echoed = (&'static str, fn(&Value) -> bool, fn() -> Value);

const ECHOED: [Echoed; 18] = [
    ("background", Value::is_boolean, || Value::Bool(false)),
    ("instructions", Value::is_string, || Value::Null),
    ("max_output_tokens", Value::is_u64, || Value::Null),
    ("max_tool_calls", Value::is_u64, || Value::Null),
    ("parallel_tool_calls", Value::is_boolean, || Value::Bool(true)),
    ("prompt_cache_key", Value::is_string, || Value::Null),
    ("reasoning", Value::is_object, || json!({"effort": null, "summary": null})),
    ("safety_identifier", Value::is_string, || Value::Null),
    ("service_tier", Value::is_string, || Value::Null),
    ("store", Value::is_boolean, || Value::Bool(true)),
    ("temperature", Value::is_number, || Value::Null),
    ("text", Value::is_object, || json!({"format": {"type": "text"}})),
    ("tool_choice", |choice| choice.is_string() || choice.is_object(), || "auto".into()),
    ("tools", |_| false, || Value::Array(Vec::new())),
    ("top_logprobs", Value::is_u64, || 0.into()),
    ("top_p", Value::is_number, || Value::Null),
    ("truncation", Value::is_string, || "disabled".into()),
    ("user", Value::is_string, || Value::Null),
];

impl Settings {
    /// Those of a run of this session.
    pub(super) fn of(spec: &SessionSpec, started: &read::Started) -> Self {
        let echo = started.metadata.get("openai").and_then(Value::as_object);
        let said = |name: &str| echo.and_then(|echo| echo.get(name));
        let mut fields = Map::new();
        fields.insert("model".into(), started.model.clone().into());
        for (name, is_one, otherwise) in ECHOED {
            let said = said(name).filter(|value| is_one(value)).cloned();
            fields.insert(name.into(), said.or_else(|| of_session(spec, name)).unwrap_or_else(otherwise));
        }
        if let Some(Value::Object(text)) = fields.get_mut("text") {
            let format = text.entry("format").or_insert_with(|| json!({"type": "text"}));
            // Said to be nothing, it is the default: clients read an object.
            if !format.is_object() {
                *format = json!({"type": "text"});
            }
        }
        let fields = Value::Object(fields).to_string();
        let mut metadata = said("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        metadata.retain(|_, value| value.is_string());
        Self {
            fields: fields[1..fields.len() - 1].to_owned(),
            metadata,
            previous: said("previous_response_id").and_then(Value::as_str).map(ToOwned::to_owned),
        }
    }
}

/// What the session has to say of that.
fn of_session(spec: &SessionSpec, name: &str) -> Option<Value> {
    match name {
        "instructions" => spec.system.clone().map(Value::from),
        "max_output_tokens" => spec.params.max_tokens.map(Value::from),
        "temperature" => spec.params.temperature.map(Value::from),
        "top_p" => spec.params.top_p.map(Value::from),
        "tools" => Some(tools(&spec.tools).into()),
        _ => None,
    }
}

/// The client's tools are functions; the server's are together those of one MCP server.
fn tools(tools: &[ToolSpec]) -> Vec<Value> {
    let (clients, servers): (Vec<_>, Vec<_>) = tools.iter().partition(|tool| tool.executor == Executor::Client);
    let function = |tool: &ToolSpec| {
        json!({"type": "function", "name": tool.name, "description": tool.description,
               "parameters": tool.parameters, "strict": false})
    };
    let mut all: Vec<Value> = clients.into_iter().map(function).collect();
    if !servers.is_empty() {
        let names = |asks: Option<bool>| -> Vec<&str> {
            let is_one = |tool: &&&ToolSpec| asks.is_none_or(|asks| tool.needs_approval() == asks);
            servers.iter().filter(is_one).map(|tool| tool.name.as_str()).collect()
        };
        let require_approval = match (names(Some(true)), names(Some(false))) {
            (_, never) if never.is_empty() => json!("always"),
            (always, _) if always.is_empty() => json!("never"),
            (always, never) => json!({"always": {"tool_names": always}, "never": {"tool_names": never}}),
        };
        all.push(json!({"type": "mcp", "server_label": SERVER_LABEL, "allowed_tools": names(None),
                        "require_approval": require_approval}));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(spec: &SessionSpec, metadata: Value) -> (Value, Settings) {
        let metadata = metadata.as_object().cloned().unwrap_or_default();
        let settings = Settings::of(spec, &read::Started { model: "p/m".into(), metadata });
        (serde_json::from_str(&format!("{{{}}}", settings.fields)).unwrap(), settings)
    }

    fn spec(spec: Value) -> SessionSpec {
        let mut whole = json!({"model": "p/m", "retention_s": 60});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_request_is_echoed_and_what_it_leaves_out_is_as_the_session_is() {
        let spec = spec(json!({"system": "Be brief.", "params": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7}}));
        let echo = json!({"openai": {"temperature": 1.5, "text": {"verbosity": "low"}, "tool_choice": "required",
                                     "metadata": {"a": "b"}, "previous_response_id": "resp_x", "background": true}});
        let (said, settings) = fields(&spec, echo);
        assert_eq!((&said["temperature"], &said["top_p"]), (&json!(1.5), &json!(0.9)));
        assert_eq!((&said["instructions"], &said["max_output_tokens"]), (&json!("Be brief."), &json!(7)));
        assert_eq!(said["text"], json!({"verbosity": "low", "format": {"type": "text"}}));
        assert_eq!((&said["tool_choice"], &said["background"]), (&json!("required"), &json!(true)));
        assert_eq!((settings.metadata["a"].as_str(), settings.previous.as_deref()), (Some("b"), Some("resp_x")));
    }

    /// A client of the native API may write what it likes there.
    #[test]
    fn what_is_no_echo_is_not_believed() {
        let plain = fields(&spec(json!({})), json!({})).0;
        for odd in [
            json!({"openai": 5}),
            json!({"openai": {"temperature": "hot", "text": 1, "metadata": [],
            "previous_response_id": {}, "tools": 5, "store": null, "tool_choice": []}}),
        ] {
            let (said, settings) = fields(&spec(json!({})), odd);
            assert_eq!(said, plain);
            assert!(settings.metadata.is_empty() && settings.previous.is_none());
        }
        assert_eq!(plain["parallel_tool_calls"], true);
    }

    #[test]
    fn the_tools_of_the_server_are_those_of_one_mcp_server() {
        let tool = |name: &str, executor: &str, approval: &str| json!({"name": name, "executor": executor, "approval": approval, "description": "d"});
        let tools = |list: &[Value]| fields(&spec(json!({"tools": list})), json!({})).0["tools"].clone();
        let [asks, runs, theirs] =
            [("asks", "builtin", "always"), ("runs", "builtin", "never"), ("theirs", "client", "never")]
                .map(|(name, executor, approval)| tool(name, executor, approval));
        let function = json!({"type": "function", "name": "theirs", "description": "d",
                              "parameters": {"type": "object"}, "strict": false});
        let mcp = |allowed: Value, approval: Value| json!({"type": "mcp", "server_label": "steerage", "allowed_tools": allowed, "require_approval": approval});
        assert_eq!(tools(&[]), json!([]));
        assert_eq!(tools(&[asks.clone(), theirs.clone()]), json!([function, mcp(json!(["asks"]), json!("always"))]));
        assert_eq!(tools(std::slice::from_ref(&runs)), json!([mcp(json!(["runs"]), json!("never"))]));
        let both = json!({"always": {"tool_names": ["asks"]}, "never": {"tool_names": ["runs"]}});
        assert_eq!(tools(&[runs, asks]), json!([mcp(json!(["runs", "asks"]), both)]));
    }
}
