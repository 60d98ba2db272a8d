//! The reader of all streams: counts tokens, checks that each comes once and in order, and how late it is.
//!
//! It looks for the tokens' own shape in the bytes, so that it is the same for every server and cheap.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{mock::now_us, process::Owned};

/// A running client, which answers questions line by line.
pub(crate) struct Client {
    _process: Owned,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Starts it as a process of its own; it opens its streams at once.
pub(crate) fn start(kind: &str, port: u16, streams: usize, tokens: u64) -> Result<Client, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(myself);
    command.args(["client", kind, &port.to_string(), &streams.to_string(), &tokens.to_string()]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Owned(child.map_err(|error| format!("client: {error}"))?);
    let input = process.stdin.take().ok_or("client: no input")?;
    let output = BufReader::new(process.stdout.take().ok_or("client: no output")?);
    Ok(Client { _process: process, input, output })
}

impl Client {
    /// Says one line, and gives the line that it is answered with.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String, String> {
        let mut answer = String::new();
        let asked = writeln!(self.input, "{question}").and_then(|()| self.output.read_line(&mut answer));
        match asked {
            Ok(1..) => Ok(answer.trim().to_owned()),
            Ok(0) => Err(format!("client: ended at {question:?}")),
            Err(error) => Err(format!("client: {error}")),
        }
    }
}

/// What a client has seen between `begin` and `end`.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) tokens: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) problem: Option<String>,
}

impl Seen {
    /// Reads what the client process wrote.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let numbers = (|| Some((number()?, number()?, number()?)))();
        let (tokens, p50_us, p99_us) = numbers.ok_or_else(|| format!("client: said {line:?}"))?;
        Ok(Self { tokens, p50_us, p99_us, problem: words.next().map(str::to_owned) })
    }
}

#[derive(Default)]
struct Tally {
    /// Streams that have had their first token.
    flowing: usize,
    latencies_us: Vec<u32>,
    problem: Option<String>,
}

/// The process.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let [kind, port, streams, tokens] = args else { return Err("client KIND PORT STREAMS TOKENS".into()) };
    let (port, streams) = (port.parse::<u16>().map_err(|e| e.to_string())?, streams.parse::<usize>().unwrap_or(0));
    let (path, body) = match kind.as_str() {
        "steerage" => {
            ("/v1/sessions", format!(r#"{{"model":"mock/mock","input":"go","params":{{"max_tokens":{tokens}}}}}"#))
        }
        _ => (
            "/v1/chat/completions",
            format!(
                r#"{{"model":"mock","messages":[{{"role":"user","content":"go"}}],"stream":true,"max_tokens":{tokens}}}"#
            ),
        ),
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let (sender, mut questions) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let opening = tally.clone();
        tokio::task::spawn_local(async move {
            for _ in 0..streams {
                let (tally, request) = (opening.clone(), request.clone());
                tokio::task::spawn_local(async move {
                    if let Err(problem) = follow(port, &request, &tally).await {
                        tally.borrow_mut().problem.get_or_insert(problem);
                    }
                });
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        while let Some(question) = questions.recv().await {
            match question.as_str() {
                "flowing" => {
                    // A problem is told at the end.
                    while tally.borrow().flowing < streams && tally.borrow().problem.is_none() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    println!("all");
                }
                "begin" => {
                    tally.borrow_mut().latencies_us.clear();
                    println!("begun");
                }
                _ => {
                    let Tally { latencies_us, problem, .. } = &mut *tally.borrow_mut();
                    latencies_us.sort_unstable();
                    let count = latencies_us.len();
                    let at = |share: usize| latencies_us.get(count * share / 100).copied().unwrap_or(0);
                    let problem = problem.take().map(|problem| format!(" {problem}")).unwrap_or_default();
                    println!("{count} {} {}{problem}", at(50), at(99));
                }
            }
        }
        Ok(())
    })
}

/// One stream until its end.
async fn follow(port: u16, request: &str, tally: &RefCell<Tally>) -> Result<(), String> {
    let connected = TcpStream::connect(("127.0.0.1", port)).await;
    let mut socket = connected.map_err(|error| format!("cannot connect: {error}"))?;
    socket.write_all(request.as_bytes()).await.map_err(|error| format!("cannot ask: {error}"))?;
    let mut bytes: Vec<u8> = Vec::with_capacity(4096);
    let mut last = 0;
    loop {
        socket.readable().await.map_err(|error| error.to_string())?;
        match socket.try_read_buf(&mut bytes) {
            Ok(0) => return Err(format!("a stream ended after token {last}")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(format!("a stream broke after token {last}: {error}")),
        }
        let now = now_us();
        let mut tally = tally.borrow_mut();
        let mut done = 0;
        // `00042@1700000000000000 `, wherever it stands.
        for at in memchr::memchr_iter(b'@', &bytes) {
            let Some(token) = at.checked_sub(5).and_then(|start| bytes.get(start..at + 18)) else { break };
            let (index, sent) = (number(&token[..5]), number(&token[6..22]));
            if index != Some(last + 1) || token[22] != b' ' {
                return Err(format!("after token {last} came {:?}", String::from_utf8_lossy(token)));
            }
            if last == 0 {
                tally.flowing += 1;
            }
            last += 1;
            done = at + 18;
            tally.latencies_us.push(now.saturating_sub(sent.unwrap_or(now)) as u32);
        }
        // A token may be cut at the end; a longer rest holds none.
        let rest = done.max(bytes.len().saturating_sub(32));
        bytes.drain(..rest);
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
