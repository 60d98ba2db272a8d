//! A prompt as the JSON that a chat-completions server reads.

use serde_json::{Map, Value, json};

use crate::provider::{Message, Prompt};

/// Fields that decide what the answer means: extras cannot replace them.
const OURS: [&str; 4] = ["model", "messages", "stream", "n"];

/// The body of `POST {base}/chat/completions`.
///
/// `extra` comes on top of the common parameters, and a `null` in it leaves a field out: servers differ in what they
/// refuse (`{"stream_options": null}`, or `{"max_tokens": null, "max_completion_tokens": 100}`).
pub(super) fn body(prompt: &Prompt, extra: Option<&Map<String, Value>>) -> Value {
    let params = &prompt.params;
    let mut body = Map::new();
    body.insert("stream_options".into(), json!({"include_usage": true}));
    let common = [
        ("temperature", params.temperature.map(Value::from)),
        ("top_p", params.top_p.map(Value::from)),
        ("max_tokens", params.max_tokens.map(Value::from)),
        ("stop", (!params.stop.is_empty()).then(|| params.stop.clone().into())),
        ("seed", params.seed.map(Value::from)),
    ];
    body.extend(common.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
    if !prompt.tools.is_empty() {
        body.insert("tools".into(), prompt.tools.iter().map(tool).collect());
    }
    if prompt.continues {
        // vLLM's and SGLang's words for it; llama.cpp knows them, and does it for a trailing answer anyway.
        body.insert("continue_final_message".into(), true.into());
        body.insert("add_generation_prompt".into(), false.into());
    }
    for (name, value) in extra.into_iter().flatten() {
        // Tools of the session carry their approval policy; a list from elsewhere must not take their place.
        if OURS.contains(&name.as_str()) || (name == "tools" && !prompt.tools.is_empty()) {
            continue;
        }
        body.insert(name.clone(), value.clone());
    }
    body.retain(|_, value| !value.is_null());
    body.insert("model".into(), prompt.model.as_str().into());
    body.insert("messages".into(), messages(prompt));
    body.insert("stream".into(), true.into());
    body.into()
}

fn tool(tool: &crate::spec::ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    })
}

/// The conversation. Strict chat templates refuse two messages of one role in a row, which a cut answer or a steer
/// leaves behind, and empty answers, which a cut in the middle of the thinking leaves behind: the first are joined by
/// a blank line, the second left out.
fn messages(prompt: &Prompt) -> Value {
    let mut list: Vec<Value> = Vec::with_capacity(prompt.messages.len() + 1);
    if let Some(system) = prompt.system.as_deref().filter(|system| !system.is_empty()) {
        say(&mut list, "system", system);
    }
    for message in &prompt.messages {
        match message {
            Message::System(text) => say(&mut list, "system", text),
            Message::User(text) => say(&mut list, "user", text),
            Message::Assistant { text, calls, .. } => {
                if !text.is_empty() || !calls.is_empty() {
                    say(&mut list, "assistant", text);
                }
                if let (Some(last), false) = (list.last_mut(), calls.is_empty()) {
                    last["tool_calls"] = calls.iter().map(call).collect();
                    // "Nothing said" beside calls is `null`: some servers refuse an empty text.
                    if last["content"] == "" {
                        last["content"] = Value::Null;
                    }
                }
            }
            Message::Tool { call_id, outcome, edited_arguments, .. } => list.push(json!({
                "role": "tool",
                "tool_call_id": call_id.as_str(),
                "content": outcome.for_model(edited_arguments.as_ref()),
            })),
        }
    }
    list.into()
}

/// Adds a plain message, to the last one if that is plain too and of the same role.
fn say(list: &mut Vec<Value>, role: &str, text: &str) {
    match list.last_mut() {
        Some(last) if last["role"] == role && last.get("tool_calls").is_none() => {
            let said = last["content"].as_str().unwrap_or_default();
            let joined =
                if said.is_empty() || text.is_empty() { [said, text].concat() } else { format!("{said}\n\n{text}") };
            last["content"] = joined.into();
        }
        _ => list.push(json!({"role": role, "content": text})),
    }
}

fn call(call: &crate::provider::Call) -> Value {
    json!({
        "id": call.call_id.as_str(),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.to_string()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::ToolFailure,
        provider::{Call, Outcome},
        spec::Params,
    };

    fn assistant(text: &str, calls: Vec<Call>) -> Message {
        Message::Assistant { text: text.into(), reasoning: "thoughts".into(), calls }
    }

    fn prompt(messages: Vec<Message>) -> Prompt {
        Prompt {
            model: "m".into(),
            system: None,
            messages,
            tools: Vec::new(),
            params: Params::default(),
            continues: false,
        }
    }

    fn call_of(id: &str) -> Call {
        Call { call_id: id.parse().unwrap(), name: "f".into(), arguments: json!({"a": 1}) }
    }

    #[test]
    fn neighbours_of_one_role_are_joined_and_empty_answers_dropped() {
        let asked = prompt(vec![
            Message::User("a".into()),
            assistant("", Vec::new()),
            Message::User("b".into()),
            assistant("c", Vec::new()),
            assistant("d", vec![call_of("1")]),
            Message::Tool {
                call_id: "1".parse().unwrap(),
                name: "f".into(),
                outcome: Outcome::Failed { code: ToolFailure::DeniedByUser, message: String::new() },
                edited_arguments: None,
            },
            assistant("", vec![call_of("2")]),
            assistant("e", Vec::new()),
        ]);
        let call = |id| json!([{"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
        assert_eq!(
            body(&asked, None)["messages"],
            json!([
                {"role": "user", "content": "a\n\nb"},
                {"role": "assistant", "content": "c\n\nd", "tool_calls": call("1")},
                {"role": "tool", "tool_call_id": "1", "content": "The user refused this tool call. It did not run."},
                {"role": "assistant", "content": null, "tool_calls": call("2")},
                {"role": "assistant", "content": "e"},
            ])
        );
    }

    #[test]
    fn common_parameters_have_their_names_and_the_usage_is_asked_for() {
        let params = serde_json::from_value(json!({
            "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["x"], "seed": -3, "tokens_per_second": 5.0,
        }));
        let tools =
            serde_json::from_value(json!([{"name": "f", "description": "does", "parameters": {"type": "object"}}]));
        let asked = Prompt {
            system: Some("be brief".into()),
            params: params.unwrap(),
            tools: tools.unwrap(),
            ..prompt(vec![Message::User("hi".into())])
        };
        assert_eq!(
            body(&asked, None),
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true},
                "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["x"], "seed": -3,
                "tools": [{"type": "function", "function":
                    {"name": "f", "description": "does", "parameters": {"type": "object"}}}],
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            })
        );
    }

    #[test]
    fn an_unfinished_answer_comes_last_and_is_to_be_continued() {
        let messages = vec![Message::User("hi".into()), assistant("It was the th", Vec::new())];
        let mut asked = Prompt { continues: true, ..prompt(messages) };
        let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "It was the th"}]);
        assert_eq!(
            body(&asked, json!({"stream_options": null}).as_object()),
            json!({
                "model": "m", "stream": true, "continue_final_message": true, "add_generation_prompt": false,
                "messages": messages,
            })
        );
        let extra = json!({"stream_options": null, "continue_final_message": null, "add_generation_prompt": null});
        let plain = json!({"model": "m", "stream": true, "messages": messages});
        assert_eq!(body(&asked, extra.as_object()), plain);
        asked.continues = false;
        assert_eq!(body(&asked, json!({"stream_options": null}).as_object()), plain);
    }

    #[test]
    fn extras_add_replace_and_remove_but_not_what_decides_the_meaning() {
        let mut asked = prompt(vec![Message::User("hi".into())]);
        asked.params.max_tokens = Some(5);
        let extra = json!({
            "model": "other", "messages": [], "stream": false, "n": 4,
            "top_k": 3, "max_tokens": null, "max_completion_tokens": 6, "stream_options": null,
        });
        assert_eq!(
            body(&asked, extra.as_object()),
            json!({
                "model": "m", "stream": true, "top_k": 3, "max_completion_tokens": 6,
                "messages": [{"role": "user", "content": "hi"}],
            })
        );
    }
}
