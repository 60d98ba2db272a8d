//! A7: every door with every credential, at a session that is one's own, somebody else's, or nobody's. What is somebody
//! else's cannot be told from what there is not, and stays as it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{FIRST, OTHER, WRONG, bearer, guarded};
use crate::support::{Client, client::Answer};

const OWN: &str = "sess-a";
const UNKNOWN: &str = "sess-x";

/// What can be asked of the session `S`, of its response `R` and its item `I`.
fn requests() -> Vec<(&'static str, &'static str, Value)> {
    let none = Value::Null;
    let chat = json!({"id": "S", "message": {"id": "m", "role": "assistant", "parts": []}, "messageId": "m"});
    let follows = json!({"model": "demo/echo", "input": "more", "previous_response_id": "R"});
    let refers = json!({"model": "demo/echo", "input": [
        {"type": "item_reference", "id": "I"}, {"role": "user", "content": "more"}]});
    let mut all = vec![
        ("GET", "/v1/sessions/S", none.clone()),
        ("GET", "/v1/sessions/S/events", none.clone()),
        ("GET", "/v1/sessions/S/events?wait_s=1", none.clone()),
        ("GET", "/v1/sessions/S/ws", none.clone()),
        ("GET", "/v1/ai-sdk/chat/S/stream", none.clone()),
        ("POST", "/v1/ai-sdk/chat", chat),
        ("GET", "/v1/chat/completions/chatcmpl-S", none.clone()),
        ("GET", "/v1/responses/R", none.clone()),
        ("GET", "/v1/responses/R/input_items", none.clone()),
        ("POST", "/v1/responses", follows),
        ("POST", "/v1/responses", refers),
        ("POST", "/v1/ai-sdk/chat/S/stop", json!({})),
        ("POST", "/v1/responses/R/cancel", json!({})),
        ("DELETE", "/v1/responses/R", none.clone()),
    ];
    let commands = [
        json!({"type": "cancel"}),
        json!({"type": "steer", "content": "x"}),
        json!({"type": "send", "content": "x"}),
        json!({"type": "regenerate"}),
        json!({"type": "approve", "approval_id": "a"}),
        json!({"type": "tool_result", "call_id": "c", "output": 1}),
        json!({"type": "dance"}),
    ];
    all.extend(commands.map(|command| ("POST", "/v1/sessions/S/control", command)));
    all.push(("DELETE", "/v1/sessions/S", none));
    all
}

async fn ask(client: &Client, key: Option<&str>, (method, path, body): (&str, &str, &Value)) -> Answer {
    let key = key.map(bearer);
    let mut headers = vec![("content-type", "application/json"), ("accept", "application/json")];
    headers.extend(key.iter().map(|key| ("authorization", key.as_str())));
    if path.ends_with("/ws") {
        headers.extend([
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.request(method, path, &headers, body.as_bytes()).await
}

/// An answer without what differs from one request to the next, and without the name that was asked for.
fn told(answer: Answer) -> (u16, BTreeMap<String, String>, String) {
    let Answer { status, mut headers, body } = answer;
    headers.retain(|name, _| name != "x-request-id" && name != "date");
    (status, headers, String::from_utf8(body).unwrap().replace(OWN, "S").replace(UNKNOWN, "S"))
}

#[tokio::test(start_paused = true)]
async fn a7_somebody_elses_session_is_like_none() {
    let server = guarded();
    let client = server.client();
    let made = json!({"model": "demo/echo", "input": "one two three", "conversation": OWN});
    let made = ask(&client, Some(FIRST), ("POST", "/v1/responses", &made)).await;
    assert_eq!(made.status, 200, "{made:?}");
    let made = made.json();
    let (response, item) =
        (made["id"].as_str().unwrap().to_owned(), made["output"][0]["id"].as_str().unwrap().to_owned());
    assert!(response.contains(OWN) && item.contains(OWN), "{response} {item}");
    let at = |text: &str, session: &str| {
        let text = text.replace('R', &response).replace("\"I\"", &format!("\"{item}\""));
        text.replace(OWN, session)
            .replace("/S", &format!("/{session}"))
            .replace("-S", &format!("-{session}"))
            .replace("\"S\"", &format!("\"{session}\""))
    };
    let snapshot = async || ask(&client, Some(FIRST), ("GET", &format!("/v1/sessions/{OWN}"), &Value::Null)).await.body;
    let before = snapshot().await;
    for (method, path, body) in requests() {
        let here = |session: &str| {
            let body: Value = serde_json::from_str(&at(&body.to_string(), session)).unwrap();
            (at(path, session), body)
        };
        let ((foreign, foreign_body), (unknown, unknown_body)) = (here(OWN), here(UNKNOWN));
        let of_other = told(ask(&client, Some(OTHER), (method, &foreign, &foreign_body)).await);
        let of_nobody = told(ask(&client, Some(OTHER), (method, &unknown, &unknown_body)).await);
        assert_eq!(of_other, of_nobody, "{method} {path} {body}");
        let harmless = path.starts_with("/v1/ai-sdk/chat/S");
        assert!(harmless || of_other.0 >= 400, "{method} {path}: {of_other:?}");
        // Without a right key the session makes no difference either, and nor does the key.
        for key in [None, Some(WRONG)] {
            tokio::time::advance(std::time::Duration::from_secs(61)).await;
            let there = told(ask(&client, key, (method, &foreign, &foreign_body)).await);
            let nowhere = told(ask(&client, key, (method, &unknown, &unknown_body)).await);
            assert_eq!((there.0, &there), (401, &nowhere), "{method} {path}");
        }
    }
    assert_eq!(snapshot().await, before, "what somebody else asked for changed nothing");
    let list = ask(&client, Some(OTHER), ("GET", "/v1/sessions", &Value::Null)).await.json();
    assert_eq!(list["sessions"], json!([]));

    // The owner is answered at every door: so the table asks for what there is.
    for (method, path, body) in requests() {
        if method == "DELETE" || path.ends_with("/ws") || path == "/v1/ai-sdk/chat" || path.contains("chatcmpl") {
            continue;
        }
        let body: Value = serde_json::from_str(&at(&body.to_string(), OWN)).unwrap();
        let answer = ask(&client, Some(FIRST), (method, &at(path, OWN), &body)).await;
        assert!(
            answer.status != 401 && !String::from_utf8_lossy(&answer.body).contains("session_not_found"),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn several_sessions_and_conversations_are_of_one_tenant() {
    let server = guarded();
    let client = server.client();
    let create = json!({"id": OWN, "model": "demo/echo", "input": "one two three"});
    assert_eq!(ask(&client, Some(FIRST), ("POST", "/v1/sessions", &create)).await.status, 201);
    for (key, shows) in [(FIRST, "session.created"), (OTHER, "gone")] {
        let headers = [("authorization", &*bearer(key))];
        let mut stream = client.stream(&format!("/v1/events?sessions={OWN}"), &headers).await;
        assert_eq!(stream.next().await.unwrap().event, shows);
    }
    // The other tenant's conversation of that name is another one.
    let say = json!({"model": "demo/echo", "input": "mine", "conversation": OWN});
    assert_eq!(ask(&client, Some(OTHER), ("POST", "/v1/responses", &say)).await.status, 200);
    let path = format!("/v1/sessions/{OWN}");
    let texts = [FIRST, OTHER].map(|key| {
        let (client, path) = (client.clone(), path.clone());
        async move { String::from_utf8(ask(&client, Some(key), ("GET", &path, &Value::Null)).await.body).unwrap() }
    });
    let [first, other] = futures_util::future::join_all(texts).await.try_into().unwrap();
    assert!(first.contains("three") && !first.contains("mine"), "{first}");
    assert!(other.contains("mine") && !other.contains("three"), "{other}");
}
