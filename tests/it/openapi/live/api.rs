//! OpenAI's doors, held against the document: every event, chunk, item, word and code is shown once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{super::strings, completions, contract::Observer, lanes, responses};
use crate::support::client::Answer;

/// Codes that these scenes do not bring about: limits, races and broken connections, each with a test of its own or none.
const NOT_HERE: [&str; 7] =
    ["bad_request", "busy", "overloaded", "request_timeout", "session_limit", "session_not_found", "too_many_sessions"];

#[tokio::test(start_paused = true)]
async fn everything_that_openai_s_doors_answer_is_as_documented() {
    let (server, observer) = completions::stage();
    completions::answers(&observer).await;
    completions::failures(&observer).await;
    completions::refusals(&observer).await;
    responses::answers(&observer).await;
    responses::tools(&observer).await;
    responses::conversations(&observer).await;
    responses::refusals(&observer).await;
    lanes::steers(&observer).await;
    lanes::mistakes(&observer).await;
    completions::store_failed(&observer).await;
    super::limits::too_many(&observer).await;
    super::keys(&observer).await;
    super::tokens::tokens(&observer).await;
    drop(server);

    let schemas = &observer.document["components"]["schemas"];
    let mapped = |kind: &str, name: &str| {
        let mapping = schemas[name]["discriminator"]["mapping"].as_object().expect("a mapping");
        mapping.keys().map(|key| format!("{kind} {key}")).collect::<Vec<_>>()
    };
    let words =
        |kind: &str, list: &Value| strings(list).into_iter().map(|word| format!("{kind} {word}")).collect::<Vec<_>>();
    let deltas = schemas["CompletionDelta"]["properties"].as_object().expect("properties");
    let properties = &schemas["Response"]["properties"];
    let all = [
        deltas.keys().map(|name| format!("delta {name}")).collect(),
        words("finish", &schemas["CompletionFinish"]["enum"]),
        mapped("event", "ResponseEvent"),
        mapped("news", "ResponseSocketNews"),
        mapped("item", "OutputItem"),
        words("status", &schemas["ResponseStatus"]["enum"]),
        words("reason", &properties["incomplete_details"]["oneOf"][0]["properties"]["reason"]["enum"]),
        words("error", &properties["error"]["oneOf"][0]["properties"]["code"]["enum"]),
        words("kind", &schemas["ApiError"]["properties"]["type"]["enum"]),
        words("code", &schemas["ApiErrorCode"]["enum"]),
        ["item function_call_output", "input user", "input system", "usage", "[DONE]"].map(str::to_owned).to_vec(),
    ];
    let shown = observer.api.borrow();
    let missed: BTreeSet<_> = all.into_iter().flatten().filter(|name| !shown.contains(name)).collect();
    let expected = NOT_HERE.iter().map(|code| format!("code {code}")).collect();
    assert_eq!(missed, expected, "what these scenes do not show");
}

impl Observer {
    fn note(&self, kind: &str, name: &Value) {
        let name = name.as_str().unwrap_or_else(|| panic!("a {kind} without a name"));
        self.api.borrow_mut().insert(format!("{kind} {name}"));
    }

    /// What a body says, by the words that name it.
    pub(super) fn noted(&self, body: &Value) {
        if body["error"]["type"].is_string() {
            self.note("kind", &body["error"]["type"]);
            self.note("code", &body["error"]["code"]);
        }
        match body["object"].as_str() {
            Some("response") if body["deleted"] != true => {
                self.note("status", &body["status"]);
                body["incomplete_details"].as_object().into_iter().for_each(|why| self.note("reason", &why["reason"]));
                body["error"].as_object().into_iter().for_each(|why| self.note("error", &why["code"]));
                body["output"].as_array().expect("items").iter().for_each(|item| self.note("item", &item["type"]));
            }
            Some("list") => {
                for item in body["data"].as_array().expect("a list").iter().filter(|item| item["type"].is_string()) {
                    match item["role"].as_str() {
                        Some("user" | "system") => self.note("input", &item["role"]),
                        _ => self.note("item", &item["type"]),
                    }
                }
            }
            Some("chat.completion") => self.note("finish", &body["choices"][0]["finish_reason"]),
            _ => {}
        }
    }

    /// A refusal: its status and its code.
    pub(super) async fn denied(&self, path: &str, body: Value, status: u16, code: &str) -> Value {
        let answer = self.post(path, body.clone()).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{path} {body}: {error}");
        error
    }

    /// A stream of chunks to its end.
    pub(super) fn chunks_of(&self, method: &str, path: &str, answer: Answer) -> Vec<Value> {
        let mut data = self.events_of(method, path, answer, "CompletionFrame");
        assert_eq!(data.pop().as_ref().map(|(_, data)| data.as_str()), Some("[DONE]"));
        self.api.borrow_mut().insert("[DONE]".to_owned());
        let chunks: Vec<Value> = data.iter().map(|(_, data)| serde_json::from_str(data).expect("JSON")).collect();
        for chunk in &chunks {
            let name = if chunk["error"].is_null() { "CompletionChunk" } else { "CompletionFailure" };
            self.check(&json!({"$ref": format!("#/components/schemas/{name}")}), chunk);
            self.noted(chunk);
            let choice = &chunk["choices"][0];
            for (field, _) in choice["delta"].as_object().into_iter().flatten() {
                self.note("delta", &json!(field));
            }
            if choice["finish_reason"].is_string() {
                self.note("finish", &choice["finish_reason"]);
            }
            if chunk["usage"].is_object() {
                self.api.borrow_mut().insert("usage".to_owned());
            }
        }
        chunks
    }

    /// A stream of a response to its end.
    pub(super) fn told(&self, method: &str, path: &str, answer: Answer) -> Vec<Value> {
        let all = self.events_of(method, path, answer, "ResponseFrame");
        let told = all.into_iter().map(|(event, data)| {
            let data: Value = serde_json::from_str(&data).expect("JSON");
            assert_eq!(data["type"], event);
            self.response_event(&data);
            data
        });
        told.collect()
    }

    /// An event of a response.
    pub(super) fn response_event(&self, event: &Value) {
        let kind = event["type"].as_str().unwrap_or_else(|| panic!("no type: {event}"));
        let mapping = &self.document["components"]["schemas"]["ResponseEvent"]["discriminator"]["mapping"];
        assert!(mapping[kind].is_string(), "{kind} is not in the document");
        self.check(&json!({"$ref": mapping[kind]}), event);
        self.note("event", &event["type"]);
        self.noted(&event["response"]);
    }

    /// The blocks of a stream: `event:` and `data:`. Nothing else is sent, and comments.
    fn events_of(&self, method: &str, path: &str, answer: Answer, frame: &str) -> Vec<(String, String)> {
        let answer = self.answered(method, path, answer);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert!(answer.headers.contains_key("steerage-session"), "{:?}", answer.headers);
        let text = String::from_utf8(answer.body).expect("a stream is UTF-8");
        let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
        let read = |block: &str| {
            let (mut event, mut data) = (None, None);
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("event", value)) => event = Some(value.to_owned()),
                    Some(("data", value)) => data = Some(value.to_owned()),
                    _ => panic!("a line that no door of these sends: {line}"),
                }
            }
            let data = data.expect("a block has data");
            let mut shown = json!({"data": data});
            event.iter().for_each(|event| shown["event"] = json!(event));
            self.check(&json!({"$ref": format!("#/components/schemas/{frame}")}), &shown);
            (event.unwrap_or_default(), data)
        };
        blocks.map(read).collect()
    }
}
