//! The Responses API: every kind of event, item, end and refusal.

use std::time::Duration;

use serde_json::{Value, json};

use super::{completions::with, contract::Observer};

pub(super) const API: &str = "/v1/responses";

/// What a model of the demo provider is asked.
pub(super) fn ask(model: &str, input: impl Into<Value>) -> Value {
    json!({"model": model, "tokens_per_second": 100_000, "input": input.into()})
}

/// The same of a story, at its own pace.
pub(super) fn slowly() -> Value {
    with(ask("demo/story", "go"), json!({"tokens_per_second": 30}))
}

/// The weather as a function of the client's, or as the server's tool.
pub(super) fn function() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"tools": [{"type": "function", "name": "get_weather", "parameters": parameters}]})
}

fn server_tool(approval: &str) -> Value {
    let tool = json!({"type": "mcp", "server_label": "steerage", "allowed_tools": ["get_weather"],
                      "require_approval": approval});
    json!({"tools": [tool]})
}

/// The first item of that type.
pub(super) fn item<'a>(response: &'a Value, kind: &str) -> &'a Value {
    let found = response["output"].as_array().and_then(|items| items.iter().find(|item| item["type"] == kind));
    found.unwrap_or_else(|| panic!("no {kind} in {response}"))
}

pub(super) fn decision(response: &Value, approve: bool) -> Value {
    let id = &item(response, "mcp_approval_request")["id"];
    json!([{"type": "mcp_approval_response", "approval_request_id": id, "approve": approve, "reason": "because"}])
}

impl Observer {
    /// A response as its events.
    pub(super) async fn responded(&self, body: Value) -> Vec<Value> {
        let answer = self.client.post(API, with(body, json!({"stream": true}))).await;
        self.told("POST", API, answer)
    }

    /// A response whole.
    pub(super) async fn response(&self, body: Value) -> Value {
        let answer = self.post(API, body.clone()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.json());
        answer.json()
    }
}

/// Text, thoughts, limits, failures, a cancel, a steer; what is retrieved, listed, deleted.
pub(super) async fn answers(observer: &Observer) {
    let brief = json!({"instructions": "Be brief.", "metadata": {"a": "b"}});
    let told = observer.responded(with(ask("demo/reasoning", "think"), brief)).await;
    let first = told.last().unwrap()["response"].clone();
    let path = format!("{API}/{}", first["id"].as_str().unwrap());
    assert_eq!(observer.get(&path).await.json(), first);
    for after in [0, 3, 9_999] {
        let path = format!("{path}?stream=true&starting_after={after}");
        let again = observer.told("GET", &path, observer.client.get(&path).await);
        assert_eq!(again, told.get(after + 1..).unwrap_or_default());
    }
    let second = with(ask("demo/echo", "and then?"), json!({"previous_response_id": first["id"]}));
    let items = json!([{"role": "developer", "content": "Briefly."}, {"type": "item_reference", "id": first["output"][0]["id"]}]);
    let second = observer.response(with(second, json!({"input": items}))).await;
    let items = format!("{API}/{}/input_items", second["id"].as_str().unwrap());
    let listed = observer.get(&format!("{items}?order=asc&limit=2")).await.json();
    assert_eq!(listed["has_more"], true);
    observer.get(&format!("{items}?order=asc&limit=100&after={}", listed["last_id"].as_str().unwrap())).await;
    observer.responded(with(ask("demo/echo", "one two three"), json!({"max_output_tokens": 2}))).await;
    observer.responded(ask("script/m", "go")).await;
    for word in ["error", "overloaded"] {
        observer.responded(ask("demo/chaos", word)).await;
    }
    let background = observer.response(with(slowly(), json!({"background": true}))).await;
    let path = format!("{API}/{}", background["id"].as_str().unwrap());
    assert_eq!(observer.get(&path).await.json()["status"], "in_progress");
    let following = with(ask("demo/echo", "x"), json!({"previous_response_id": background["id"]}));
    observer.denied(API, following, 400, "previous_response_in_progress").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let steer = json!({"type": "steer", "content": "in French"});
    observer.command(background["conversation"]["id"].as_str().unwrap(), steer, "applied").await;
    let steered = observer.get(&path).await.json();
    let successor = format!("{API}/{}", steered["metadata"]["steerage_successor"].as_str().unwrap());
    for _ in 0..2 {
        let cancelled = observer.post(&format!("{successor}/cancel"), json!({})).await.json();
        assert_eq!(cancelled["status"], "cancelled");
    }
    for path in [&path, &successor] {
        observer.told("GET", path, observer.client.get(&format!("{path}?stream=true")).await);
    }
    let path = format!("{API}/{}", second["id"].as_str().unwrap());
    let deleted = observer.answered("DELETE", &path, observer.client.delete(&path).await);
    assert_eq!(deleted.json()["deleted"], true);
    let gone = observer.answered("DELETE", &path, observer.client.delete(&path).await);
    assert_eq!(gone.status, 404);
}

/// Functions, this server's tools, yes and no.
pub(super) async fn tools(observer: &Observer) {
    let told = observer.responded(with(ask("demo/tools", "the weather in Oslo"), function())).await;
    let asked = &told.last().unwrap()["response"];
    let call = &item(asked, "function_call")["call_id"];
    let output = json!([{"type": "function_call_output", "call_id": call, "output": "{\"temperature_c\":3}"}]);
    let next = with(ask("demo/tools", output), json!({"previous_response_id": asked["id"]}));
    let answered = observer.response(with(next, function())).await;
    let items = format!("{API}/{}/input_items?order=asc", answered["id"].as_str().unwrap());
    assert_eq!(observer.get(&items).await.json()["data"].as_array().unwrap().len(), 4);
    observer.responded(with(ask("demo/tools", "the weather in Oslo"), server_tool("never"))).await;
    observer.responded(ask("demo/chaos", "unknown_tool")).await;
    observer.responded(with(ask("demo/chaos", "bad_tool"), function())).await;
    for approve in [true, false] {
        let question = with(ask("demo/tools", "the weather in Oslo"), server_tool("always"));
        let asked = observer.response(question).await;
        let answer = json!({"input": decision(&asked, approve)});
        observer.responded(answer.clone()).await;
        observer.response(answer).await;
        observer.denied(API, json!({"input": decision(&asked, !approve)}), 400, "already_resolved").await;
        let mut said = decision(&asked, approve);
        said.as_array_mut().unwrap().push(json!({"role": "user", "content": "hurry"}));
        let said = json!({"input": said, "conversation": asked["conversation"]});
        observer.denied(API, said, 400, "no_active_run").await;
    }
    let late = observer.response(with(ask("demo/tools", "the weather in Oslo"), server_tool("always"))).await;
    let session = late["conversation"]["id"].as_str().unwrap();
    let snapshot = observer.get(&format!("/v1/sessions/{session}")).await.json();
    let call = snapshot["approvals"][0]["call_id"].clone();
    let output = json!([{"type": "function_call_output", "call_id": call, "output": "3"}]);
    observer.denied(API, json!({"conversation": session, "input": output}), 400, "not_a_client_tool").await;
    observer.finish(session).await;
    observer.denied(API, json!({"input": decision(&late, true)}), 400, "stale").await;
}

/// Runs of one session.
pub(super) async fn conversations(observer: &Observer) {
    let say = |input: &str| with(ask("demo/echo", input), json!({"conversation": "talk"}));
    let first = observer.response(say("one")).await;
    observer.response(say("two")).await;
    let path = format!("{API}/{}", first["id"].as_str().unwrap());
    let refused = observer.answered("DELETE", &path, observer.client.delete(&path).await);
    assert_eq!(refused.json()["error"]["code"], "conversation_not_empty");
    observer.denied(API, with(say("x"), json!({"model": "demo/story"})), 400, "unsupported_value").await;
    let nothing = json!([{"type": "function_call_output", "call_id": "call_x", "output": "3"}]);
    observer.denied(API, with(say("x"), json!({"input": nothing})), 400, "unknown_call").await;
    let keyed = [("content-type", "application/json"), ("idempotency-key", "k2")];
    for (body, status) in [(say("three"), 200), (say("three"), 200), (say("four"), 400)] {
        let answer = observer.client.request("POST", API, &keyed, body.to_string().as_bytes()).await;
        assert_eq!(observer.answered("POST", API, answer).status, status);
    }
    let story = with(slowly(), json!({"conversation": {"id": "story"}, "background": true}));
    let running = observer.response(story.clone()).await;
    observer.denied(API, story, 400, "run_active").await;
    observer.post(&format!("{API}/{}/cancel", running["id"].as_str().unwrap()), json!({})).await;
    let waits = with(with(ask("demo/tools", "the weather in Oslo"), function()), json!({"conversation": "weather"}));
    let asked = observer.response(waits).await;
    observer.denied(API, json!({"conversation": "weather", "input": "well?"}), 400, "invalid_value").await;
    let call = &item(&asked, "function_call")["call_id"];
    let output = json!([{"type": "function_call_output", "call_id": call, "output": "3"}]);
    observer.responded(json!({"conversation": "weather", "input": output})).await;
    let tool = json!({"name": "get_weather", "approval": "always"});
    let session = json!({"model": "demo/tools", "input": "the weather in Oslo", "tools": [tool]});
    let session = observer.create(session).await;
    observer.approval(&session).await;
    let snapshot = observer.get(&format!("/v1/sessions/{session}")).await.json();
    let call = &snapshot["approvals"][0]["call_id"];
    let output = json!([{"type": "function_call_output", "call_id": call, "output": "3"}]);
    observer.denied(API, json!({"conversation": session, "input": output}), 400, "approval_pending").await;
}

/// Requests that nothing comes of.
pub(super) async fn refusals(observer: &Observer) {
    let question = || ask("demo/echo", "go");
    for (body, code) in [
        (json!({"model": "demo/echo"}), "missing_required_parameter"),
        (with(question(), json!({"previous_response_id": "resp_x"})), "previous_response_not_found"),
        (with(question(), json!({"previous_response_id": "resp_nobody_aaaaaa_3"})), "previous_response_not_found"),
        (with(question(), json!({"background": true, "store": false})), "invalid_value"),
        (with(question(), json!({"tools": [{"type": "web_search"}]})), "unsupported_value"),
        (with(question(), json!({"prompt": {"id": "x"}})), "unsupported_parameter"),
        (with(question(), json!({"stream": 1})), "invalid_type"),
        (
            ask(
                "demo/echo",
                json!([{"type": "mcp_approval_response", "approval_request_id": "mcpr_taken_aaaaaa_3", "approve": true}]),
            ),
            "invalid_value",
        ),
    ] {
        observer.denied(API, body, 400, code).await;
    }
    let taken = observer.create(json!({"id": "taken", "input": "x", "model": "demo/echo"})).await;
    let tail = observer.finish(&taken).await;
    let unknown = format!("mcpr_taken_{}", tail.replace('.', "_"));
    let unknown = json!([{"type": "mcp_approval_response", "approval_request_id": unknown, "approve": true}]);
    observer.denied(API, json!({"input": unknown}), 400, "unknown_approval").await;
    let nowhere = json!([{"type": "item_reference", "id": "msg_nobody_aaaaaa_3"}]);
    observer.denied(API, ask("demo/echo", nowhere), 404, "not_found").await;
    observer.denied(API, ask("nobody/nothing", "go"), 404, "model_not_found").await;
    let long = observer.response(ask("demo/chaos", "huge")).await;
    let again = json!(vec![json!({"type": "item_reference", "id": long["output"][0]["id"]}); 20]);
    observer.denied(API, ask("demo/echo", again), 400, "context_length_exceeded").await;
    for (path, status) in [
        (format!("{API}/resp_nobody_aaaaaa_3"), 404),
        (format!("{API}/resp_nobody_aaaaaa_3?stream=maybe"), 400),
        (format!("{API}/resp_nobody_aaaaaa_3/input_items"), 404),
        (format!("{API}/resp_nobody_aaaaaa_3/input_items?limit=101"), 400),
        (API.to_owned(), 426),
    ] {
        assert_eq!(observer.get(&path).await.status, status, "{path}");
    }
    let path = format!("{API}/resp_nobody_aaaaaa_3/cancel");
    assert_eq!(observer.post(&path, json!({})).await.status, 404);
    let foreign = [("origin", "http://elsewhere.test"), ("upgrade", "websocket")];
    let answer = observer.client.request("GET", API, &foreign, b"").await;
    assert_eq!(observer.answered("GET", API, answer).status, 403);
}
