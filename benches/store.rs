//! What the store on disk costs: bytes for a token of a normal answer, replay of what left the memory, and a start with
//! ten thousand sessions, some of whose runs were open when the process was killed.
//!
//! `scripts/bench` runs it; with `--quick`, or without cargo's `--bench`, it only shows that it works.
#![expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own clock and sleep")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use steerage::{Config, Server, server::Running, store::disk::operate};
use tower::ServiceExt as _;

/// Sessions that are asked for side by side.
const AT_ONCE: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = !std::env::args().any(|arg| arg == "--bench") || std::env::args().any(|arg| arg == "--quick");
    let (answers, resting, open) = if quick { (10, 50, 10) } else { (500, 9_500, 500) };
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-sessions");
    let _of_the_last_time = std::fs::remove_dir_all(&home);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("| what | figure |\n| --- | --- |");
    runtime.block_on(async {
        bytes_and_replay(&home.join("answers"), answers).await?;
        let killed = sessions_of_a_killed_process(&home.join("many"), resting, open).await?;
        start(&killed, resting, open)
    })?;
    std::fs::remove_dir_all(&home)?;
    Ok(())
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn serve(folder: &Path) -> Outcome<Running> {
    let store = format!("disk:{}", folder.display());
    let mut config = Config { store, drain_grace_s: 0, ..Config::default() };
    config.limits.sessions_max = 20_000;
    // Ten thousand of one tenant, made as fast as it goes.
    config.limits.session_creates_per_s = 0;
    (config.tenant_limits.sessions_max, config.tenant_limits.runs_max) = (0, 0);
    Ok(Server::new(config)?.start()?)
}

async fn get(router: &Router, path: &str) -> Outcome<Vec<u8>> {
    let response = router.clone().oneshot(Request::get(path).body(Body::empty())?).await?;
    Ok(response.into_body().collect().await?.to_bytes().to_vec())
}

async fn create(router: &Router, session: Value) -> Outcome<()> {
    let request = Request::post("/v1/sessions").header("content-type", "application/json");
    let response = router.clone().oneshot(request.body(Body::from(session.to_string()))?).await?;
    match response.status().as_u16() {
        201 => Ok(()),
        status => Err(format!("a create was answered with {status}").into()),
    }
}

/// Normal answers: stories of about 250 words, a word or so to a token, each from its own session and seed.
async fn bytes_and_replay(folder: &Path, answers: usize) -> Outcome<()> {
    let running = serve(folder)?;
    let router = &running.router;
    let tell = |n: usize| async move {
        let params = json!({"seed": n, "tokens_per_second": 200});
        create(
            router,
            json!({"id": format!("s{n}"), "model": "demo/story", "input": "tell me a story", "params": params}),
        )
        .await?;
        get(router, &format!("/v1/sessions/s{n}/events?until=idle")).await.map(drop)
    };
    stream::iter(0..answers)
        .map(tell)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Outcome<()>>()?;
    let mut tokens = 0;
    for n in 0..answers {
        let snapshot: Value = serde_json::from_slice(&get(router, &format!("/v1/sessions/s{n}")).await?)?;
        tokens += snapshot["usage"]["output_tokens"].as_u64().unwrap_or(0);
    }
    running.stop().await;
    drop(running);
    let bytes = stored_bytes(folder)?;
    let report = operate::check(folder)?;
    let per_token = bytes as f64 / tokens as f64;
    println!(
        "| bytes on disk for a token, all included ({answers} answers, {tokens} tokens, {} events, {bytes} bytes) | {per_token:.1} |",
        report.events
    );

    // A new process: nothing of it is in memory.
    let running = serve(folder)?;
    let began = Instant::now();
    let mut events = 0;
    for n in 0..answers {
        let body = get(&running.router, &format!("/v1/sessions/s{n}/events?until=idle")).await?;
        events += memchr::memmem::find_iter(&body, b"\ndata: {\"id\"").count();
    }
    let us = began.elapsed().as_secs_f64() * 1e6 / events as f64;
    println!("| first replay of a session that is not in memory, opening included, µs an event | {us:.2} |");
    let began = Instant::now();
    for n in 0..answers {
        get(&running.router, &format!("/v1/sessions/s{n}/events?until=idle")).await?;
    }
    let us = began.elapsed().as_secs_f64() * 1e6 / events as f64;
    println!("| replay from the store of an open session, µs an event | {us:.2} |");
    running.stop().await;
    Ok(())
}

/// The folder's bytes once its store is closed, which its last owner does a moment after the server has stopped.
fn stored_bytes(folder: &Path) -> Outcome<u64> {
    let log = folder.join("steerage.sqlite-wal");
    for _ in 0..500 {
        if std::fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
            return Ok(std::fs::metadata(folder.join("steerage.sqlite"))?.len());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the store was not closed".into())
}

/// A folder as a kill leaves it: `resting` sessions with an answer, `open` ones in the middle of theirs.
async fn sessions_of_a_killed_process(folder: &Path, resting: usize, open: usize) -> Outcome<PathBuf> {
    let running = serve(folder)?;
    let router = &running.router;
    let make = |n: usize| async move {
        let (model, rate, input) = match n < resting {
            true => ("demo/echo", 100_000, "a short question that is answered with itself, word for word"),
            false => ("demo/story", 40, "tell me a story"),
        };
        let params = json!({"seed": n, "tokens_per_second": rate});
        create(router, json!({"id": format!("s{n}"), "model": model, "input": input, "params": params})).await
    };
    stream::iter(0..resting + open)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Outcome<()>>()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = folder.with_extension("killed");
    std::fs::create_dir_all(&killed)?;
    for file in ["steerage.sqlite", "steerage.sqlite-wal"] {
        std::fs::copy(folder.join(file), killed.join(file))?;
    }
    running.stop().await;
    Ok(killed)
}

/// A server process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the real binary on it: when is it ready, and when has every open run gone on or ended?
fn start(folder: &Path, resting: usize, open: usize) -> Outcome<()> {
    let binary = std::env::var_os("BENCH_STEERAGE").unwrap_or_else(|| env!("CARGO_BIN_EXE_steerage").into());
    let tails: Vec<u64> = tails(folder, resting, open)?;
    let began = Instant::now();
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--store"]).arg(format!("disk:{}", folder.display()));
    let mut process = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).ok_or("no address")?;
    while !ask(address, "/readyz")?.contains("\"ready\"") {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sessions = resting + open;
    println!("| start with {sessions} sessions, {open} of them in mid-answer: ready, ms | {:.0} |", ms(began));
    let mut waiting: Vec<usize> = (0..open).collect();
    let mut resolved = Vec::new();
    while !waiting.is_empty() && began.elapsed() < Duration::from_secs(60) {
        waiting.retain(|&n| {
            // Past the tail of before: the run has gone on, or has its end.
            let path = format!("/v1/sessions/s{}", resting + n);
            let seq = ask(address, &path).ok().and_then(|snapshot| {
                let (_, id) = snapshot.split_once("\"last_event_id\":\"")?;
                id.split_once('.')?.1.split_once('"')?.0.parse::<u64>().ok()
            });
            let gone_on = seq.is_some_and(|seq| seq > tails[n]);
            if gone_on {
                resolved.push(ms(began));
            }
            !gone_on
        });
    }
    resolved.sort_by(f64::total_cmp);
    let at = |share: usize| resolved.get((resolved.len() * share / 100).min(resolved.len().saturating_sub(1)));
    println!(
        "| of the {open} open runs resolved: {}; p50, p99, last, ms | {:.0} {:.0} {:.0} |",
        resolved.len(),
        at(50).unwrap_or(&0.0),
        at(99).unwrap_or(&0.0),
        at(100).unwrap_or(&0.0)
    );
    Ok(())
}

/// The newest positions of the open sessions.
fn tails(folder: &Path, resting: usize, open: usize) -> Outcome<Vec<u64>> {
    let mut dumped = Vec::new();
    operate::dump(folder, None, &mut dumped)?;
    let mut tails = vec![0; open];
    for line in dumped.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let number = event["session"].as_str().and_then(|name| name.strip_prefix("default/s")?.parse::<usize>().ok());
        if let Some(tail) = number.and_then(|n| tails.get_mut(n.checked_sub(resting)?)) {
            *tail = event["seq"].as_u64().unwrap_or(0).max(*tail);
        }
    }
    Ok(tails)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The answer to one request, head and body.
fn ask(address: &str, path: &str) -> Outcome<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
