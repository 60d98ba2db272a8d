//! The end of a server: readers are told at once and come back one after another, sockets hear why, and a second signal
//! ends it without waiting.

use std::{process::Stdio, time::Duration};

use serde_json::json;
use steerage::server::Drained;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, timeout},
};

use super::closed;
use crate::support::{
    Folder, TestServer,
    script::{Scripted, endless},
};

#[tokio::test(start_paused = true)]
async fn r17_readers_are_told_at_once_and_come_back_over_ten_seconds() {
    let model = Scripted::new([endless("on and on")]);
    let server = TestServer::with(|server| server.provider("script", model));
    let client = server.client();
    client.create(json!({"id": "s", "model": "script/m", "input": "go"})).await;
    let mut streams = Vec::new();
    for n in 0..60 {
        let path = if n % 4 == 0 { "/v1/events?sessions=s" } else { "/v1/sessions/s/events" };
        let mut stream = client.stream(path, &[]).await;
        stream.until("caught_up").await;
        streams.push(stream);
    }
    let begun = Instant::now();
    let (mut waits, told) = (Vec::new(), async |streams: &mut Vec<_>, waits: &mut Vec<u64>| {
        for stream in streams {
            let stream: &mut crate::support::Sse<_> = stream;
            let last = stream.rest().await.pop().expect("a good-bye");
            assert_eq!(last.event, "reconnect");
            let after_ms = last.data["after_ms"].as_u64().unwrap();
            assert_eq!(stream.retry_ms, Some(after_ms), "an EventSource hears only `retry:`");
            waits.push(after_ms);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "a clean end, long before the grace is over");
    });
    let (drained, ()) = tokio::join!(server.stop(), told(&mut streams, &mut waits));
    assert_eq!(drained, Drained::Cut(1));
    assert!(waits.iter().all(|ms| (1_000..=15_000).contains(ms)), "{waits:?}");
    // Uniform over ten seconds on top of a few: every two-second step has some, none has half.
    for from in (3_000..13_000).step_by(2_000) {
        let here = waits.iter().filter(|ms| (from..from + 2_000).contains(*ms)).count();
        assert!((2..30).contains(&here), "{here} of 60 come back between {from} and {} ms", from + 2_000);
    }
}

#[tokio::test(start_paused = true)]
async fn w19_a_server_that_drains_tells_every_socket_why() {
    let model = Scripted::new([endless("on and on")]);
    let server = TestServer::with(|server| server.provider("script", model));
    let client = server.client();
    client.create(json!({"id": "s", "model": "script/m", "input": "go"})).await;
    let mut sockets = Vec::new();
    for path in ["/v1/sessions/s/ws", "/v1/ai-sdk/chat/ws", "/v1/responses"] {
        sockets.push((path, client.socket(path).await));
    }
    let ends = async {
        for (path, socket) in &mut sockets {
            assert_eq!(closed(socket).await, (1012, "the server restarts".into()), "W19 {path}");
        }
    };
    tokio::join!(server.stop(), ends);
}

/// The real program, with one endless run.
struct Program {
    child: Child,
    address: String,
    folder: Folder,
}

impl Program {
    async fn start() -> Self {
        let folder = Folder::new();
        let store = format!("disk:{}", folder.path().join("store").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_steerage"))
            .args(["--store", &store, "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let greeting = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        let address = greeting.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
        let program = Self { child, address, folder };
        let body = json!({"id": "s", "model": "demo/story", "input": "go", "params": {"tokens_per_second": 1}});
        assert!(program.ask("POST", "/v1/sessions", &body.to_string()).await.contains("201 Created"));
        program
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
    }
}

#[tokio::test]
async fn o8_a_second_signal_of_either_kind_ends_it_at_once_and_everything_is_stored() {
    for (first, second) in [("-TERM", "-TERM"), ("-INT", "-INT"), ("-TERM", "-INT")] {
        let mut program = Program::start().await;
        let before = Instant::now();
        program.signal(first).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(program.child.try_wait().unwrap().is_none(), "{first}: the run has its grace");
        program.signal(second).await;
        let status = timeout(Duration::from_secs(10), program.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{first} {second}: {status}");
        assert!(before.elapsed() < Duration::from_secs(8), "{first} {second}: {:?}", before.elapsed());
        // What was shown is in the store, whole.
        let store = program.folder.path().join("store");
        let dump = Command::new(env!("CARGO_BIN_EXE_steerage")).args(["store", "check"]).arg(&store).output().await;
        let dump = dump.unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_waits_is_answered_when_the_server_stops() {
    let server = TestServer::start();
    let client = server.client();
    client.create(json!({"id": "s", "model": "demo/echo"})).await;
    let tail = client.snapshot("s").await["last_event_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/s/events?wait_s=30&after={tail}");
    let begun = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.stop().await
    };
    let (page, drained) = tokio::join!(client.get_json(&path), stop);
    assert_eq!((page.status, &page.json()["events"]), (200, &json!([])));
    assert_eq!(drained, Drained::Whole);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}: the poll held the server up", begun.elapsed());
}
