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

use crate::{door::Door, mock::now_us, process::Owned};

/// A running client, which answers questions line by line.
pub(crate) struct Client {
    _process: Owned,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Starts it as a process of its own; it opens its streams at once.
pub(crate) fn start(door: Door, port: u16, streams: usize, tokens: u64) -> Result<Client, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(myself);
    command.args(["client", door.name(), &port.to_string(), &streams.to_string(), &tokens.to_string()]);
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
    /// Streams that have had their last words.
    whole: usize,
    /// All tokens, of all streams.
    tokens: u64,
    latencies_us: Vec<u32>,
    problem: Option<String>,
}

/// The process.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let [door, port, streams, tokens] = args else { return Err("client DOOR PORT STREAMS TOKENS".into()) };
    let door = Door::from_name(door).ok_or_else(|| format!("no door {door}"))?;
    let number = |text: &String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let (port, streams, tokens) = (number(port)? as u16, number(streams)? as usize, number(tokens)?);
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
            for index in 0..streams {
                let tally = opening.clone();
                tokio::task::spawn_local(async move {
                    let request = door.request(port, &chat_id(index), tokens);
                    if let Err(problem) = follow(port, &request, door, tokens, &tally).await {
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
                    until(&tally, |tally| tally.flowing >= streams).await;
                    println!("all");
                }
                "begin" => {
                    tally.borrow_mut().latencies_us.clear();
                    println!("begun");
                }
                "resume" => {
                    // The first stream's answer again, from its start to its end.
                    let (request, again) = (door.resume(port, &chat_id(0), tokens), RefCell::default());
                    let followed = follow(port, &request, door, tokens, &again);
                    match tokio::time::timeout(Duration::from_secs(60), followed).await {
                        Ok(Ok(())) => println!("resumed"),
                        Ok(Err(problem)) => println!("{problem}"),
                        Err(_) => println!("it did not end within a minute"),
                    }
                }
                "whole" => {
                    until(&tally, |tally| tally.whole >= streams).await;
                    let tally = tally.borrow();
                    let problem = tally.problem.as_ref().map(|problem| format!(" {problem}")).unwrap_or_default();
                    println!("{} 0 0{problem}", tally.tokens);
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

/// Of one client process: no other has asked the server for it.
fn chat_id(index: usize) -> String {
    format!("bench-{}-{index}", std::process::id())
}

/// Waits for it, or for a problem; not for ever.
async fn until(tally: &RefCell<Tally>, reached: impl Fn(&Tally) -> bool) {
    for _ in 0..3000 {
        if reached(&tally.borrow()) || tally.borrow().problem.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tally.borrow_mut().problem.get_or_insert("not all streams came so far in a minute".into());
}

/// One stream until its last words.
async fn follow(port: u16, request: &str, door: Door, tokens: u64, tally: &RefCell<Tally>) -> Result<(), String> {
    let mut answer = Answer::ask(port, request).await?;
    loop {
        answer.read().await?;
        let now = now_us();
        let tally = &mut *tally.borrow_mut();
        let before = answer.last;
        answer.take(door.last_words(), |sent| tally.latencies_us.push(now.saturating_sub(sent) as u32))?;
        tally.flowing += usize::from(before == 0 && answer.last > 0);
        tally.tokens += answer.last - before;
        if answer.says(door.last_words()) {
            tally.whole += 1;
            return if answer.last == tokens {
                Ok(())
            } else {
                Err(format!("a stream was over at token {}", answer.last))
            };
        }
    }
}

/// An answer as it comes.
struct Answer {
    socket: TcpStream,
    bytes: Vec<u8>,
    /// The last token that has come.
    last: u64,
}

impl Answer {
    async fn ask(port: u16, request: &str) -> Result<Self, String> {
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        let mut socket = connected.map_err(|error| format!("cannot connect: {error}"))?;
        socket.write_all(request.as_bytes()).await.map_err(|error| format!("cannot ask: {error}"))?;
        let mut answer = Self { socket, bytes: Vec::with_capacity(4096), last: 0 };
        while answer.bytes.len() < 12 {
            answer.read().await?;
        }
        match answer.bytes.starts_with(b"HTTP/1.1 2") && !answer.bytes.starts_with(b"HTTP/1.1 204") {
            true => Ok(answer),
            false => Err(format!("answered {:?}", String::from_utf8_lossy(&answer.bytes))),
        }
    }

    /// Waits for more bytes.
    async fn read(&mut self) -> Result<(), String> {
        loop {
            self.socket.readable().await.map_err(|error| error.to_string())?;
            match self.socket.try_read_buf(&mut self.bytes) {
                Ok(0) => return Err(format!("a stream ended after token {}", self.last)),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("a stream broke after token {}: {error}", self.last)),
            }
        }
    }

    /// Takes the tokens before the last words out of the bytes, and tells of each when it was sent.
    fn take(&mut self, last_words: &[u8], mut each: impl FnMut(u64)) -> Result<(), String> {
        let bytes = &self.bytes[..memchr::memmem::find(&self.bytes, last_words).unwrap_or(self.bytes.len())];
        let mut done = 0;
        // `00042@1700000000000000 `, wherever it stands.
        for at in memchr::memchr_iter(b'@', bytes) {
            let Some(token) = at.checked_sub(5).and_then(|start| bytes.get(start..at + 18)) else { break };
            let (index, sent) = (number(&token[..5]), number(&token[6..22]));
            if index != Some(self.last + 1) || token[22] != b' ' {
                return Err(format!("after token {} came {:?}", self.last, String::from_utf8_lossy(token)));
            }
            self.last += 1;
            done = at + 18;
            each(sent.unwrap_or_default());
        }
        self.bytes.drain(..done);
        Ok(())
    }

    /// Whether these words come after the last token; forgets what cannot be of use any more.
    fn says(&mut self, words: &[u8]) -> bool {
        let said = memchr::memmem::find(&self.bytes, words).is_some();
        // A token or the words may be cut at the end; a longer rest holds none.
        self.bytes.drain(..self.bytes.len().saturating_sub(32));
        said
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
