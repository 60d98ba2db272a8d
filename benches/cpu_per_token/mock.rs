//! A chat-completions server that only paces: every stream gets one chunk of some 180 bytes 40 times a second, each
//! stream at its own phase, until it has as many as it asked for.
//!
//! One thread sleeps until the next chunk is due and writes it; another takes connections. The text of a token is its
//! number and the moment it was sent, so that the client can tell loss, order and latency.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{RATE, process::Owned};

/// Between two tokens of a stream.
const PERIOD: Duration = Duration::from_micros(1_000_000 / RATE);

/// A running mock.
pub(crate) struct Mock {
    _process: Owned,
    pub(crate) port: u16,
}

/// Starts it as a process of its own.
pub(crate) fn start() -> Result<Mock, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(myself).arg("mock").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Owned(child.map_err(|error| format!("mock: {error}"))?);
    let mut line = String::new();
    let output = process.stdout.take().ok_or("mock: no output")?;
    BufReader::new(output).read_line(&mut line).map_err(|error| format!("mock: {error}"))?;
    let port = line.trim().parse().map_err(|_| format!("mock: said {line:?} in place of its port"))?;
    Ok(Mock { _process: process, port })
}

/// Microseconds on a clock that all processes share.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// The process: prints its port, serves until its standard input ends.
pub(crate) fn run() -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    println!("{}", listener.local_addr().map_err(|error| error.to_string())?.port());
    let (sender, receiver) = channel();
    std::thread::spawn(move || pace(&receiver));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let _refused = accept(socket, &sender);
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop).map_err(|error| error.to_string())
}

struct Stream {
    socket: TcpStream,
    next: u64,
    last: u64,
}

/// Reads a request as our own peers send it, and answers its head.
fn accept(socket: TcpStream, streams: &Sender<Stream>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut reader = BufReader::new(&socket);
    let mut length = 0;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let last = body["max_tokens"].as_u64().unwrap_or(RATE);
    (&socket).write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    let _paced = streams.send(Stream { socket, next: 1, last });
    Ok(())
}

/// Writes what is due, then sleeps until more is.
fn pace(arrivals: &Receiver<Stream>) {
    // A ring in the order of the phases: who is served goes to the back.
    let mut ring: std::collections::VecDeque<(Instant, Stream)> = std::collections::VecDeque::new();
    let mut chunk = Vec::with_capacity(512);
    // A generator of no quality at all is enough to spread phases, and repeats itself from run to run.
    let mut random = 1u64;
    loop {
        let arrived = match ring.is_empty() {
            true => arrivals.recv().ok(),
            false => arrivals.try_recv().ok(),
        };
        if let Some(stream) = arrived {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let phase = Duration::from_micros((random >> 33) % PERIOD.as_micros() as u64);
            let due = Instant::now() + phase;
            let place = ring.partition_point(|(at, _)| *at <= due);
            ring.insert(place, (due, stream));
        }
        let Some((due, _)) = ring.front() else { continue };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while let Some((due, _)) = ring.front()
            && *due <= Instant::now()
            && let Some((due, mut stream)) = ring.pop_front()
        {
            chunk.clear();
            write_chunk(&mut chunk, &stream);
            stream.next += 1;
            // Who has gone, or reads so slowly that the kernel's buffers are full, gets no more.
            if stream.socket.write_all(&chunk).is_ok() && stream.next <= stream.last {
                ring.push_back((due + PERIOD, stream));
            }
        }
    }
}

fn write_chunk(chunk: &mut Vec<u8>, stream: &Stream) {
    let head = r#"data: {"id":"chatcmpl-4f1d","object":"chat.completion.chunk","created":1700000000,"model":"mock","#;
    let choice = r#""choices":[{"index":0,"delta":{"content":""#;
    let end = "\"},\"finish_reason\":null}]}\n\n";
    // Fixed width, so that the size of the chunk is known before it is written.
    let token = format!("{:05}@{:016} ", stream.next, now_us());
    let _ =
        write!(chunk, "{:x}\r\n{head}{choice}{token}{end}\r\n", head.len() + choice.len() + token.len() + end.len());
    if stream.next == stream.last {
        let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let _ = write!(chunk, "{:x}\r\n{stop}\r\n0\r\n\r\n", stop.len());
    }
}
