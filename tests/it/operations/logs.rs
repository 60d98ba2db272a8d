//! The log: each line says whose it is, no text of others makes a line, and no key is in it (`auth/secrets.rs`).

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use steerage::{config::LogFormat, telemetry};
use tracing::{Dispatch, Level, subscriber::DefaultGuard};
use tracing_subscriber::{filter::Targets, fmt::MakeWriter};

use crate::support::{Breakable, TestServer};

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything from now on, of this thread, as the binary would write it.
    pub(crate) fn keep(format: LogFormat) -> (Self, Kept) {
        let log = Self::default();
        let all = Targets::new().with_default(Level::TRACE);
        let guard = tracing::subscriber::set_default(telemetry::logs(format, all, false, log.clone()));
        // While there is only one, a place in the code that another thread comes to first is asked of that thread, which
        // has none, and is off for everybody from then on.
        let another = Dispatch::new(tracing_subscriber::registry());
        tracing::trace!("the log is on");
        (log, Kept { _guard: guard, _another: another })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("UTF-8")
    }

    fn json(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.text().lines().map(line).collect()
    }
}

/// Until this is dropped.
pub(crate) struct Kept {
    _guard: DefaultGuard,
    _another: Dispatch,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The line of a request that says how it ended.
fn ended<'a>(lines: &'a [Value], method: &str, path: &str) -> &'a Value {
    let ends =
        |line: &&Value| line["status"].is_number() && line["span"]["path"] == path && line["span"]["method"] == method;
    lines.iter().find(ends).unwrap_or_else(|| panic!("no line of {method} {path} in {lines:#?}"))
}

#[tokio::test(start_paused = true)]
async fn a_request_has_one_line_with_its_name_and_what_it_was_about() {
    let (log, _guard) = Log::keep(LogFormat::Json);
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo", "input": "one"})).await;
    let asked = client.request("GET", "/v1/sessions/s?x=secret", &[("x-request-id", "req_forged")], b"").await;
    let unknown = client.get("/nothing/here?y=secret").await;
    client.control("s", json!({"type": "cancel"})).await;
    let say =
        json!({"id": "chat", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}]});
    client.post("/v1/ai-sdk/chat", say).await;
    let response = client.post("/v1/responses", json!({"model": "demo/echo", "input": "x"})).await;
    client.get("/v1/events?sessions=nobody,none&from=now").await;
    store.break_down("the disk is full");
    let failed = client.post("/v1/sessions", json!({"input": "two"})).await;
    assert_eq!(failed.status, 503);
    let lines = log.json();
    let line = ended(&lines, "GET", "/v1/sessions/s");
    assert_eq!((&line["level"], &line["status"]), (&json!("DEBUG"), &json!(asked.status)));
    assert_eq!(line["span"]["request_id"], asked.headers["x-request-id"]);
    // Whichever door it came to, and once.
    assert_eq!(line["span"]["session_id"], "s");
    for (method, path, session) in [
        ("POST", "/v1/sessions", "s"),
        ("POST", "/v1/sessions/s/control", "s"),
        ("POST", "/v1/ai-sdk/chat", "chat"),
        ("POST", "/v1/responses", &response.headers["steerage-session"]),
        ("GET", "/v1/events", "nobody"),
    ] {
        assert_eq!(ended(&lines, method, path)["span"]["session_id"], session, "{method} {path}");
    }
    assert!(line["duration_ms"].is_number() && line["timestamp"].is_string(), "{line}");
    assert_eq!(ended(&lines, "GET", "/nothing/here")["span"]["request_id"], unknown.headers["x-request-id"]);
    assert_eq!(ended(&lines, "POST", "/v1/sessions/s/control")["status"], 200);
    let told = lines.iter().filter(|line| line["status"] == 503).collect::<Vec<_>>();
    assert_eq!((told.len(), &told[0]["level"]), (1, &json!("WARN")));
    assert_eq!(told[0]["span"]["request_id"], failed.headers["x-request-id"]);
    assert!(!line.to_string().contains("req_forged"));
    let ours = lines.iter().filter(|line| line["target"].as_str().is_some_and(|t| t.starts_with("steerage")));
    assert!(ours.into_iter().all(|line| !line.to_string().contains("secret")), "a query is in the log");
}

#[tokio::test(start_paused = true)]
async fn a_session_s_task_says_which_session_it_is_of() {
    let (log, _guard) = Log::keep(LogFormat::Json);
    let store = Breakable::default();
    let server = TestServer::with(|server| server.store(store.clone()));
    let client = server.client();
    client.create(json!({"id": "gone", "model": "demo/echo", "input": "one"})).await;
    client.create(json!({"id": "broken", "model": "demo/story", "input": "one"})).await;
    client.delete("/v1/sessions/gone").await;
    store.break_down("the disk is full");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let lines = log.json();
    let told = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap_or(&Value::Null);
    assert_eq!(told("session ended")["session_id"], "gone");
    assert_eq!(told("append failed, the session is closed")["session_id"], "broken");
}

/// What would begin a line of its own, colour a terminal, or end a JSON string.
const EVIL: &str = "one\n2026-01-01T00:00:00Z ERROR steerage: forged\r\n\u{1b}[31mred\u{9b}31m\"}\u{2028}";

#[tokio::test(start_paused = true)]
async fn t24_no_text_of_others_makes_a_line_of_the_log() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let (log, guard) = Log::keep(format);
        let store = Breakable::default();
        let server = TestServer::with(|server| server.store(store.clone()));
        let client = server.client();
        client.create(json!({"id": "s", "model": "demo/story", "input": EVIL, "metadata": {"a": EVIL}})).await;
        client.control("s", json!({"type": "steer", "content": EVIL})).await;
        client.control("s", json!({"type": "cancel", "run_id": EVIL})).await;
        client.post("/v1/sessions", json!({"model": EVIL, "input": "x"})).await;
        client.create(json!({"model": "demo/chaos", "input": format!("Please, error! {EVIL}")})).await;
        for path in ["/%0a2026-01-01T00:00:00Z%20ERROR%20forged", "/v1/sessions/%1b%5b31m%0d%0aforged", "/\u{9b}31m"] {
            client.get(path).await;
        }
        client.request("GET", "/", &[("x-request-id", "a\tb"), ("user-agent", "\u{1b}[31mforged")], b"").await;
        store.break_down(EVIL);
        client.post("/v1/sessions", json!({"input": "x"})).await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        server.stop().await;
        drop(guard);
        let text = log.text();
        assert!(text.contains("the log is on") && text.contains("a request failed"));
        assert!(text.contains("forged"), "the test asks for what is logged");
        let raw = |c: char| c.is_control() && c != '\n' && c != '\t';
        let odd = text.lines().find(|line| line.contains(raw));
        assert_eq!(odd, None, "{format:?}");
        for line in text.lines() {
            match format {
                LogFormat::Text => {
                    let (time, rest) = line.split_once(' ').expect("a time and a level");
                    assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
                    assert!(
                        ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].iter().any(|l| rest.trim_start().starts_with(l))
                    );
                    assert!(!line.starts_with("2026-01-01T00:00:00Z ERROR"), "{line}");
                }
                LogFormat::Json => assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object())),
            }
        }
    }
}
