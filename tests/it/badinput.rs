//! What clients send that they should not: each row has its status and its code, and afterwards the server and a
//! session that waits for a person are as they were.
//!
//! The rows are the project's catalogue of bad inputs, HTTP (H), event streams (S), WebSocket (W) and control (C). Those
//! about connections are in `edge`, those about credentials in `auth`, those about rates in `limits`; `catalogue` sees to it
//! that none is forgotten.

use serde_json::{Value, json};
use steerage::command::{COMMAND_BYTES_MAX, STEER_BYTES_MAX};

use crate::support::{
    Client, SseEvent, TestServer,
    client::{Answer, read_head, send},
};

const EVENTS: &str = "/v1/sessions/s/events";
const CONTROL: &str = "/v1/sessions/s/control";

/// A server with a session `s` that has ended one run and waits for an approval in its second.
async fn start() -> (TestServer, Client, Value) {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/tools", "input": "Oslo"})).await;
    client.stream(EVENTS, &[]).await.until("approval.requested").await;
    let before = client.snapshot("s").await;
    (server, client, before)
}

/// Nothing has changed, and everything still works.
async fn unharmed(client: &Client, before: &Value) {
    assert_eq!(client.snapshot("s").await, *before, "the session is as it was");
    let approval = &before["approvals"][0]["approval_id"];
    assert_eq!(client.control("s", json!({"type": "approve", "approval_id": approval})).await.status, 200);
    client.stream(&format!("{EVENTS}?until=idle"), &[]).await.rest().await;
    assert_eq!(client.log("s").await.last().expect("events")["type"], "run.completed");
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().expect("a detail").to_owned()
}

async fn post(client: &Client, path: &str, body: impl AsRef<[u8]>) -> Answer {
    client.request("POST", path, &[("content-type", "application/json")], body.as_ref()).await
}

#[tokio::test(start_paused = true)]
async fn c_commands_that_are_none() {
    let (_server, client, before) = start().await;
    let steer = |content: &str| json!({"type": "steer", "content": content}).to_string();
    let deep = format!(r#"{{"type":"tool_result","call_id":"x","output":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let keys: String = (0..2_000).map(|n| format!("\"k{n}\":1,")).collect();
    let rows: Vec<(&str, String, u16, &str, &str)> = vec![
        ("C1 nothing", String::new(), 400, "bad_json", ""),
        ("C1 no JSON", "steer!".into(), 400, "bad_json", ""),
        ("C1 truncated", r#"{"type":"cancel""#.into(), 400, "bad_json", ""),
        ("C1 trailing", r#"{"type":"cancel"}x"#.into(), 400, "bad_json", ""),
        ("C1 two", r#"{"type":"cancel"}{"type":"cancel"}"#.into(), 400, "bad_json", ""),
        ("C1 a list", r#"[{"type":"cancel"}]"#.into(), 400, "invalid_command", ""),
        ("C1 a list of fields", r#"["cancel"]"#.into(), 400, "invalid_command", "object"),
        ("C1 null", "null".into(), 400, "invalid_command", ""),
        ("C2 deep", deep, 400, "too_deep", "32"),
        ("C2 long", steer(&"a".repeat(1 << 20)), 413, "payload_too_large", "65536"),
        ("C2 keys", format!(r#"{{{keys}"type":"cancel"}}"#), 400, "invalid_command", "unknown field `k0`"),
        ("C3 type twice", r#"{"type":"cancel","type":"cancel"}"#.into(), 400, "invalid_command", "duplicate field"),
        ("C3 field twice", r#"{"type":"steer","content":"a","content":"b"}"#.into(), 400, "invalid_command", "content"),
        ("C4 type", r#"{"type":"explode"}"#.into(), 400, "unknown_type", "withdraw"),
        ("C4 no type", r#"{"content":"x"}"#.into(), 400, "unknown_type", "cancel"),
        ("C4 field", r#"{"type":"cancel","runid":"x"}"#.into(), 400, "invalid_command", "unknown field `runid`"),
        ("C4 another's field", r#"{"type":"cancel","content":"x"}"#.into(), 400, "invalid_command", "`content`"),
        ("C4 word", r#"{"type":"cancel","mode":"gently"}"#.into(), 400, "invalid_command", "rollback"),
        ("C5 empty id", r#"{"type":"cancel","command_id":""}"#.into(), 400, "invalid_command", "1 to 64"),
        (
            "C5 long id",
            format!(r#"{{"type":"cancel","command_id":"{}"}}"#, "c".repeat(10_240)),
            400,
            "invalid_command",
            "64",
        ),
        ("C5 NUL", r#"{"type":"cancel","command_id":"a\u0000"}"#.into(), 400, "invalid_command", "printable"),
        ("C5 a number", r#"{"type":"cancel","command_id":7}"#.into(), 400, "invalid_command", "string"),
        ("C8 a number", r#"{"type":"steer","content":1.0}"#.into(), 400, "invalid_command", "string"),
        ("C8 too large", r#"{"type":"tool_result","call_id":"x","output":1e999}"#.into(), 400, "bad_json", "range"),
        ("C9 surrogate", r#"{"type":"steer","content":"\ud800"}"#.into(), 400, "bad_json", ""),
        ("C9 mark", "\u{feff}{\"type\":\"cancel\"}".into(), 400, "bad_json", ""),
        ("C14 unknown", r#"{"type":"approve","approval_id":"nope"}"#.into(), 404, "unknown_approval", ""),
        ("C14 word", r#"{"type":"allow","approval_id":"nope"}"#.into(), 400, "unknown_type", "approve"),
        ("C14 call", r#"{"type":"tool_result","call_id":"nope","output":1}"#.into(), 404, "unknown_call", ""),
        (
            "C16 no object",
            r#"{"type":"approve","approval_id":"x","arguments":1}"#.into(),
            400,
            "invalid_command",
            "object",
        ),
        ("C17 empty", steer(""), 400, "invalid_command", "empty"),
        ("C17 blank", steer(" \n\t "), 400, "invalid_command", "empty"),
        ("C17 long", steer(&"a".repeat(STEER_BYTES_MAX + 1)), 413, "payload_too_large", "16384"),
        ("C20 session", r#"{"type":"cancel","session_id":"t"}"#.into(), 400, "invalid_command", "`session_id`"),
        ("C21 seq", r#"{"type":"cancel","expected_seq":1}"#.into(), 400, "invalid_command", "`expected_seq`"),
    ];
    let recorded = ["C14 unknown", "C14 call"];
    let mut last = before["last_event_id"].clone();
    for (row, body, status, due, says) in rows {
        let answer = post(&client, CONTROL, &body).await;
        assert_eq!(code(&answer), (status, due.to_owned()), "{row}");
        assert!(detail(&answer).contains(says), "{row}: {says:?} in {:?}", detail(&answer));
        assert!(answer.body.len() < 1_024, "{row}: little of the input is repeated");
        let tail = client.snapshot("s").await["last_event_id"].clone();
        assert_eq!(tail != last, recorded.contains(&row), "{row}: what is no command leaves no trace");
        last = tail;
    }
    // Overlong and cut UTF-8.
    for bytes in [
        &b"{\"type\":\"steer\",\"content\":\"\xc0\xaf\"}"[..],
        b"{\"type\":\"steer\",\"content\":\"\xe2\x82\"}",
        b"\xff\xfe",
    ] {
        assert_eq!(code(&post(&client, CONTROL, bytes).await).1, "bad_json", "C9 {bytes:?}");
    }
    // Refusals that say something about the session are in its log, and are all that is new there.
    let mut after = client.snapshot("s").await;
    let log = client.log("s").await;
    let new = &log[log.len() - recorded.len()..];
    assert!(new.iter().all(|event| event["type"] == "command.rejected"), "{new:?}");
    for field in ["last_event_id", "updated_at"] {
        after[field] = before[field].clone();
    }
    assert_eq!(after, before);
    let now = client.snapshot("s").await;
    unharmed(&client, &now).await;
}

#[tokio::test(start_paused = true)]
async fn c_texts_that_look_dangerous_are_texts() {
    let (_server, client, before) = start().await;
    let nasty = "\u{202e}\u{1b}[31m<script>__proto__\r\n\r\ndata: x\n\nevent: run.completed\u{2028}\u{0}'; DROP TABLE";
    let steer = json!({"type": "steer", "command_id": "n'\"<>;--", "content": nasty, "when": "next_step"});
    assert_eq!(client.control("s", steer).await.status, 200, "C24, S20");
    let mut stream = client.stream(EVENTS, &[]).await;
    let accepted = stream.until("command.accepted").await;
    assert_eq!((&accepted.data["content"], &accepted.data["command_id"]), (&json!(nasty), &json!("n'\"<>;--")));
    let withdraw = json!({"type": "withdraw", "target": "n'\"<>;--"});
    assert_eq!(client.control("s", withdraw).await.status, 200);
    let metadata = json!({"__proto__": {"x": 1}, "constructor": nasty});
    client.create(json!({"id": "t", "model": "demo/echo", "metadata": metadata})).await;
    assert_eq!(client.snapshot("t").await["metadata"], metadata);
    let now = client.snapshot("s").await;
    assert_ne!(now, before);
    unharmed(&client, &now).await;
}

#[tokio::test(start_paused = true)]
async fn h_requests_that_cannot_be_served() {
    let (_server, client, before) = start().await;
    let json = [("content-type", "application/json")];
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let plain = [("content-type", "text/plain")];
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let cancel = br#"{"type":"cancel"}"#;
    let long = vec![b' '; 4 * 1024 * 1024 + 1];
    let xml = [("accept", "application/xml")];
    let both = [json[0], xml[0]];
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("H6 command", "POST", CONTROL, &json, &long[..COMMAND_BYTES_MAX + 1], 413, "payload_too_large", "65536 bytes"),
        ("H6 create", "POST", "/v1/sessions", &json, &long, 413, "payload_too_large", "4194304 bytes"),
        ("H9 none", "POST", CONTROL, &[], cancel, 415, "unsupported_media_type", "application/json"),
        ("H9 form", "POST", CONTROL, &form, cancel, 415, "unsupported_media_type", ""),
        ("H9 text", "POST", "/v1/sessions", &plain, b"{}", 415, "unsupported_media_type", ""),
        ("H10", "POST", CONTROL, &gzip, b"\x1f\x8b", 415, "unsupported_media_type", "not encoded"),
        ("H11 events", "POST", EVENTS, &json, b"{}", 405, "method_not_allowed", "POST"),
        ("H11 control", "GET", CONTROL, &[], b"", 405, "method_not_allowed", "GET"),
        ("H11 session", "PUT", "/v1/sessions/s", &json, b"{}", 405, "method_not_allowed", "PUT"),
        ("H11 ws", "POST", "/v1/sessions/s/ws", &json, b"{}", 405, "method_not_allowed", ""),
        ("H11 trace", "TRACE", "/v1/sessions", &[], b"", 405, "method_not_allowed", "TRACE"),
        ("H12 path", "GET", "/v2/sessions", &[], b"", 404, "not_found", "openapi"),
        ("H12 dots", "GET", "/v1/sessions/../../etc/passwd", &[], b"", 404, "not_found", ""),
        ("H12 encoded dots", "GET", "/v1/sessions/%2e%2e/%2e%2e/x", &[], b"", 404, "not_found", ""),
        ("H12 slashes", "GET", "//v1//sessions", &[], b"", 404, "not_found", ""),
        ("H12 trailing", "GET", "/v1/sessions/", &[], b"", 404, "not_found", ""),
        ("accept", "GET", EVENTS, &xml, b"", 406, "not_acceptable", "text/event-stream"),
        ("accept create", "POST", "/v1/sessions", &both, b"{}", 406, "not_acceptable", ""),
        ("query", "GET", "/v1/sessions/s/events?form=now", &[], b"", 400, "bad_request", "unknown field `form`"),
        ("query word", "GET", "/v1/sessions/s/events?from=end", &[], b"", 400, "bad_request", "snapshot"),
        ("query twice", "GET", "/v1/sessions?limit=1&limit=2", &[], b"", 400, "bad_request", "limit"),
        ("list limit", "GET", "/v1/sessions?limit=201", &[], b"", 400, "bad_request", "1 to 200"),
        ("list zero", "GET", "/v1/sessions?limit=0", &[], b"", 400, "bad_request", "1 to 200"),
        ("list cursor", "GET", "/v1/sessions?cursor=x", &[], b"", 400, "bad_request", "cursor"),
        ("list state", "GET", "/v1/sessions?state=odd", &[], b"", 400, "bad_request", "waiting"),
        ("W2", "GET", "/v1/sessions/s/ws", &[], b"", 426, "upgrade_required", "WebSocket"),
        ("many", "GET", "/v1/events", &[], b"", 400, "bad_request", "sessions"),
        ("many names", "GET", "/v1/events?sessions=a,,b", &[], b"", 400, "bad_request", "sessions"),
        ("many cursor", "GET", "/v1/events?sessions=s&after=s@1", &[], b"", 400, "bad_cursor", "SESSION@EPOCH.SEQ"),
    ];
    for (row, method, path, headers, body, status, due, says) in rows {
        let answer = client.request(method, path, headers, body).await;
        assert_eq!(code(&answer), (status, due.to_owned()), "{row}");
        assert!(detail(&answer).contains(says), "{row}: {says:?} in {:?}", detail(&answer));
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{row}: {:?}", answer.headers);
    }
    unharmed(&client, &before).await;
}

#[tokio::test(start_paused = true)]
async fn h_creations_that_make_no_sense() {
    let (_server, client, before) = start().await;
    let tool = |tool: Value| json!({"tools": [tool]}).to_string();
    let many: Vec<_> = (0..129).map(|n| json!({"name": format!("t{n}")})).collect();
    let schema = json!({"name": "t", "parameters": {"type": "objekt"}});
    let rows: Vec<(&str, String, &str, &str)> = vec![
        ("no JSON", "{".into(), "bad_json", ""),
        ("a list", "[]".into(), "invalid_request", ""),
        ("a list of fields", r#"["x",null,null,[],"hi",{},{},null,null]"#.into(), "invalid_request", "object"),
        ("field", r#"{"modle":"demo/echo"}"#.into(), "invalid_request", "unknown field `modle`"),
        (
            "field twice",
            r#"{"model":"demo/echo","model":"demo/echo"}"#.into(),
            "invalid_request",
            "duplicate field `model`",
        ),
        ("deep", format!(r#"{{"metadata":{{"a":{}{}}}}}"#, "[".repeat(80), "]".repeat(80)), "too_deep", "64"),
        ("id", r#"{"id":"../x"}"#.into(), "invalid_request", "a session id is"),
        ("model", r#"{"model":"gpt-9"}"#.into(), "unknown_model", "gpt-9"),
        ("empty input", r#"{"input":" "}"#.into(), "invalid_request", "empty"),
        ("empty list", r#"{"input":[]}"#.into(), "invalid_request", "last message"),
        (
            "assistant last",
            r#"{"input":[{"role":"assistant","content":"x"}]}"#.into(),
            "invalid_request",
            "last message",
        ),
        ("role", r#"{"input":[{"role":"god","content":"x"}]}"#.into(), "invalid_request", "unknown variant `god`"),
        ("message field", r#"{"input":[{"role":"user","content":"x","nme":1}]}"#.into(), "invalid_request", "`nme`"),
        ("temperature", r#"{"params":{"temperature":3}}"#.into(), "invalid_request", "params.temperature"),
        ("parameter", r#"{"params":{"temprature":{}}}"#.into(), "invalid_request", "params.temprature"),
        ("parameter's form", r#"{"params":{"temprature":0.5}}"#.into(), "invalid_request", "temprature"),
        ("seed", r#"{"params":{"seed":1.0}}"#.into(), "invalid_request", "1.0"),
        ("tokens", r#"{"params":{"max_tokens":18446744073709551616}}"#.into(), "invalid_request", ""),
        ("retention", r#"{"retention_s":0}"#.into(), "invalid_request", "1 to 2592000"),
        ("patience", r#"{"on_disconnect":{"cancel_after_s":86401}}"#.into(), "invalid_request", "at most 86400"),
        ("disconnect", r#"{"on_disconnect":{"cancel":1}}"#.into(), "invalid_request", "unknown field `cancel`"),
        ("tool name", tool(json!({"name": "a b"})), "invalid_request", "a tool name is"),
        ("tool field", tool(json!({"name": "t", "parametres": {}})), "invalid_request", "unknown field `parametres`"),
        ("tool schema", tool(schema), "invalid_request", "not a JSON Schema"),
        ("tool time", tool(json!({"name": "t", "timeout_s": 0})), "invalid_request", "timeout_s"),
        ("no such tool", tool(json!({"name": "t", "executor": "builtin"})), "invalid_request", "get_weather"),
        ("executor", tool(json!({"name": "t", "executor": "root"})), "invalid_request", "builtin"),
        ("same name", json!({"tools": [{"name": "t"}, {"name": "t"}]}).to_string(), "invalid_request", "two tools"),
        ("many tools", json!({"tools": many}).to_string(), "invalid_request", "at most 128"),
    ];
    for (row, body, due, says) in rows {
        let answer = post(&client, "/v1/sessions", &body).await;
        assert_eq!(code(&answer), (400, due.to_owned()), "{row}: {:?}", String::from_utf8_lossy(&answer.body));
        assert!(detail(&answer).contains(says), "{row}: {says:?} in {:?}", detail(&answer));
    }
    let taken = post(&client, "/v1/sessions", r#"{"id":"s","model":"demo/echo"}"#).await;
    assert_eq!(code(&taken), (409, "session_exists".into()));
    let list = client.get("/v1/sessions").await.json();
    assert_eq!(list["sessions"].as_array().expect("a list").len(), 1, "nothing was half made");
    unharmed(&client, &before).await;
}

#[tokio::test(start_paused = true)]
async fn h7_h8_h14_h15_h24_broken_http_harms_nobody() {
    let (server, client, before) = start().await;
    for (row, request, status) in [
        (
            "H7 lengths",
            "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            400,
        ),
        (
            "H8 chunk",
            "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        ("H8 NUL", "GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n", 400),
        ("H20 CONNECT", "CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n", 404),
        (
            "H23",
            "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
            100,
        ),
    ] {
        let mut stream = server.dialer.connect();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("written");
        let (got, _, _) = read_head(stream).await;
        assert!(got == status || (row == "H20 CONNECT" && (400..500).contains(&got)), "{row}: {got}");
    }
    // H14: a second request behind a stream, H15: a half-close; the stream is let go, the log is not.
    let mut stream = server.dialer.connect();
    send(&mut stream, "GET", EVENTS, &[("accept", "text/event-stream")], b"", false).await;
    send(&mut stream, "GET", "/healthz", &[], b"", false).await;
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await.expect("half-closed");
    drop(stream);
    // H24: HTTP/1.0 gets a stream that ends with its connection, never chunks.
    let mut stream = server.dialer.connect();
    let request = format!("GET {EVENTS} HTTP/1.0\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("written");
    let (status, headers, _) = read_head(stream).await;
    assert_eq!((status, headers.get("transfer-encoding")), (200, None), "{headers:?}");
    // H11: a HEAD opens no stream.
    let head = client.request("HEAD", EVENTS, &[("accept", "text/event-stream")], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    unharmed(&client, &before).await;
}

/// The first thing that a stream says.
async fn first(client: &Client, path: &str, headers: &[(&str, &str)]) -> SseEvent {
    client.stream(path, headers).await.next().await.expect("an event")
}

#[tokio::test(start_paused = true)]
async fn s_cursors_that_are_none_and_cursors_that_are_lost() {
    let (_server, client, before) = start().await;
    let tail = before["last_event_id"].as_str().expect("a cursor").to_owned();
    let epoch = tail.split('.').next().expect("an epoch");
    for bad in [
        "1e9",
        "-1",
        "+5",
        " 5",
        "5x",
        "42",
        "0",
        "k7q2mx",
        "k7q2mx.0",
        "k7q2mx.042",
        "k7q2mx.18446744073709551616",
        "K7Q2MX.1",
        "';DROP TABLE--",
        "../../etc/passwd",
        "a@k7q2mx.1",
        "*",
        "k7q2mx.1 ",
        "%00",
    ] {
        let encoded: String = bad.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let by_query = client.get(&format!("{EVENTS}?after={encoded}")).await;
        assert_eq!(code(&by_query), (400, "bad_cursor".into()), "S10 S13 {bad:?}");
        // A header's white space is its framing, not its value.
        if bad.trim() == bad {
            let by_header = client.request("GET", EVENTS, &[("last-event-id", bad)], b"").await;
            assert_eq!(code(&by_header), (400, "bad_cursor".into()), "S9 {bad:?}");
        }
    }
    let long = "9".repeat(10_240);
    for (row, headers) in [
        ("S9 letters", vec![("last-event-id", "naïve.1")]),
        ("S9 length", vec![("last-event-id", long.as_str())]),
        ("S12", vec![("last-event-id", tail.as_str()), ("last-event-id", tail.as_str())]),
    ] {
        assert_eq!(code(&client.request("GET", EVENTS, &headers, b"").await), (400, "bad_cursor".into()), "{row}");
    }
    for (row, cursor, reason) in [
        ("S4", format!("{epoch}.999999"), "ahead"),
        ("S5", "zzzzzz.1".to_owned(), "epoch"),
        ("S10 most", format!("{epoch}.18446744073709551615"), "ahead"),
    ] {
        let mut stream = client.stream(EVENTS, &[("last-event-id", &cursor)]).await;
        let reset = stream.next().await.expect("a reset");
        assert_eq!((reset.event.as_str(), &reset.data["reason"], &reset.id), ("reset", &json!(reason), &None), "{row}");
        let snapshot = stream.next().await.expect("a snapshot");
        assert_eq!((snapshot.event.as_str(), snapshot.id.as_deref()), ("snapshot", Some(tail.as_str())), "{row}");
        let page = client.get_json(&format!("{EVENTS}?after={cursor}")).await.json();
        assert_eq!(page["reset"]["reason"], reason, "{row}");
    }
    // S1 S8: no cursor and an empty one are the start; S2: at the tail nothing comes; S11: the header goes before.
    for headers in [vec![], vec![("last-event-id", "")]] {
        let first = first(&client, EVENTS, &headers).await;
        assert_eq!(first.event, "session.created");
    }
    let path = format!("{EVENTS}?after={epoch}.1");
    let first = first(&client, &path, &[("last-event-id", &tail)]).await;
    assert_eq!(
        (first.event.as_str(), &first.data["seq"]),
        ("caught_up", &json!(tail.split('.').nth(1).unwrap().parse::<u64>().unwrap()))
    );
    for (query, says) in
        [("wait_s=31", "30"), ("limit=0", "1 to 1000"), ("limit=1001", "1 to 1000"), ("wait_s=-1", "wait_s")]
    {
        let answer = client.get_json(&format!("{EVENTS}?{query}")).await;
        assert_eq!(code(&answer), (400, "bad_request".into()), "S22 {query}");
        assert!(detail(&answer).contains(says), "{query}: {}", detail(&answer));
    }
    unharmed(&client, &before).await;
}

#[tokio::test(start_paused = true)]
async fn s15_sessions_that_cannot_be_had_look_alike() {
    let (_server, client, before) = start().await;
    client.create(json!({"id": "gone", "model": "demo/echo"})).await;
    assert_eq!(client.delete("/v1/sessions/gone").await.status, 204);
    let long = "x".repeat(3_000);
    let mut answers = Vec::new();
    for name in ["unknown", "gone", "..%2fs", "%00", "-", "s%20", "%ff", "é", "s,s", "a@b", &long] {
        let path = format!("/v1/sessions/{name}");
        answers.push((name, client.get(&path).await));
        answers.push((name, client.delete(&path).await));
        answers.push((name, client.get(&format!("{path}/events")).await));
        answers.push((name, client.get_json(&format!("{path}/events?wait_s=5")).await));
        answers.push((name, post(&client, &format!("{path}/control"), r#"{"type":"cancel"}"#).await));
    }
    let first = answers[0].1.body.clone();
    for (name, answer) in &answers {
        assert_eq!((answer.status, &answer.body), (404, &first), "{name}");
    }
    assert_eq!(answers[0].1.code(), "session_not_found");
    // On a shared stream one that is gone says so and takes nobody with it.
    let mut stream = client.stream("/v1/events?sessions=gone,s", &[]).await;
    assert_eq!(stream.until("gone").await.data["session_id"], "gone");
    assert_eq!(stream.until("caught_up").await.data["session_id"], "s");
    unharmed(&client, &before).await;
}
