//! R15: every credential at every door of every session, over every transport. What is to be answered is said by a rule of
//! four lines, and what was not allowed has changed nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{FIRST, OTHER, WRONG, ask, bearer, guarded, mint, talking, token};
use crate::support::{
    Client,
    client::{Answer, read_head, send},
};

const VERBS: [&str; 5] = ["read", "send", "steer", "cancel", "approve"];

/// What a door takes.
enum Takes {
    /// A key.
    Key,
    /// A key, or a token with all of these.
    Verbs(&'static [&'static str]),
}

use Takes::{Key, Verbs};

/// Every door, of the session `S`.
fn doors() -> Vec<(&'static str, &'static str, Value, Takes)> {
    let none = || Value::Null;
    let read: &[&str] = &["read"];
    let follow_up = json!({"id": "S", "message": {"id": "m", "role": "assistant", "parts": []}, "messageId": "m"});
    let say = json!({"id": "S", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}]});
    let mut all = vec![
        ("GET", "/v1/sessions/S", none(), Verbs(read)),
        ("GET", "/v1/sessions/S/events?until=idle", none(), Verbs(read)),
        ("GET", "/v1/sessions/S/events?wait_s=1", none(), Verbs(read)),
        ("GET", "/v1/sessions/S/events?from=snapshot&until=idle", none(), Verbs(read)),
        ("GET", "/v1/sessions/S/ws", none(), Verbs(read)),
        ("GET", "/v1/ai-sdk/chat/S/stream", none(), Verbs(read)),
        ("POST", "/v1/ai-sdk/chat", follow_up, Verbs(read)),
        ("POST", "/v1/ai-sdk/chat", say, Verbs(&["read", "send", "cancel"])),
        ("POST", "/v1/ai-sdk/chat/S/stop", json!({}), Verbs(&[])),
        ("POST", "/v1/sessions/S/tokens", json!({"verbs": ["read"]}), Verbs(read)),
        ("DELETE", "/v1/sessions/S/tokens/tok_0000000000000000", none(), Key),
        ("DELETE", "/v1/sessions/S/tokens", none(), Key),
        ("GET", "/v1/sessions", none(), Key),
        ("POST", "/v1/sessions", json!({"id": "S"}), Key),
        ("GET", "/v1/models", none(), Key),
        ("POST", "/v1/responses", json!({"model": "demo/echo", "input": "x", "conversation": "S"}), Key),
        ("POST", "/v1/chat/completions", json!({"model": "demo/echo", "messages": []}), Key),
        ("GET", "/v1/chat/completions/chatcmpl-S", none(), Key),
        ("GET", "/v1/responses/resp_S", none(), Key),
        ("GET", "/v1/responses", none(), Key),
    ];
    let commands: [(Value, &[&str]); 11] = [
        (json!({"type": "cancel"}), &["cancel"]),
        (json!({"type": "steer", "content": "x"}), &["steer", "send"]),
        (json!({"type": "steer", "content": "x", "if_idle": "reject"}), &["steer"]),
        (json!({"type": "send", "content": "x"}), &["send"]),
        (json!({"type": "send", "content": "x", "if_running": "cancel"}), &["send", "cancel"]),
        (json!({"type": "send", "content": "x", "if_running": "steer"}), &["send", "steer"]),
        (json!({"type": "regenerate"}), &["send", "cancel"]),
        (json!({"type": "approve", "approval_id": "a"}), &["approve"]),
        (json!({"type": "deny", "approval_id": "a"}), &["approve"]),
        (json!({"type": "tool_result", "call_id": "c", "output": 1}), &["send"]),
        (json!({"type": "withdraw", "target": "w"}), &["steer"]),
    ];
    all.extend(commands.map(|(command, verbs)| ("POST", "/v1/sessions/S/control", command, Verbs(verbs))));
    // Last: it ends what the others ask for.
    all.push(("DELETE", "/v1/sessions/S", none(), Key));
    all
}

/// What somebody has, and what it is good for.
struct Holder {
    secret: String,
    /// The session that it opens, and what for; `None` where it opens nothing.
    opens: Option<(&'static str, Vec<&'static str>)>,
}

async fn holders(client: &Client) -> Vec<Holder> {
    let mut all = Vec::new();
    let mut sets: Vec<Vec<&str>> = VERBS.iter().map(|verb| vec![*verb]).collect();
    sets.extend(VERBS.iter().map(|out| VERBS.into_iter().filter(|verb| verb != out).collect()));
    sets.push(VERBS.to_vec());
    for verbs in sets {
        let secret = token(client, "own", json!({"verbs": verbs})).await;
        all.push(Holder { secret, opens: Some(("own", verbs)) });
    }
    let foreign = mint(client, OTHER, "foreign", json!({"verbs": VERBS})).await;
    let secret = foreign["token"].as_str().unwrap().to_owned();
    all.push(Holder { secret, opens: Some(("foreign", VERBS.to_vec())) });
    let revoked = mint(client, FIRST, "own", json!({"verbs": VERBS})).await;
    let path = format!("/v1/sessions/own/tokens/{}", revoked["token_id"].as_str().unwrap());
    assert_eq!(ask(client, FIRST, "DELETE", &path, Value::Null).await.status, 204);
    all.push(Holder { secret: revoked["token"].as_str().unwrap().into(), opens: None });
    let late = token(client, "own", json!({"verbs": VERBS, "ttl_s": 1})).await;
    tokio::time::advance(Duration::from_secs(2)).await;
    all.push(Holder { secret: late, opens: None });
    // Last, because it has to wait between its tries, and the tokens do not.
    all.push(Holder { secret: WRONG.into(), opens: None });
    all
}

async fn request(client: &Client, secret: &str, method: &str, path: &str, body: &Value) -> Answer {
    if path.contains("wait_s") {
        let headers = [("authorization", &*bearer(secret)), ("accept", "application/json")];
        return client.request(method, path, &headers, b"").await;
    }
    if !(path.ends_with("/ws") || (method, path) == ("GET", "/v1/responses")) {
        return ask(client, secret, method, path, body.clone()).await;
    }
    let (mut stream, bearer) = (client.dialer().connect(), bearer(secret));
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("authorization", bearer.as_str()),
    ];
    send(&mut stream, method, path, &headers, b"", false).await;
    let (status, headers, mut body) = read_head(stream).await;
    let mut whole = Vec::new();
    while let Some(chunk) = if status == 101 { None } else { body.chunk().await } {
        whole.extend(chunk);
    }
    Answer { status, headers, body: whole }
}

/// An answer without what differs from one request to the next, and without the name that was asked for.
fn told(answer: &Answer, session: &str) -> (u16, String) {
    let text = String::from_utf8_lossy(&answer.body).replace(session, "S");
    (answer.status, text)
}

#[tokio::test(start_paused = true)]
async fn r15_every_credential_at_every_door_of_every_session() {
    let server = guarded();
    let client = server.client();
    for (key, id) in [(FIRST, "own"), (FIRST, "sibling"), (OTHER, "foreign")] {
        let made = json!({"id": id, "model": "demo/echo", "input": "one two"});
        assert_eq!(ask(&client, key, "POST", "/v1/sessions", made).await.status, 201);
    }
    let logs = async || {
        let mut all = Vec::new();
        for (key, id) in [(FIRST, "own"), (FIRST, "sibling"), (OTHER, "foreign")] {
            let path = format!("/v1/sessions/{id}/events?until=idle");
            all.push(ask(&client, key, "GET", &path, Value::Null).await.body);
        }
        all.into_iter().map(|log| String::from_utf8_lossy(&log).matches("\nid: ").count()).collect::<Vec<_>>()
    };
    let holders = holders(&client).await;
    let (mut asked, mut allowed) = (0, 0);
    for holder in &holders {
        for (method, path, body, takes) in doors() {
            for session in ["own", "sibling", "foreign", "nobody"] {
                let at = |text: &str| text.replace("/S", &format!("/{session}")).replace("-S", &format!("-{session}"));
                let body: Value =
                    serde_json::from_str(&body.to_string().replace("\"S\"", &json!(session).to_string())).unwrap();
                let before = logs().await;
                // A wrong key is one of five in a minute, and the wait is not what is asked about.
                tokio::time::advance(Duration::from_secs(if holder.secret == WRONG { 13 } else { 0 })).await;
                let answer = request(&client, &holder.secret, method, &at(path), &body).await;
                let nowhere = async |body: &Value| {
                    let body = body.to_string().replace(session, "nobody");
                    let body = serde_json::from_str(&body).unwrap();
                    let path = path.replace("/S", "/nobody").replace("-S", "-nobody");
                    request(&client, &holder.secret, method, &path, &body).await
                };
                let what = format!("{:?} {method} {} {body}", holder.opens, at(path));
                asked += 1;
                match (&holder.opens, &takes) {
                    (None, _) => assert_eq!(answer.status, 401, "{what}"),
                    (Some((own, _)), Key) => {
                        // One door looks for the session first: there a token could give up itself.
                        let gives_up = path.contains("/tokens/") && *own != session;
                        assert_eq!(answer.status, if gives_up { 404 } else { 403 }, "{what}");
                    }
                    // A session that it does not open is like none.
                    (Some((own, _)), Verbs(_)) if *own != session => {
                        assert_eq!(told(&answer, session), told(&nowhere(&body).await, "nobody"), "{what}");
                        let harmless = path.starts_with("/v1/ai-sdk/chat/S");
                        assert!(harmless || answer.status == 404, "{what}: {answer:?}");
                    }
                    (Some((_, may)), Verbs(verbs)) => {
                        let stops = path.ends_with("/stop");
                        let may = verbs.iter().all(|verb| may.contains(verb))
                            // Whoever may say it may take it back.
                            || (body["type"] == "withdraw" && may.contains(&"send"));
                        let forbidden = answer.status == 403;
                        assert_eq!(forbidden, !may && !stops, "{what}: {answer:?}");
                        assert!(forbidden || answer.status != 401, "{what}");
                        let text = String::from_utf8_lossy(&answer.body).into_owned();
                        assert!(forbidden || !text.contains("session_not_found"), "{what}: {text}");
                        if may {
                            allowed += 1;
                            continue;
                        }
                    }
                }
                assert_eq!(logs().await, before, "{what}: what was not allowed has changed something");
            }
        }
    }
    println!("r15: {asked} requests, {allowed} of them allowed");
    assert!(asked > 1_500 && allowed > 100, "{asked} {allowed}");
}

#[tokio::test(start_paused = true)]
async fn r15_a_socket_takes_the_commands_of_its_token_and_stop_stops_only_with_cancel() {
    let server = talking();
    let client = server.client();
    let made = json!({"id": "own", "model": "script/m", "input": "go"});
    assert_eq!(ask(&client, FIRST, "POST", "/v1/sessions", made).await.status, 201);
    let running = async || {
        let snapshot = ask(&client, FIRST, "GET", "/v1/sessions/own", Value::Null).await.json();
        snapshot["state"] == "running"
    };
    let stop = async |verbs: Value| {
        let token = token(&client, "own", json!({"verbs": verbs})).await;
        ask(&client, &token, "POST", "/v1/ai-sdk/chat/own/stop", json!({})).await.status
    };
    assert_eq!(stop(json!(["read", "send", "steer", "approve"])).await, 403);
    let commands = doors().into_iter().filter(|(_, path, ..)| path.ends_with("/control"));
    for (_, _, command, takes) in commands.filter(|(_, _, command, _)| command["type"] != "cancel") {
        let Verbs(needs) = takes else { panic!("a command takes verbs") };
        let rest: Vec<_> = VERBS.into_iter().filter(|verb| !needs.contains(verb) && *verb != "send").collect();
        let token = token(&client, "own", json!({"verbs": rest})).await;
        let mut socket = super::sockets::open(&client, "/v1/sessions/own/ws?from=now", &token).await.expect("it reads");
        let answer = crate::support::socket::command(&mut socket, command.clone()).await;
        assert_eq!(answer["code"], "verb_not_allowed", "{command}: {answer}");
        assert!(running().await, "{command}");
    }
    let token = token(&client, "own", json!({"verbs": ["read", "cancel"]})).await;
    let mut socket = super::sockets::open(&client, "/v1/sessions/own/ws?from=now", &token).await.expect("it reads");
    let answer = crate::support::socket::command(&mut socket, json!({"type": "cancel"})).await;
    assert_eq!(answer["type"], "receipt", "{answer}");
    assert!(!running().await);
    assert_eq!(stop(json!(["cancel"])).await, 200);
}
