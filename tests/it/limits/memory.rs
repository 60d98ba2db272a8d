//! Little memory: the real program with a small budget. Nothing new is begun, streams end one after another, and what
//! there is can still be stopped.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

use crate::support::{Folder, Sse, client::read_head, client::send};

/// Bytes that the program may use, and that one session of ours brings.
const BUDGET: usize = 96 << 20;
const INPUT: usize = 3 << 20;

struct Program(String);

impl Program {
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.0).await.unwrap();
        let body = body.to_string();
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        send(&mut stream, method, path, &headers, body.as_bytes(), true).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    async fn stream(&self, path: &str) -> Sse<TcpStream> {
        let mut stream = TcpStream::connect(&self.0).await.unwrap();
        send(&mut stream, "GET", path, &[("accept", "text/event-stream")], b"", false).await;
        let (status, _, body) = read_head(stream).await;
        assert_eq!(status, 200, "never an error for an EventSource");
        Sse::new(body)
    }
}

#[tokio::test]
async fn s19_with_little_memory_nothing_is_begun_streams_end_and_stop_works() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path()).unwrap();
    let file = folder.path().join("steerage.toml");
    let config = format!(
        "listen = \"127.0.0.1:0\"\nstore = \"memory\"\nallowed_hosts = [\"steerage.test\"]\n\
         [limits]\nmemory_max_bytes = {BUDGET}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_steerage"))
        .args(["--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let greeting = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let address = greeting.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let program = Program(address.to_owned());
    let run = json!({"id": "s", "model": "demo/story", "input": "go", "params": {"tokens_per_second": 1}});
    assert_eq!(program.ask("POST", "/v1/sessions", run).await.0, 201);
    let mut readers = Vec::new();
    for _ in 0..16 {
        readers.push(program.stream("/v1/sessions/s/events").await);
    }
    // Until it is enough: each brings a conversation that stays in memory.
    let brought = |id: usize| json!({"id": format!("big-{id}"), "input": "x".repeat(INPUT), "model": "demo/echo"});
    let begun = Instant::now();
    let mut id = 0;
    let refused = loop {
        let (status, answer) = program.ask("POST", "/v1/sessions", brought(id)).await;
        if status != 201 {
            break (status, answer);
        }
        id += 1;
        assert!(id < 200 && begun.elapsed() < Duration::from_secs(60), "it takes everything");
    };
    assert_eq!((refused.0, &refused.1["code"]), (503, &json!("overloaded")), "{refused:?}");
    let detail = refused.1["detail"].as_str().unwrap();
    assert!(detail.contains("limits.memory_max_bytes") && detail.contains(&BUDGET.to_string()), "{detail}");
    // A new reader is told inside its stream; a command of a session that there is passes.
    let told = program.stream("/v1/sessions/s/events").await.next().await.expect("an event");
    assert_eq!((&told.data["type"], &told.data["limit"]), (&json!("overloaded"), &json!("limits.memory_max_bytes")));
    let steer = json!({"type": "steer", "content": "shorter"});
    assert_eq!(program.ask("POST", "/v1/sessions/s/control", steer).await.0, 200);
    // Further up, by what commands bring, readers are asked to leave.
    let push = async {
        for n in 0..2_000 {
            let send = json!({"type": "send", "content": "x".repeat(15 << 10), "if_running": "queue"});
            let path = format!("/v1/sessions/big-{}/control", n % id);
            let _full_or_not = program.ask("POST", &path, send).await;
        }
        std::future::pending::<()>().await;
    };
    let shed = async {
        let ends = readers.iter_mut().map(|reader| Box::pin(reader.until("overloaded")));
        futures_util::future::select_all(ends).await.0
    };
    let shed = async {
        tokio::select! { told = shed => told, () = push => unreachable!("it never ends") }
    };
    let told = timeout(Duration::from_secs(90), shed).await.expect("a reader is asked to leave").data;
    assert_eq!((&told["limit"], &told["max"]), (&json!("limits.memory_max_bytes"), &json!(BUDGET)));
    // Stop works all the same.
    let (status, receipt) = program.ask("POST", "/v1/sessions/s/control", json!({"type": "cancel"})).await;
    assert_eq!((status, &receipt["status"]), (200, &json!("applied")));
    child.kill().await.unwrap();
}
