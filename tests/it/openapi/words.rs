//! Every value of every enumeration, every field that is taken, every limit.
//!
//! Serde names what it would have taken when it refuses something; so nothing is listed here a second time. The few
//! words that are only written have a `match` that does not compile when one is added.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use steerage::{
    command::{self, ApprovalScope, CancelMode, Command, CommandKind, IfIdle, IfRunning, Reason, SteerWhen},
    dialect::ai_sdk::request as chat,
    event::{
        ApprovalOutcome, CloseReason, Durability, Event, FailureCode, FinishReason, RecoveryMode, SessionLimit,
        ToolFailure, Trigger, WithdrawReason,
    },
    log::CursorLost,
    openai, registry,
    session::{
        self,
        conversation::{CallState, MessageStatus},
        view::SessionState,
    },
    spec::{ApprovalPolicy, Executor, OnDisconnect, Role, ToolSpec},
};

use super::{document, strings};

/// What `T` says that it would have taken in place of `value`.
fn expected<T: DeserializeOwned>(value: Value) -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(value.clone()) else { panic!("{value} was taken") };
    let error = error.to_string();
    let (_, list) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn variants<T: DeserializeOwned>() -> BTreeSet<String> {
    expected::<T>(json!("?"))
}

/// The fields that `T` takes, where it refuses those that it does not know.
fn fields<T: DeserializeOwned>(mut value: Value) -> BTreeSet<String> {
    value["?"] = json!(0);
    expected::<T>(value)
}

fn described(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().expect("properties").keys().cloned().collect()
}

fn kinds(schemas: &Value, name: &str) -> BTreeSet<String> {
    let schema = &schemas[name];
    let mapped = schema["discriminator"]["mapping"].as_object().expect("a mapping");
    let listed: BTreeSet<_> =
        schema["oneOf"].as_array().expect("one of").iter().map(|r| r["$ref"].clone()).map(|r| r.to_string()).collect();
    assert_eq!(listed, mapped.values().map(Value::to_string).collect(), "{name}: oneOf and mapping differ");
    for (kind, reference) in mapped {
        let target = reference.as_str().and_then(|r| r.rsplit('/').next()).expect("a reference");
        assert_eq!(schemas[target]["properties"]["type"]["const"], *kind, "{target}");
    }
    mapped.keys().cloned().collect()
}

#[test]
fn every_word_is_in_the_document_and_the_other_way_round() {
    let schemas = &document()["components"]["schemas"];
    let check = |name: &str, words: BTreeSet<String>| {
        assert_eq!(strings(&schemas[name]["enum"]), words, "{name}");
    };
    check("ApprovalOutcome", variants::<ApprovalOutcome>());
    check("ApprovalScope", variants::<ApprovalScope>());
    check("CancelMode", variants::<CancelMode>());
    check("CloseReason", variants::<CloseReason>());
    check("CommandKind", variants::<CommandKind>());
    check("CommandStatus", variants::<command::Status>());
    check("Durability", variants::<Durability>());
    check("Executor", variants::<Executor>());
    check("FailureCode", variants::<FailureCode>());
    check("FinishReason", variants::<FinishReason>());
    check("RecoveryMode", variants::<RecoveryMode>());
    check("RejectReason", variants::<Reason>());
    check("Role", variants::<Role>());
    check("SessionLimit", variants::<SessionLimit>());
    check("SessionState", variants::<SessionState>());
    check("SteerWhen", variants::<SteerWhen>());
    check("ToolFailure", variants::<ToolFailure>());
    check("Trigger", variants::<Trigger>());
    check("WithdrawReason", variants::<WithdrawReason>());
    let inline = |schema: &str, field: &str| strings(&schemas[schema]["properties"][field]["enum"]);
    assert_eq!(inline("Steer", "if_idle"), variants::<IfIdle>());
    assert_eq!(inline("Send", "if_running"), variants::<IfRunning>());
    assert_eq!(inline("ToolSpec", "approval"), variants::<ApprovalPolicy>());
    assert_eq!(inline("Message", "status"), message_statuses());
    assert_eq!(inline("ToolCallPart", "state"), call_states());
    assert_eq!(inline("Reset", "reason"), lost_cursors());
    assert_eq!(kinds(schemas, "Event"), expected::<Event>(json!({"type": "?"})));
    assert_eq!(kinds(schemas, "Command"), expected::<Command>(json!({"type": "?"})));
    for name in ["Part", "Notice", "UiMessageChunk", "ChatSocketRequest", "ChatSocketMessage"] {
        kinds(schemas, name);
    }
    for name in ["ResponseEvent", "OutputItem", "ResponseSocketRequest", "ResponseSocketNews"] {
        kinds(schemas, name);
    }
    let refusals = strings(&schemas["ApiErrorCode"]["enum"]);
    assert!(refusals.is_superset(&variants::<FailureCode>()), "a run that failed is told by its code");
    assert_eq!(inline("ChatSubmission", "trigger"), variants::<chat::Trigger>());
}

fn written<T: serde::Serialize>(all: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    let word = |one| serde_json::to_value(one).expect("plain JSON").as_str().expect("a word").to_owned();
    all.into_iter().map(word).collect()
}

fn message_statuses() -> BTreeSet<String> {
    use MessageStatus::{Cancelled, Complete, Failed, Steered, Streaming};
    let _all = |one| match one {
        Complete | Streaming | Steered | Cancelled | Failed => {}
    };
    written([Complete, Streaming, Steered, Cancelled, Failed])
}

fn call_states() -> BTreeSet<String> {
    use CallState::{AwaitingApproval, Completed, Failed, Ready, Running, Streaming};
    let _all = |one| match one {
        Streaming | Ready | AwaitingApproval | Running | Completed | Failed => {}
    };
    written([Streaming, Ready, AwaitingApproval, Running, Completed, Failed])
}

fn lost_cursors() -> BTreeSet<String> {
    use CursorLost::{Ahead, Epoch};
    let _all = |one| match one {
        Epoch | Ahead => {}
    };
    written([Epoch, Ahead])
}

#[test]
fn every_field_that_is_taken_is_described_and_the_other_way_round() {
    let schemas = &document()["components"]["schemas"];
    let commands = [
        ("Cancel", json!({"type": "cancel"})),
        ("Steer", json!({"type": "steer", "content": "x"})),
        ("Approve", json!({"type": "approve", "approval_id": "x"})),
        ("Deny", json!({"type": "deny", "approval_id": "x"})),
        ("ToolResult", json!({"type": "tool_result", "call_id": "x"})),
        ("Send", json!({"type": "send", "content": "x"})),
        ("Regenerate", json!({"type": "regenerate"})),
        ("Withdraw", json!({"type": "withdraw", "target": "x"})),
    ];
    for (name, shortest) in commands {
        let mut taken = fields::<Command>(shortest.clone());
        taken.insert("type".into());
        assert_eq!(described(&schemas[name]), taken, "{name}");
        let required: BTreeSet<_> = shortest.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(strings(&schemas[name]["required"]), required, "{name}");
    }
    let said = json!({"message_id": "x", "role": "user"});
    assert_eq!(described(&schemas["HistoryMessage"]), fields::<command::Said>(said));
    let message = json!({"role": "user"});
    assert_eq!(described(&schemas["InputMessage"]), fields::<command::InputMessage>(message));
    let call = json!({"call_id": "x", "name": "x", "arguments": {}, "output": 1});
    assert_eq!(described(&schemas["InputCall"]), fields::<command::InputCall>(call));
    assert_eq!(described(&schemas["ToolSpec"]), fields::<ToolSpec>(json!({"name": "x"})));
    assert_eq!(described(&schemas["OnDisconnect"]), fields::<OnDisconnect>(json!({"cancel_after_s": 1})));
}

#[test]
fn the_limits_are_those_of_the_code() {
    let schemas = &document()["components"]["schemas"];
    assert_eq!(schemas["Steer"]["properties"]["content"]["maxLength"], command::STEER_BYTES_MAX);
    assert_eq!(schemas["Cancel"]["properties"]["reason"]["maxLength"], command::REASON_BYTES_MAX);
    assert_eq!(schemas["Deny"]["properties"]["message"]["maxLength"], command::REASON_BYTES_MAX);
    assert_eq!(schemas["CreateSession"]["properties"]["tools"]["maxItems"], registry::TOOLS_MAX);
    for (name, field) in [("CreateCompletion", "messages"), ("CreateCompletion", "tools"), ("CreateResponse", "tools")]
    {
        let max = if field == "tools" { openai::TOOLS_MAX } else { openai::MESSAGES_MAX };
        assert_eq!(schemas[name]["properties"][field]["maxItems"], max, "{name}.{field}");
    }
    assert_eq!(schemas["CreateResponse"]["properties"]["input"]["oneOf"][1]["maxItems"], openai::MESSAGES_MAX);
    assert_eq!(schemas["InputApproval"]["properties"]["reason"]["maxLength"], command::REASON_BYTES_MAX);
    let limits = session::state::Limits::default();
    let retention = &schemas["CreateSession"]["properties"]["retention_s"];
    assert_eq!(retention["maximum"], limits.retention_max_s);
    assert_eq!(retention["default"], limits.retention_s);
    assert_eq!(schemas["OnDisconnect"]["properties"]["cancel_after_s"]["maximum"], registry::CANCEL_AFTER_MAX_S);
}
