//! The AI SDK's doors, held against the document: every kind of chunk, of refusal, and of a socket's message.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::contract::Observer;

const API: &str = "/v1/ai-sdk/chat";

fn user(text: &str) -> Value {
    json!({"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]})
}

/// A chat's first message, to a model of the demo provider.
fn first(chat: &str, model: &str, text: &str) -> Value {
    json!({"id": chat, "model": model, "trigger": "submit-message", "messages": [user(text)]})
}

/// What the client says to the one call of an answer.
fn follow_up(chat: &str, chunks: &[Value], said: Value) -> Value {
    let of = |kind: &str| chunks.iter().find(|chunk| chunk["type"] == kind).cloned().unwrap_or_default();
    let mut part = json!({"type": "tool-get_weather", "toolCallId": of("tool-input-available")["toolCallId"]});
    part.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    part["approval"]["id"] = of("tool-approval-request")["approvalId"].clone();
    if part["approval"]["id"].is_null() {
        part["approval"] = Value::Null;
    }
    let answer = json!({"id": chunks[0]["messageId"], "role": "assistant", "parts": [{"type": "step-start"}, part]});
    json!({"id": chat, "messageId": answer["id"], "messages": [user("the weather in Oslo"), answer]})
}

impl Observer {
    async fn chat(&self, query: &str, body: Value) -> Vec<Value> {
        let answer = self.client.post(&format!("{API}{query}"), body).await;
        self.played("POST", API, answer)
    }

    async fn refused(&self, body: &[u8], headers: &[(&str, &str)], status: u16) {
        let answer = self.client.request("POST", API, headers, body).await;
        assert_eq!(self.answered("POST", API, answer).status, status);
    }
}

/// Thoughts, tools, decisions, failures; and each of them again.
pub(super) async fn answers(observer: &Observer) {
    observer.chat("", first("thinks", "demo/reasoning", "think")).await;
    for (word, chat) in [("bad_tool", "bad-tool"), ("error", "error")] {
        observer.chat("", first(chat, "demo/chaos", word)).await;
    }
    for (chat, query, approved) in [("yes", "?ai=7", true), ("no", "", false), ("no5", "?ai=5", false)] {
        let asked = observer.chat("", first(chat, "demo/tools", "the weather in Oslo")).await;
        let said = json!({"state": "approval-responded", "approval": {"approved": approved, "reason": "because"}});
        observer.chat(query, follow_up(chat, &asked, said)).await;
    }
    for (chat, said) in [
        ("given", json!({"state": "output-available", "output": {"temperature_c": 3}})),
        ("not-given", json!({"state": "output-error", "errorText": "no window"})),
    ] {
        let mut body = first(chat, "demo/tools", "the weather in Oslo");
        body["tools"] = json!([{"name": "get_weather", "executor": "client"}]);
        let asked = observer.chat("", body).await;
        observer.chat("", follow_up(chat, &asked, said)).await;
    }
    observer.chat("", json!({"id": "thinks", "trigger": "regenerate-message", "messages": [user("think")]})).await;
    for query in ["", "?startIndex=3", "?startIndex=-2", "?startIndex=99999"] {
        let path = format!("{API}/thinks/stream{query}");
        observer.played("GET", &path, observer.client.get(&path).await);
    }
    let tail = observer.client.get(&format!("{API}/thinks/stream?startIndex=-2")).await;
    assert!(tail.headers.contains_key("x-workflow-stream-tail-index"), "{:?}", tail.headers);
    for chat in ["nobody", "not%20a%20session", "thinks~aaaaaa.1"] {
        assert_eq!(observer.get(&format!("{API}/{chat}/stream")).await.status, 204);
    }
}

/// Steers in both forms, and a Stop.
pub(super) async fn steered_and_stopped(observer: &Observer) {
    for (chat, query) in [("steered", ""), ("steered-too", "?steering=message")] {
        let says = |s: &Value| s["run"]["text"].as_str().is_some_and(|text| !text.is_empty());
        let meanwhile = async {
            observer.until(chat, says).await;
            observer.command(chat, json!({"type": "steer", "content": "in French"}), "applied").await;
            observer.until(chat, says).await;
            let stop = format!("{API}/{chat}/stop");
            let stopped = observer.post(&stop, json!({})).await.json();
            assert_eq!(stopped["stopped"], true);
            let again = observer.post(&stop, json!({"activeStreamId": stopped["run_id"]})).await.json();
            assert_eq!(again, json!({"stopped": false, "run_id": null}));
        };
        let (chunks, ()) = tokio::join!(observer.chat(query, first(chat, "demo/story", "go")), meanwhile);
        assert!(chunks.iter().any(|chunk| chunk["type"] == "abort"));
    }
    assert_eq!(observer.post(&format!("{API}/nobody/stop"), json!({})).await.json()["stopped"], false);
}

/// Requests that have no stream.
pub(super) async fn refusals(observer: &Observer) {
    let foreign = [("origin", "http://elsewhere.test"), ("content-type", "text/plain")];
    let deep = format!("{{\"id\":{}", "[".repeat(100));
    let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(5 << 20));
    observer.refused(b"", &[], 400).await;
    observer.refused(deep.as_bytes(), &[], 400).await;
    observer.refused(long.as_bytes(), &[], 413).await;
    observer.refused(b"{}", &foreign, 403).await;
    let answer = json!({"id": "run_x", "role": "assistant", "parts": []});
    for (body, status) in [
        (json!({"messages": []}), 400),
        (json!({"messages": [user(" ")]}), 400),
        (json!({"messages": [user("x")], "model": "nobody/nothing"}), 400),
        (json!({"messages": [{"role": "user", "parts": [{"type": "file"}]}]}), 400),
        (json!({"id": "nobody", "messages": [user("x"), answer.clone()]}), 404),
        (json!({"id": "thinks", "messages": [user("think"), answer]}), 409),
        (json!({"trigger": "regenerate-message", "messages": []}), 404),
    ] {
        observer.refused(body.to_string().as_bytes(), &[], status).await;
    }
    for (method, path, body, status) in [
        ("POST", "thinks/stop", "[]", 400),
        ("POST", "thinks/stop", r#"{"activeStreamId":1}"#, 400),
        ("GET", "thinks/stream?ai=4", "", 400),
        ("GET", "%FF/stream", "", 400),
        ("POST", "%FF/stop", "", 400),
        ("GET", "ws", "", 426),
        ("GET", "ws?steering=no", "", 400),
    ] {
        let path = format!("{API}/{path}");
        let answer = observer.client.request(method, &path, &[], body.as_bytes()).await;
        assert_eq!(observer.answered(method, &path, answer).status, status, "{path}");
    }
    let socket = format!("{API}/ws");
    let answer = observer
        .client
        .request("GET", &socket, &[("origin", "http://elsewhere.test"), ("upgrade", "websocket")], b"")
        .await;
    assert_eq!(observer.answered("GET", &socket, answer).status, 403);
    let stop = format!("{API}/thinks/stop");
    let answer = observer.client.request("POST", &stop, &foreign, b"{}").await;
    assert_eq!(observer.answered("POST", &stop, answer).status, 403);
    let answer = observer.client.request("POST", &stop, &[], long.as_bytes()).await;
    assert_eq!(observer.answered("POST", &stop, answer).status, 413);
}

/// One socket with every kind of message.
pub(super) async fn sockets(observer: &Observer) {
    let mut socket = observer.client.socket(&format!("{API}/ws?ai=7")).await;
    let message =
        |request: &str, text: &str| json!({"role": "user", "id": request, "parts": [{"type": "text", "text": text}]});
    for (request, wanted) in [
        (json!({"type": "resume", "requestId": "r1", "id": "nobody"}), "no-active"),
        (
            json!({"type": "send", "requestId": "r2", "id": "socket", "message": message("a", "one two"),
                "body": {"model": "demo/echo"}}),
            "end",
        ),
        (json!({"type": "resume", "requestId": "r3", "id": "socket"}), "end"),
        (json!({"type": "send", "requestId": "r4", "id": "socket", "messages": []}), "error"),
        (
            json!({"type": "send", "requestId": "r5", "id": "socket-2", "message": message("b", "go"),
                "body": {"model": "demo/story"}}),
            "chunk",
        ),
    ] {
        socket.send(Message::text(request.to_string())).await.expect("a socket takes text");
        loop {
            let message = socket.next().await.expect("the socket stays open").expect("it lives");
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(message["requestId"], request["requestId"]);
            observer.answered_over_socket(&message);
            if message["type"] == wanted {
                break;
            }
        }
    }
    socket.send(Message::text(json!({"type": "abort", "requestId": "r5"}).to_string())).await.expect("it lives");
    observer.until("socket-2", |snapshot| snapshot["last_run"]["outcome"] == "cancelled").await;
}
