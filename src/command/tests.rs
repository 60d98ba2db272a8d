//! Decoding, limits and fingerprints of commands.

use super::*;

fn code(text: &str) -> &'static str {
    Command::decode(text.as_bytes()).unwrap_err().code()
}

#[test]
fn the_shortest_commands_have_defaults() {
    assert_eq!(Command::decode(br#"{"type":"cancel"}"#).unwrap(), Command::Cancel(Cancel::default()));
    let Command::Steer(steer) = Command::decode(br#"{"type":"steer","content":"x"}"#).unwrap() else { panic!() };
    assert_eq!((steer.when, steer.if_idle), (SteerWhen::Now, IfIdle::Start));
}

#[test]
fn what_is_not_a_command_is_named() {
    assert_eq!(code(""), "bad_json");
    assert_eq!(code(r#"{"type":"cancel""#), "bad_json");
    assert_eq!(code(r#"{"type":"cancel"} {}"#), "bad_json");
    assert_eq!(code("\u{feff}{\"type\":\"cancel\"}"), "bad_json");
    assert_eq!(code(r#"{"type":"cancel","reason":"\ud800"}"#), "bad_json");
    assert_eq!(code(r#"[]"#), "invalid_command");
    assert_eq!(code(r#"["cancel"]"#), "invalid_command");
    assert_eq!(code(r#"{}"#), "unknown_type");
    assert_eq!(code(r#"{"type":"explode"}"#), "unknown_type");
    assert_eq!(code(r#"{"type":7}"#), "unknown_type");
    assert_eq!(code(r#"{"type":"cancel","type":"cancel"}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"cancel","mode":"stop","mode":"stop"}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"steer"}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"steer","content":"  "}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"cancel","command_id":""}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"cancel","command_id":5}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"approve","approval_id":"a","scope":"allow"}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"tool_result","call_id":"a"}"#), "invalid_command");
    assert_eq!(code(r#"{"type":"tool_result","call_id":"a","output":1,"error":"x"}"#), "invalid_command");
    assert_eq!(code(&format!(r#"{{"type":"steer","content":"{}"}}"#, "a".repeat(20_000))), "payload_too_large");
    assert_eq!(code(&"x".repeat(COMMAND_BYTES_MAX + 1)), "payload_too_large");
    assert_eq!(code(&format!(r#"{{"type":"cancel","x":{}}}"#, "[".repeat(200))), "too_deep");
    let error = Command::decode(br#"{"type":"cancel","run":"x"}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `run`"), "{error}");
}

#[test]
fn a_null_output_is_an_output() {
    let Command::ToolResult(t) = Command::decode(br#"{"type":"tool_result","call_id":"a","output":null}"#).unwrap()
    else {
        panic!()
    };
    assert_eq!(t.output, Some(Value::Null));
}

#[test]
fn the_fingerprint_ignores_the_id_and_spelled_out_defaults() {
    let of = |text: &str| Command::decode(text.as_bytes()).unwrap().digest();
    assert_eq!(of(r#"{"type":"cancel","command_id":"a"}"#), of(r#"{"mode":"stop","type":"cancel"}"#));
    assert_ne!(of(r#"{"type":"cancel"}"#), of(r#"{"type":"cancel","mode":"rollback"}"#));
}

#[test]
fn brackets_in_strings_are_not_depth() {
    assert_eq!(json_depth(br#"{"a":"[[[\"[[","b":[{}]}"#), 3);
    assert_eq!(json_depth(b"]]]]{"), 1);
}
