//! Chat Completions: every kind of chunk, of end, of refusal.

use std::time::Duration;

use serde_json::{Value, json};
use steerage::{
    event::{FailureCode, FinishReason},
    provider::ProviderError,
};

use super::contract::Observer;
use crate::support::{
    Breakable, TestServer,
    script::{Line, Scripted, Work, calls, says},
    unmetered,
};

pub(super) const API: &str = "/v1/chat/completions";

/// Why runs fail, each once.
const FAILURES: [FailureCode; 17] = {
    use FailureCode::*;
    [
        UpstreamUnreachable,
        UpstreamTls,
        UpstreamRedirect,
        UpstreamRejected,
        UpstreamOverloaded,
        UpstreamError,
        UpstreamProtocol,
        UpstreamBadJson,
        UpstreamLineTooLong,
        UpstreamStalled,
        UpstreamDisconnected,
        UpstreamTruncated,
        ToolIdConflict,
        Limit,
        ServerShutdown,
        OwnerLost,
        Internal,
    ]
};

/// A server with a model that fails in every way, is filtered, and calls a slow tool.
pub(super) fn stage() -> (TestServer, Observer) {
    let fails = FAILURES.map(|code| vec![Line::Fail(ProviderError::fatal(code, "as the script says"))]);
    let filtered = || vec![Line::Say("I would"), Line::End(FinishReason::ContentFilter)];
    let answers = fails.into_iter().chain([filtered(), filtered(), calls(&[("work", json!({"n": 1}))]), says("done")]);
    let script = Scripted::new(answers);
    let work = Work::taking(Duration::from_secs(20));
    let server = TestServer::configured(unmetered(), |server| server.provider("script", script).tool(work));
    let observer = Observer::new(server.client());
    (server, observer)
}

/// A question to a model of the demo provider.
pub(super) fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "tokens_per_second": 100_000, "messages": [{"role": "user", "content": text}]})
}

/// The same with more parameters.
pub(super) fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn weather() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}])
}

impl Observer {
    async fn completed(&self, body: Value) -> Vec<Value> {
        let answer = self.client.post(API, with(body, json!({"stream": true}))).await;
        self.chunks_of("POST", API, answer)
    }
}

/// Text, thoughts, functions and their results, limits; whole, as chunks, and again.
pub(super) async fn answers(observer: &Observer) {
    let usage = json!({"stream_options": {"include_usage": true}});
    observer.completed(with(ask("demo/reasoning", "think"), usage)).await;
    observer.completed(with(ask("demo/echo", "one two three"), json!({"max_tokens": 2}))).await;
    let question = with(ask("demo/tools", "the weather in Oslo"), json!({"tools": weather()}));
    observer.completed(question.clone()).await;
    let answer = observer.post(API, question.clone()).await.json();
    let message = answer["choices"][0]["message"].clone();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
    let result =
        json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "{\"temperature_c\":3}"});
    let mut messages = question["messages"].as_array().unwrap().clone();
    messages.extend([message, result]);
    let answer = observer.post(API, with(question, json!({"messages": messages}))).await;
    let session = answer.headers["steerage-session"].clone();
    for query in
        ["", "?stream=true", "?stream=true&starting_after=2&include_usage=true", "?stream=true&starting_after=999"]
    {
        let path = format!("{API}/chatcmpl-{session}{query}");
        match query.is_empty() {
            true => assert_eq!(observer.get(&path).await.json(), answer.json()),
            false => drop(observer.chunks_of("GET", &path, observer.client.get(&path).await)),
        }
    }
}

/// Runs that fail, for every reason, are cancelled, or take back what they have shown.
pub(super) async fn failures(observer: &Observer) {
    for code in FAILURES {
        let answer = observer.post(API, ask("script/m", "go")).await;
        let error = &answer.json()["error"];
        assert_eq!(error["code"], serde_json::to_value(code).unwrap());
        assert_eq!(answer.headers.get("x-should-retry").map(String::as_str), Some("false"));
        assert!(answer.headers.contains_key("steerage-session"), "{answer:?}");
    }
    assert_eq!(observer.post(API, ask("script/m", "go")).await.json()["choices"][0]["finish_reason"], "content_filter");
    observer.completed(ask("demo/chaos", "error")).await;
    observer.completed(ask("demo/chaos", "overloaded")).await;
    observer.completed(with(ask("demo/chaos", "bad_tool"), json!({"tools": weather()}))).await;
    for stream in [true, false] {
        let slow = with(ask("demo/story", "go"), json!({"tokens_per_second": 30, "stream": stream, "store": true}));
        let cancel = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let session = observer.any().await;
            observer.command(&session, json!({"type": "cancel"}), "applied").await;
        };
        let (answer, ()) = tokio::join!(observer.client.post(API, slow), cancel);
        match stream {
            true => drop(observer.chunks_of("POST", API, answer)),
            false => assert_eq!(observer.answered("POST", API, answer).json()["error"]["code"], "cancelled"),
        }
    }
}

/// Requests that nothing comes of.
pub(super) async fn refusals(observer: &Observer) {
    let question = || ask("demo/echo", "go");
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]);
    for (body, code, param) in [
        (json!({"model": "demo/echo"}), "missing_required_parameter", "messages"),
        (with(question(), json!({"messages": 5})), "invalid_type", "messages"),
        (with(question(), json!({"temperature": 5})), "invalid_value", "temperature"),
        (with(question(), json!({"functions": []})), "unsupported_parameter", "functions"),
        (with(question(), json!({"n": 2})), "unsupported_value", "n"),
        (with(question(), json!({"messages": image})), "unsupported_value", "messages[0].content[0]"),
        (with(question(), json!({"instructions": "x"})), "unknown_parameter", "instructions"),
    ] {
        assert_eq!(observer.denied(API, body, 400, code).await["param"], param);
    }
    observer.denied(API, ask("nobody/nothing", "go"), 404, "model_not_found").await;
    observer.denied(API, json!([]), 400, "invalid_request").await;
    let (typed, plain) = ([("content-type", "application/json")], [("content-type", "text/plain")]);
    let deep = "[".repeat(100);
    let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(5 << 20));
    for (headers, body, status) in
        [(&typed, "", 400), (&typed, deep.as_str(), 400), (&typed, long.as_str(), 413), (&plain, "{}", 415)]
    {
        let answer = observer.client.request("POST", API, headers, body.as_bytes()).await;
        assert_eq!(observer.answered("POST", API, answer).status, status);
    }
    let keyed = [typed[0], ("idempotency-key", "k1")];
    let one = question().to_string();
    let ids = [one.as_str(), one.as_str(), "{\"messages\":[{\"role\":\"user\",\"content\":\"else\"}]}"];
    let mut answers = Vec::new();
    for body in ids {
        let answer = observer.client.request("POST", API, &keyed, body.as_bytes()).await;
        answers.push(observer.answered("POST", API, answer));
    }
    assert_eq!(answers[0].json(), answers[1].json());
    assert_eq!(answers[2].json()["error"]["code"], "idempotency_key_reused");
    for (path, status) in [
        (format!("{API}/chatcmpl-nobody"), 404),
        (format!("{API}/nobody"), 404),
        (format!("{API}/chatcmpl-nobody?starting_after=-1"), 400),
        ("/v1/models/demo%2Fecho".into(), 200),
        ("/v1/models/echo".into(), 200),
        ("/v1/models/nothing".into(), 404),
        ("/v1/models".into(), 200),
    ] {
        assert_eq!(observer.get(&path).await.status, status, "{path}");
    }
    for (method, path) in [("PUT", API), ("GET", "/v1/nothing")] {
        let wrong = observer.client.request(method, path, &[], b"").await;
        observer.check(&json!({"$ref": "#/components/schemas/ApiRefusal"}), &wrong.json());
        observer.noted(&wrong.json());
    }
}

/// A server that can keep nothing.
pub(super) async fn store_failed(observer: &Observer) {
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    store.break_down("disk I/O error");
    let answer = server.client().post(API, ask("demo/echo", "go")).await;
    let answer = observer.answered("POST", API, answer);
    assert_eq!(answer.json()["error"]["code"], "unavailable");
    assert_eq!(answer.headers["retry-after-ms"], "5000");
}
