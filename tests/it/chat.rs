//! `steerage chat` against a real server process: piped, interactive, interrupted, and behind a proxy that cuts.

use std::{process::Stdio, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    task::JoinSet,
    time::timeout,
};

use crate::support::client::{PATIENCE, read_head, send, text_of};

/// The binary under test, without what the environment of the test may say.
fn steerage(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steerage"));
    command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ["STEERAGE_URL", "STEERAGE_MODEL", "STEERAGE_CONFIG", "STEERAGE_UPSTREAM", "STEERAGE_LOG", "STEERAGE_API_KEY"]
        .iter()
        .for_each(|name| {
            command.env_remove(name);
        });
    command
}

/// A server process on a port of its own.
struct Host {
    _process: Child,
    address: String,
}

impl Host {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        let mut process = steerage(
            &[&["serve", "--listen", "127.0.0.1:0", "--store", "memory", "--allowed-host", "steerage.test"], more]
                .concat(),
        )
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        Self { _process: process, address: address.to_owned() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        send(&mut stream, "GET", path, &[("accept", "application/json")], b"", true).await;
        let (_, _, mut body) = read_head(stream).await;
        let mut whole = Vec::new();
        while let Some(piece) = body.chunk().await {
            whole.extend(piece);
        }
        serde_json::from_slice(&whole).unwrap()
    }

    /// Every session's log.
    async fn logs(&self) -> Vec<Vec<Value>> {
        let mut logs = Vec::new();
        for session in self.get("/v1/sessions").await["sessions"].as_array().unwrap() {
            let path = format!("/v1/sessions/{}/events", session["session_id"].as_str().unwrap());
            let page = self.get(&path).await;
            assert_eq!(page["caught_up"], true, "one page is enough for a test");
            logs.push(page["events"].as_array().unwrap().clone());
        }
        logs
    }
}

fn count(log: &[Value], kind: &str) -> usize {
    log.iter().filter(|event| event["type"] == kind).count()
}

/// Runs a client over an input that ends: exit code, standard output, standard error.
async fn piped(url: &str, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = steerage(&[&["chat", "--url", url], arguments].concat()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends by itself").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn each_piped_line_is_one_send_and_answers_alone_are_on_standard_output() {
    let host = Host::start().await;
    let (code, out, err) = piped(&host.url(), &["--model", "demo/echo"], "one — 四\n\ntwo").await;
    assert_eq!((code, out.as_str()), (0, "one — 四\ntwo\n"), "{err}");
    assert!(!err.contains('\u{1b}'), "no colours where no terminal is: {err:?}");
    let log = &host.logs().await[0];
    assert_eq!((count(log, "run.completed"), count(log, "run.started")), (2, 2));
    let at = |kind: &str| log.iter().position(|event| event["type"] == kind).unwrap();
    let second = log.iter().rposition(|event| event["type"] == "input.added").unwrap();
    assert!(at("run.completed") < second, "the second line waits for the end of the first answer");
}

#[tokio::test]
async fn a_server_with_keys_is_talked_to_with_one() {
    let host = Host::with(&["--api-key", "sk_right-0123456789"]).await;
    let (code, out, _) =
        piped(&host.url(), &["--api-key", "sk_right-0123456789", "--model", "demo/echo"], "hi\n").await;
    assert_eq!((code, out.contains("hi")), (0, true), "{out}");
    for arguments in [&["--api-key", "sk_wrong-0123456789"][..], &[]] {
        let (code, _, told) = piped(&host.url(), arguments, "hi\n").await;
        assert!(code != 0 && told.contains("send a key") && !told.contains("sk_"), "{told}");
    }
    let check = steerage(&["check", "--store", "memory", "--api-key", "sk_right-0123456789"]).output().await.unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    assert!(check.status.success() && shown.contains("[keys.key-1]") && !shown.contains("sk_"), "{shown}");
}

#[tokio::test]
async fn a_script_sees_failures_and_never_approves() {
    let host = Host::start().await;
    let (code, out, err) = piped(&host.url(), &["--model", "demo/chaos"], "error\n").await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("failed (upstream_error)"), "{err}");
    let (code, out, err) = piped(&host.url(), &["--model", "demo/tools"], "the weather in Oslo\n").await;
    assert_eq!(code, 0, "a refused tool is no failed run: {err}");
    assert!(out.contains("I was refused") && err.contains("--interactive"), "{out}{err}");
    let (code, _, err) = piped(&host.url(), &["--session", "nope"], "hi\n").await;
    assert!(code == 1 && err.contains("no such session"), "{err}");
    let (code, _, err) = piped(&host.url(), &["--model", "demo/none"], "hi\n").await;
    assert!(code == 1 && err.contains("demo/none"), "{err}");
}

/// A client whose lines are typed one by one.
struct Typist {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    out: String,
    stderr: Option<tokio::process::ChildStderr>,
    partial: Vec<u8>,
}

impl Typist {
    fn start(host: &Host, arguments: &[&str]) -> Self {
        let url = host.url();
        let mut child = steerage(&[&["chat", "--url", &url], arguments].concat()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let stderr = child.stderr.take();
        Self { child, stdin, stdout, out: String::new(), stderr, partial: Vec::new() }
    }

    async fn types(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads answers until `text` is in them.
    async fn until_answer(&mut self, text: &str) {
        while !self.out.contains(text) {
            let mut bytes = [0; 4096];
            let n = timeout(PATIENCE, self.stdout.read(&mut bytes)).await.expect("more of the answer").unwrap();
            assert!(n > 0, "the answers ended without {text:?}: {}", self.out);
            self.partial.extend_from_slice(&bytes[..n]);
            self.out = String::from_utf8_lossy(&self.partial).into_owned();
        }
    }

    /// Reads what is said beside the answers until `text` is in it; gives what was read.
    async fn until_aside(&mut self, text: &str) -> String {
        let stderr = self.stderr.as_mut().unwrap();
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !String::from_utf8_lossy(&said).contains(text) {
            let n = timeout(PATIENCE, stderr.read(&mut byte)).await.expect("more on standard error").unwrap();
            assert!(n > 0, "standard error ended without {text:?}: {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        String::from_utf8(said).unwrap()
    }

    /// Ends the input; the exit code when it has left.
    async fn leaves(mut self) -> (i32, String) {
        drop(self.stdin);
        self.stdout.read_to_end(&mut self.partial).await.unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it leaves").unwrap();
        (status.code().unwrap(), String::from_utf8(self.partial).unwrap())
    }
}

#[tokio::test]
async fn a_line_typed_while_it_answers_steers() {
    let host = Host::start().await;
    let mut typist = Typist::start(&host, &["--interactive", "--model", "demo/story"]);
    typist.types("Tell me a story").await;
    typist.until_answer(" ").await;
    typist.types("with a lighthouse").await;
    typist.until_answer("lighthouse").await;
    let (code, out) = typist.leaves().await;
    assert_eq!(code, 0);
    let log = &host.logs().await[0];
    assert_eq!((count(log, "run.started"), count(log, "run.completed")), (1, 1), "a steer stays in the run");
    let (first, second) = out.split_once('\n').expect("the cut is a line's end");
    assert_eq!(format!("{first}{second}"), text_of(log) + "\n", "both parts, each once");
}

#[tokio::test]
async fn approvals_are_asked_answered_and_asked_again() {
    let host = Host::start().await;
    let mut typist = Typist::start(&host, &["--interactive", "--model", "demo/tools"]);
    typist.types("the weather in Oslo").await;
    typist.until_aside("[e]dit? ").await;
    typist.types("y").await;
    typist.until_answer("In Oslo it is").await;
    // Idle again only when the answer has ended: a steer would be another run's business.
    typist.until_answer("whenever you like.\n").await;
    typist.types("the weather in Rome").await;
    typist.until_aside("[e]dit? ").await;
    typist.types("perhaps").await;
    assert!(typist.until_aside("[e]dit? ").await.contains("answer y, n or e"));
    typist.types("n").await;
    typist.until_answer("I was refused").await;
    typist.until_answer("whenever you ask me to.\n").await;
    typist.types("the weather in Lisbon").await;
    typist.until_aside("[e]dit? ").await;
    typist.types("e").await;
    typist.until_aside("on one line: ").await;
    typist.types("{\"city\"").await;
    assert!(typist.until_aside("[e]dit? ").await.contains("not JSON"));
    typist.types("e").await;
    typist.until_aside("on one line: ").await;
    typist.types("{\"city\":5}").await;
    assert!(typist.until_aside("[e]dit? ").await.contains("invalid_arguments"), "the server's schema decides");
    typist.types("e").await;
    typist.until_aside("on one line: ").await;
    typist.types("{\"city\":\"Bergen\"}").await;
    typist.until_answer("In Bergen it is").await;
    assert_eq!(typist.leaves().await.0, 0);
    let log = &host.logs().await[0];
    assert_eq!((count(log, "approval.resolved"), count(log, "tool.started")), (3, 2));
}

#[tokio::test]
async fn ctrl_c_cancels_and_a_second_one_leaves() {
    let host = Host::start().await;
    let mut typist = Typist::start(&host, &["--interactive", "--model", "demo/story"]);
    typist.types("Tell me a story").await;
    typist.until_answer(" ").await;
    interrupt(&typist.child).await;
    typist.until_aside("■ cancelled").await;
    let log = &host.logs().await[0];
    let end = log.iter().position(|event| event["type"] == "run.cancelled").expect("the run was cancelled");
    assert_eq!(count(&log[end..], "text.delta"), 0);
    // It is still there: the next line is answered, and Ctrl-C while nothing runs leaves.
    typist.types("Tell me another").await;
    typist.until_aside("demo text").await;
    interrupt(&typist.child).await;
    typist.until_aside("■ cancelled").await;
    interrupt(&typist.child).await;
    let status = timeout(PATIENCE, typist.child.wait()).await.expect("it leaves").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn ctrl_c_ends_a_script_and_says_so() {
    let host = Host::start().await;
    let mut typist = Typist::start(&host, &["--model", "demo/story"]);
    typist.types("Tell me a story\nTell me another").await;
    typist.until_answer(" ").await;
    interrupt(&typist.child).await;
    let status = timeout(PATIENCE, typist.child.wait()).await.expect("it leaves").unwrap();
    assert_eq!(status.code(), Some(130));
    let log = &host.logs().await[0];
    assert_eq!((count(log, "run.cancelled"), count(log, "run.started")), (1, 1), "the second line is not sent");
}

async fn interrupt(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
}

/// A proxy that cuts every event stream, and every second answer to a POST, at a random byte. It shortens `retry:` to
/// 20 ms, so that a client that honours it needs no minutes.
struct Proxy {
    url: String,
    cuts: Arc<Mutex<(usize, usize)>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(upstream: String, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(Mutex::new((0, 0)));
        let counted = cuts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut random, mut posts) = (fastrand::Rng::with_seed(seed), 0);
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 16 * 1024];
                let n = client.read(&mut request).await.unwrap_or(0);
                let is_post = request.starts_with(b"POST");
                posts += usize::from(is_post);
                let limit = match (is_post, posts % 2) {
                    (true, 1) => random.usize(0..400),
                    (true, _) => usize::MAX,
                    (false, _) => random.usize(0..4_000),
                };
                let (upstream, counted) = (upstream.clone(), counted.clone());
                connections.spawn(async move {
                    let mut server = TcpStream::connect(upstream).await.unwrap();
                    server.write_all(&request[..n]).await.unwrap();
                    if pass(&mut client, &mut server, limit).await.is_none() {
                        let mut counted = counted.lock().await;
                        let counter = if is_post { &mut counted.0 } else { &mut counted.1 };
                        *counter += 1;
                    }
                });
            }
        });
        Self { url, cuts, _tasks: tasks }
    }
}

/// Passes bytes on; `None` when the limit has cut them.
async fn pass(client: &mut TcpStream, server: &mut TcpStream, mut limit: usize) -> Option<()> {
    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
    loop {
        tokio::select! {
            n = client.read(&mut up) => match n {
                Ok(n) if n > 0 => server.write_all(&up[..n]).await.ok()?,
                _ => return Some(()),
            },
            n = server.read(&mut down) => {
                let Ok(n @ 1..) = n else { return Some(()) };
                let piece = &mut down[..n];
                if let Some(at) = piece.windows(7).position(|window| window == b"retry: ")
                    && let Some(digits) = piece.get_mut(at + 7..at + 11)
                {
                    digits.copy_from_slice(b"0020");
                }
                let passed = n.min(limit);
                client.write_all(&piece[..passed]).await.ok()?;
                limit -= passed;
                if limit == 0 {
                    return None;
                }
            }
        }
    }
}

#[tokio::test]
async fn whatever_is_cut_the_output_is_the_log() {
    let host = Arc::new(Host::start().await);
    let mut runs = JoinSet::new();
    for seed in 0..8 {
        let host = host.clone();
        runs.spawn(async move {
            let proxy = Proxy::start(host.address.clone(), seed).await;
            let input = format!("Story {seed}\n");
            let (code, out, err) = piped(&proxy.url, &["--model", "demo/story"], &input).await;
            assert_eq!(code, 0, "seed {seed}: {err}");
            let (posts, streams) = *proxy.cuts.lock().await;
            assert!(posts >= 1 && streams >= 5, "seed {seed}: the proxy has cut {posts} answers, {streams} streams");
            (input.trim().to_owned(), out)
        });
    }
    let mut answers = runs.join_all().await;
    for log in host.logs().await {
        assert_eq!((count(&log, "run.started"), count(&log, "input.added")), (1, 1), "a send has one effect");
        let said = log.iter().find(|event| event["type"] == "input.added").unwrap()["content"].as_str().unwrap();
        let at = answers.iter().position(|(input, _)| input == said).expect("each session is of one client");
        assert_eq!(answers.swap_remove(at).1, text_of(&log) + "\n");
    }
    assert!(answers.is_empty());
}

#[tokio::test]
async fn a_rejoined_session_is_shown_from_its_start_and_goes_on() {
    let host = Host::start().await;
    piped(&host.url(), &["--model", "demo/echo"], "first\n").await;
    let session = host.logs().await[0][0]["session_id"].as_str().unwrap().to_owned();
    let (code, out, err) = piped(&host.url(), &["--session", &session, "--interactive"], "second\n").await;
    assert_eq!((code, out.as_str()), (0, "first\nsecond\n"), "{err}");
    assert!(err.contains("> first") && !err.contains("> second"), "own words are not repeated: {err}");
    let (_, out, _) = piped(&host.url(), &["--session", &session], "third\n").await;
    assert_eq!(out, "third\n", "a script gets what it asks for");
}
