//! Tokens: minted, passed on, never worth more than what they were minted from, taken back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{FIRST, OTHER, SECOND, ask, guarded, mint, token};
use crate::support::{Client, TestServer, client::read_head};

async fn session(client: &Client, id: &str) {
    let made = ask(client, FIRST, "POST", "/v1/sessions", json!({"id": id, "model": "demo/echo"})).await;
    assert_eq!(made.status, 201, "{made:?}");
}

async fn reads(client: &Client, token: &str, session: &str) -> u16 {
    ask(client, token, "GET", &format!("/v1/sessions/{session}"), Value::Null).await.status
}

#[tokio::test(start_paused = true)]
async fn a_token_says_what_it_is() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let minted = mint(&client, FIRST, "s", json!({"verbs": ["send", "read"], "ttl_s": 60, "name": "user-42"})).await;
    assert!(minted["token"].as_str().unwrap().starts_with("st_"), "{minted}");
    assert!(minted["token_id"].as_str().unwrap().starts_with("tok_"), "{minted}");
    assert_eq!(minted["verbs"], json!(["read", "send"]));
    assert_eq!(minted["session_id"], "s");
    assert_eq!(minted["expires_at"], "2026-01-01T00:01:00.000Z");
    assert!(minted.get("ticket").is_none());
    // Whoever speaks with it is named so, in receipts and events.
    let said = json!({"type": "send", "command_id": "c", "content": "one two"});
    let token = minted["token"].as_str().unwrap();
    assert_eq!(ask(&client, token, "POST", "/v1/sessions/s/control", said).await.status, 200);
    let page = ask(&client, token, "GET", "/v1/sessions/s/events?until=idle", Value::Null).await;
    assert!(String::from_utf8_lossy(&page.body).contains(r#""by":"user-42""#), "{page:?}");
    // A name is the key's where nobody says another one.
    assert_eq!(mint(&client, SECOND, "s", json!({"verbs": ["read"]})).await["name"], "second");
    assert_eq!(reads(&client, token, "s").await, 200);
    tokio::time::advance(Duration::from_secs(60)).await;
    let late = ask(&client, token, "GET", "/v1/sessions/s", Value::Null).await;
    assert_eq!((late.status, late.code().as_str()), (401, "token_expired"), "a3: its time is over");
    assert_eq!(late.headers["www-authenticate"], "Bearer");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_wish_is_refused_by_name() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let read = json!(["read"]);
    for (wish, word) in [
        (json!({}), "verbs"),
        (json!({"verbs": []}), "verbs"),
        (json!({"verbs": ["read", "read"]}), "twice"),
        (json!({"verbs": ["delete"]}), "delete"),
        (json!({"verbs": read, "ttl_s": 0}), "900"),
        (json!({"verbs": read, "ttl_s": 901}), "900"),
        (json!({"verbs": read, "ttl_s": 1.5}), "1.5"),
        (json!({"verbs": read, "name": ""}), "name"),
        (json!({"verbs": read, "name": "a b"}), "name"),
        (json!({"verbs": read, "name": "server"}), "session_scope"),
        (json!({"verbs": read, "origin": ""}), "origin"),
        (json!({"verbs": read, "name": "x".repeat(65)}), "name"),
        (json!({"verbs": read, "ticket": true}), "origin"),
        (json!({"verbs": read, "ticket": true, "origin": "app.example"}), "origin"),
        (json!({"verbs": read, "ticket": true, "origin": "null"}), "origin"),
        (json!({"verbs": read, "forever": true}), "forever"),
    ] {
        let answer = ask(&client, FIRST, "POST", "/v1/sessions/s/tokens", wish.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{wish}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{wish}: {answer:?}");
    }
    for path in ["/v1/sessions/nobody/tokens", "/v1/sessions/%20/tokens"] {
        let answer = ask(&client, FIRST, "POST", path, json!({"verbs": read})).await;
        assert_eq!(answer.code(), "session_not_found", "{path}");
    }
    let answer = ask(&client, OTHER, "POST", "/v1/sessions/s/tokens", json!({"verbs": read})).await;
    assert_eq!(answer.code(), "session_not_found", "another tenant's");
}

#[tokio::test(start_paused = true)]
async fn t7_a_token_is_passed_on_downward_only() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let wish = json!({"verbs": ["read", "cancel"], "ttl_s": 100, "name": "web"});
    let parent = token(&client, "s", wish).await;
    let refused = async |wish: Value| {
        let answer = ask(&client, &parent, "POST", "/v1/sessions/s/tokens", wish).await;
        (answer.status, answer.code())
    };
    for verb in ["send", "steer", "approve"] {
        assert_eq!(refused(json!({"verbs": ["read", verb]})).await, (403, "verb_not_allowed".into()), "{verb}");
    }
    assert_eq!(refused(json!({"verbs": ["read"], "name": "somebody-else"})).await.0, 400, "nobody speaks for another");
    let child = mint(&client, &parent, "s", json!({"verbs": ["read"], "ttl_s": 900})).await;
    assert_eq!((&child["expires_at"], &child["name"]), (&json!("2026-01-01T00:01:40.000Z"), &json!("web")));
    // Four in a row, and no more.
    let mut last = child["token"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        last = mint(&client, &last, "s", json!({"verbs": ["read"]})).await["token"].as_str().unwrap().to_owned();
    }
    let answer = ask(&client, &last, "POST", "/v1/sessions/s/tokens", json!({"verbs": ["read"]})).await;
    assert_eq!(answer.code(), "invalid_request");
    assert!(answer.json()["detail"].as_str().unwrap().contains("4 times"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a14_what_is_revoked_opens_nothing_and_nor_does_what_came_of_it() {
    let server = guarded();
    let client = server.client();
    for id in ["s", "t"] {
        session(&client, id).await;
    }
    let revoke = async |secret: &str, path: &str| ask(&client, secret, "DELETE", path, Value::Null).await.status;
    let parent = mint(&client, FIRST, "s", json!({"verbs": ["read"]})).await;
    let (parent_id, parent) = (parent["token_id"].as_str().unwrap(), parent["token"].as_str().unwrap());
    let child = mint(&client, parent, "s", json!({"verbs": ["read"]})).await;
    let (child_id, child) = (child["token_id"].as_str().unwrap(), child["token"].as_str().unwrap());
    let (sibling, elsewhere) =
        (token(&client, "s", json!({"verbs": ["read"]})).await, token(&client, "t", json!({"verbs": ["read"]})).await);
    let tokens = "/v1/sessions/s/tokens";
    // A token gives up itself and no other; another tenant sees nothing there.
    assert_eq!(revoke(child, &format!("{tokens}/{parent_id}")).await, 403);
    assert_eq!(revoke(parent, &format!("{tokens}/{child_id}")).await, 403);
    assert_eq!(revoke(child, tokens).await, 403);
    assert_eq!(revoke(OTHER, &format!("{tokens}/{parent_id}")).await, 404);
    assert_eq!(revoke(FIRST, &format!("{tokens}/tok_1")).await, 400);
    assert_eq!(revoke(child, &format!("{tokens}/{child_id}")).await, 204);
    assert_eq!((reads(&client, child, "s").await, reads(&client, parent, "s").await), (401, 200));
    // And a key takes any with all that came of it.
    let again = mint(&client, parent, "s", json!({"verbs": ["read"]})).await;
    for _ in 0..2 {
        assert_eq!(revoke(SECOND, &format!("{tokens}/{parent_id}")).await, 204);
    }
    assert_eq!(reads(&client, parent, "s").await, 401);
    assert_eq!(reads(&client, again["token"].as_str().unwrap(), "s").await, 401);
    assert_eq!(reads(&client, &sibling, "s").await, 200);
    // All of a session, and those that come later are good.
    assert_eq!(revoke(FIRST, tokens).await, 204);
    assert_eq!((reads(&client, &sibling, "s").await, reads(&client, &elsewhere, "t").await), (401, 200));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(reads(&client, &token(&client, "s", json!({"verbs": ["read"]})).await, "s").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a2_what_only_looks_like_a_token_is_a_wrong_key() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let good = token(&client, "s", json!({"verbs": ["read"]})).await;
    let (claims, mac) = good.split_once('.').unwrap();
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzIn0.";
    let huge = format!("st_{}.{mac}", "A".repeat(10_000));
    let swapped = format!("{}.{mac}", claims.replace("st_e", "st_f"));
    for (n, wrong) in [jwt, huge.as_str(), swapped.as_str(), claims, "st_", "st_.", "ST_x.y"].iter().enumerate() {
        if n % 5 == 0 {
            tokio::time::advance(Duration::from_secs(61)).await;
        }
        let answer = ask(&client, wrong, "GET", "/v1/sessions/s", Value::Null).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{wrong}");
    }
    assert_eq!(reads(&client, &good, "s").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_is_not_counted_as_a_guess() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let good = token(&client, "s", json!({"verbs": ["read"], "ttl_s": 1})).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..20 {
        assert_eq!(reads(&client, &good, "s").await, 401);
    }
    assert_eq!(reads(&client, "sk_wrong-0123456789", "s").await, 401, "and not 429");
}

#[tokio::test(start_paused = true)]
async fn without_keys_a_token_is_worth_what_it_says_all_the_same() {
    let server = TestServer::start();
    let client = server.client();
    for id in ["s", "t"] {
        client.create(json!({"id": id, "model": "demo/echo"})).await;
    }
    let minted = client.post("/v1/sessions/s/tokens", json!({"verbs": ["read"]})).await.json();
    let token = minted["token"].as_str().unwrap();
    assert_eq!(minted["name"], "anonymous");
    let cancel = json!({"type": "cancel"});
    assert_eq!(reads(&client, token, "s").await, 200);
    assert_eq!(reads(&client, token, "t").await, 404);
    assert_eq!(ask(&client, token, "POST", "/v1/sessions/s/control", cancel).await.code(), "verb_not_allowed");
    assert_eq!(reads(&client, &format!("{token}x"), "s").await, 401);
    // Libraries send some key in any case.
    assert_eq!(reads(&client, "sk-not-a-key-at-all", "t").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_of_its_session_and_not_of_a_later_one_of_that_name() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let old = token(&client, "s", json!({"verbs": ["read", "send"]})).await;
    assert_eq!(reads(&client, &old, "s").await, 200);
    assert_eq!(ask(&client, FIRST, "DELETE", "/v1/sessions/s", Value::Null).await.status, 204);
    assert_eq!(reads(&client, &old, "s").await, 404);
    session(&client, "s").await;
    assert_eq!(reads(&client, &old, "s").await, 404, "somebody else's conversation");
    let send = json!({"type": "send", "content": "x"});
    assert_eq!(ask(&client, &old, "POST", "/v1/sessions/s/control", send).await.status, 404);
    let say = json!({"id": "s", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}]});
    assert_eq!(ask(&client, &old, "POST", "/v1/ai-sdk/chat", say).await.status, 404);
    assert_eq!(reads(&client, &token(&client, "s", json!({"verbs": ["read"]})).await, "s").await, 200);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_slowly_is_not_done_with_a_token_that_has_ended_meanwhile() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    for (path, body) in [
        ("/v1/sessions/s/control", json!({"type": "send", "content": "x"})),
        ("/v1/sessions/s/tokens", json!({"verbs": ["read"]})),
        ("/v1/ai-sdk/chat/s/stop", json!({})),
    ] {
        let minted = mint(&client, FIRST, "s", json!({"verbs": ["read", "send", "cancel"]})).await;
        let body = body.to_string();
        let mut stream = client.dialer().connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: steerage.test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{}",
            minted["token"].as_str().unwrap(),
            body.len(),
            &body[..1]
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ask(&client, FIRST, "DELETE", "/v1/sessions/s/tokens", Value::Null).await.status, 204);
        stream.write_all(&body.as_bytes()[1..]).await.unwrap();
        assert_eq!(read_head(stream).await.0, 401, "{path}");
        // Those that are minted in the millisecond of a revocation are revoked, too.
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let snapshot = ask(&client, FIRST, "GET", "/v1/sessions/s", Value::Null).await.json();
    assert_eq!(snapshot["messages"], json!([]), "nothing was said");
}

#[tokio::test(start_paused = true)]
async fn a_holder_fills_no_list_of_others() {
    let server = guarded();
    let client = server.client();
    session(&client, "s").await;
    let holder = mint(&client, FIRST, "s", json!({"verbs": ["read"]})).await;
    let (id, holder) = (holder["token_id"].as_str().unwrap(), holder["token"].as_str().unwrap());
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let child = mint(&client, holder, "s", json!({"verbs": ["read"]})).await;
        let path = format!("/v1/sessions/s/tokens/{}", child["token_id"].as_str().unwrap());
        statuses.push(ask(&client, child["token"].as_str().unwrap(), "DELETE", &path, Value::Null).await.status);
    }
    assert_eq!((statuses[15], statuses[16]), (204, 429), "{statuses:?}");
    let ticket = json!({"verbs": ["read"], "ticket": true, "origin": "http://steerage.test"});
    for n in 0..20 {
        let asked = ask(&client, holder, "POST", "/v1/sessions/s/tokens", ticket.clone()).await;
        assert_eq!(asked.status, if n < 16 { 201 } else { 429 }, "{n}");
    }
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions/s/tokens", ticket).await.status, 201, "others have theirs");
    // A name that another tenant guesses, or knows, is of that tenant's session.
    let made = json!({"id": "s", "model": "demo/echo"});
    assert_eq!(ask(&client, OTHER, "POST", "/v1/sessions", made).await.status, 201);
    let path = format!("/v1/sessions/s/tokens/{id}");
    assert_eq!(ask(&client, OTHER, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(reads(&client, holder, "s").await, 200);
    assert_eq!(ask(&client, FIRST, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(reads(&client, holder, "s").await, 401);
}
