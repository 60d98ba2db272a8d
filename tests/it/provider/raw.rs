//! An upstream that writes raw bytes, and the real adapter pointed at it.

use std::time::Duration;

use futures_util::StreamExt as _;
use steerage::{
    event::FinishReason,
    fetch::Secret,
    provider::{
        Delta, Message, Prompt, Provider as _, ProviderError,
        openai::{Config, Limits, OpenAi},
    },
    spec::Params,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

pub(super) const KEY: &str = "sk-very-secret-0123456789";
pub(super) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
pub(super) const HELLO: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";
pub(super) const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// What the server does on a connection once it has read the request.
#[derive(Clone)]
pub(super) enum Act {
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Says nothing for this long.
    Pause(Duration),
    /// Writes these bytes again and again until the other side is gone.
    Repeat(Vec<u8>, Duration),
    /// Waits until the other side closes.
    AwaitClose,
    /// Aborts the connection: the other side sees a reset.
    Reset,
}

pub(super) fn write(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

/// Bytes as one HTTP chunk.
pub(super) fn chunk(data: &str) -> Act {
    write(&format!("{:x}\r\n{data}\r\n", data.len()))
}

/// A server for one kind of connection, with what it saw.
pub(super) struct Server {
    pub(super) url: String,
    /// The requests, as they came.
    pub(super) requests: Mutex<mpsc::UnboundedReceiver<String>>,
    /// When it saw that a connection was closed.
    pub(super) closed: Mutex<mpsc::UnboundedReceiver<Instant>>,
    _task: JoinSet<()>,
}

pub(super) async fn serve(acts: Vec<Act>) -> Server {
    serve_by(move |_| acts.clone()).await
}

/// The same, where the request decides.
pub(super) async fn serve_by(acts: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Server {
    let acts = std::sync::Arc::new(acts);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (request_sender, requests) = mpsc::unbounded_channel();
    let (closed_sender, closed) = mpsc::unbounded_channel();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (acts, request_sender, closed_sender) = (acts.clone(), request_sender.clone(), closed_sender.clone());
            connections.spawn(async move {
                let Some(request) = read_request(&mut socket).await else {
                    return;
                };
                let acts = acts(&request);
                let _ = request_sender.send(request);
                if play(&mut socket, acts).await {
                    let _ = closed_sender.send(Instant::now());
                }
            });
        }
    });
    Server { url, requests: Mutex::new(requests), closed: Mutex::new(closed), _task: task }
}

pub(super) async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Whether the other side closed while the server still wanted to say something or waited for that.
pub(super) async fn play(socket: &mut TcpStream, acts: Vec<Act>) -> bool {
    let mut sink = [0; 1024];
    for act in acts {
        match act {
            Act::Write(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return true;
                }
            }
            Act::Pause(wait) => sleep(wait).await,
            Act::Repeat(bytes, wait) => loop {
                if socket.write_all(&bytes).await.is_err() {
                    return true;
                }
                sleep(wait).await;
            },
            Act::AwaitClose => {
                while socket.read(&mut sink).await.is_ok_and(|n| n > 0) {}
                return true;
            }
            Act::Reset => {
                socket.set_zero_linger().unwrap();
                return false;
            }
        }
    }
    false
}

/// Waits that a test can afford.
pub(super) fn short() -> Limits {
    let moment = Duration::from_millis(150);
    let limits = Limits { headers: moment, first_event: moment, between_events: moment, ..Limits::default() };
    Limits { after_finish: moment, answer_bytes: 1 << 20, ..limits }
}

pub(super) fn upstream(url: &str) -> OpenAi {
    let key = Some(Secret::new(KEY));
    OpenAi::new(Config { api_key: key, limits: short(), ..Config::new("local", url) }).unwrap()
}

pub(super) fn prompt() -> Prompt {
    let messages = vec![Message::User("hi".into())];
    Prompt { model: "m".into(), system: None, messages, tools: Vec::new(), params: Params::default(), continues: false }
}

pub(super) type Items = Vec<Result<Delta, ProviderError>>;

/// Everything an upstream that acts like this gives, and the server.
pub(super) async fn answer(acts: Vec<Act>) -> (Items, Server) {
    let server = serve(acts).await;
    let items = timeout(Duration::from_secs(10), upstream(&server.url).stream(prompt()).collect::<Items>());
    (items.await.expect("the stream ends"), server)
}

/// The same, where it is to end with an error; gives the texts before it too.
pub(super) async fn failure(acts: Vec<Act>) -> (String, ProviderError) {
    let (mut items, _server) = answer(acts).await;
    let error = items.pop().unwrap().unwrap_err();
    assert!(error.message.starts_with("local: "), "{error:?}");
    assert!(!error.message.contains(KEY) && !error.message.contains(char::is_control), "{error:?}");
    assert!(error.message.len() <= 2048 + "local: ".len(), "{}", error.message.len());
    let text = items.into_iter().map(|item| match item.unwrap() {
        Delta::Text { text, .. } => text,
        other => panic!("{other:?}"),
    });
    (text.collect(), error)
}

pub(super) fn text(text: &str) -> Result<Delta, ProviderError> {
    Ok(Delta::Text { text: text.into(), lossy: false })
}

pub(super) fn end(warning: Option<&'static str>) -> Result<Delta, ProviderError> {
    Ok(Delta::End { finish_reason: FinishReason::Stop, usage: None, warning })
}

pub(super) fn json_answer(status: &str, further: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![write(&format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\n{further}content-length: {length}\r\n\r\n{body}"
    ))]
}

pub(super) fn chunk_bytes(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}
