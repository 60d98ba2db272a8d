//! What clients of chat completions insist on, written from their types and not from our fold.

use async_openai::types::chat::{CreateChatCompletionResponse, CreateChatCompletionStreamResponse};
use serde_json::{Map, Value, json};
use steerage::dialect::openai_chat::Options;

use super::json;

/// A client that reads one stream and joins it as OpenAI's own do.
pub(super) struct Reader {
    options: Options,
    /// What all chunks have in common.
    common: Option<Value>,
    pub(super) content: String,
    pub(super) reasoning: String,
    calls: Vec<Map<String, Value>>,
    pub(super) finish_reason: Option<String>,
    usage: Option<Value>,
    pub(super) error: Option<Value>,
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

impl Reader {
    pub(super) fn new(options: Options) -> Self {
        let (content, reasoning, calls) = Default::default();
        let (common, finish_reason, usage, error) = Default::default();
        Self { options, common, content, reasoning, calls, finish_reason, usage, error }
    }

    /// Reads one chunk, and panics where a client would give up.
    pub(super) fn read(&mut self, chunk: &str) {
        assert!(!chunk.contains('\n'), "one line: {chunk}");
        assert!(!self.is_done(), "nothing comes after the end: {chunk}");
        let value = json(chunk);
        if let Some(error) = value.get("error") {
            assert_eq!((keys(&value), keys(error)), (vec!["error"], vec!["code", "message", "param", "type"]));
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()) && error["param"].is_null());
            assert_eq!(self.finish_reason, None, "an end or an error");
            self.error = Some(error.clone());
            return;
        }
        let typed: CreateChatCompletionStreamResponse =
            serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {chunk}"));
        let mut known = vec!["choices", "created", "id", "model", "object", "system_fingerprint"];
        known.extend(self.options.include_usage.then_some("usage"));
        assert_eq!(keys(&value), known);
        let mut common = value.clone();
        common.as_object_mut().expect("an object").retain(|key, _| key != "choices" && key != "usage");
        let first = self.common.is_none();
        assert_eq!(*self.common.get_or_insert_with(|| common.clone()), common, "the same in every chunk");
        assert_eq!((typed.object.as_str(), &value["system_fingerprint"]), ("chat.completion.chunk", &Value::Null));
        if self.finish_reason.is_some() {
            assert!(self.options.include_usage && typed.choices.is_empty(), "the last chunk has the usage: {chunk}");
            self.usage = Some(value["usage"].clone());
            return;
        }
        assert!(value.get("usage").is_none_or(Value::is_null), "the usage comes last: {chunk}");
        assert_eq!(typed.choices.len(), 1, "{chunk}");
        let choice = &value["choices"][0];
        assert_eq!(keys(choice), ["delta", "finish_reason", "index", "logprobs"]);
        assert!(choice["index"] == 0 && choice["logprobs"].is_null());
        let delta = choice["delta"].as_object().expect("a delta");
        if first {
            assert_eq!(choice["delta"], json!({"role": "assistant", "content": ""}), "whose message it is comes first");
            return;
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert!(delta.is_empty(), "an end has no delta: {chunk}");
            self.finish_reason = Some(reason.to_owned());
            return;
        }
        assert_eq!(delta.len(), 1, "one thing at a time: {chunk}");
        let (key, value) = delta.iter().next().expect("a delta");
        match (key.as_str(), value) {
            ("content", Value::String(text)) if !text.is_empty() => self.content.push_str(text),
            ("reasoning_content", Value::String(text)) if !text.is_empty() => self.reasoning.push_str(text),
            ("tool_calls", Value::Array(calls)) if calls.len() == 1 => self.read_call(&calls[0], chunk),
            _ => panic!("nothing, or nothing that it knows: {chunk}"),
        }
    }

    fn read_call(&mut self, call: &Value, chunk: &str) {
        let at = usize::try_from(call["index"].as_u64().expect("an index")).expect("a small number");
        if let Some(known) = self.calls.get_mut(at) {
            assert_eq!(
                (keys(call), keys(&call["function"])),
                (vec!["function", "index"], vec!["arguments"]),
                "{chunk}"
            );
            let fragment = call["function"]["arguments"].as_str().expect("a text");
            assert!(!fragment.is_empty(), "{chunk}");
            let arguments = known["function"]["arguments"].as_str().expect("a text").to_owned() + fragment;
            known["function"]["arguments"] = arguments.into();
            return;
        }
        assert_eq!(at, self.calls.len(), "calls are counted from 0: {chunk}");
        assert_eq!(keys(call), ["function", "id", "index", "type"]);
        assert_eq!((&call["type"], keys(&call["function"])), (&json!("function"), vec!["arguments", "name"]));
        assert_eq!(call["function"]["arguments"], "", "its arguments follow: {chunk}");
        assert!(self.calls.iter().all(|other| other["id"] != call["id"]), "called once: {chunk}");
        let mut call = call.as_object().expect("an object").clone();
        call.remove("index");
        self.calls.push(call);
    }

    /// Whether it has all that can come.
    pub(super) fn is_done(&self) -> bool {
        let finished = self.finish_reason.is_some() && (self.usage.is_some() || !self.options.include_usage);
        finished || self.error.is_some()
    }

    pub(super) fn calls(&self) -> Vec<Value> {
        self.calls.iter().cloned().map(Value::Object).collect()
    }

    /// The completion that the stream was. Its usage is `None` where the client did not ask for it.
    pub(super) fn joined(&self) -> (Value, Option<Value>) {
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut message = json!({"role": "assistant", "content": said(&self.content), "refusal": null,
                                 "annotations": []});
        if let Some(reasoning) = said(&self.reasoning) {
            message["reasoning_content"] = reasoning.into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls().into();
        }
        let mut object = self.common.clone().expect("a chunk");
        object["object"] = "chat.completion".into();
        object["service_tier"] = Value::Null;
        object["choices"] =
            json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason}]);
        (object, self.usage.clone())
    }
}

/// Compares a completion with what was joined of its stream, and reads it as a client does.
pub(super) fn check_object(object: &Value, reader: &Reader) {
    let typed: CreateChatCompletionResponse =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    assert_eq!(typed.choices.len(), 1);
    let (mut joined, usage) = reader.joined();
    joined["usage"] = usage.unwrap_or_else(|| object["usage"].clone());
    assert_eq!(*object, joined, "what was streamed");
}
