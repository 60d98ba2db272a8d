//! The real adapter against a server that writes raw bytes: what only a connection can do wrong.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use steerage::{
    event::{FailureCode, FinishReason},
    fetch::Secret,
    provider::{
        Delta, Message, Model, Prompt, Provider as _, ProviderError, Retry,
        openai::{Config, Limits, NO_DONE, OpenAi},
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

const KEY: &str = "sk-very-secret-0123456789";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const HELLO: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What the server does on a connection once it has read the request.
#[derive(Clone)]
enum Act {
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

fn write(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

/// Bytes as one HTTP chunk.
fn chunk(data: &str) -> Act {
    write(&format!("{:x}\r\n{data}\r\n", data.len()))
}

/// A server for one kind of connection, with what it saw.
struct Server {
    url: String,
    /// The requests, as they came.
    requests: Mutex<mpsc::UnboundedReceiver<String>>,
    /// When it saw that a connection was closed.
    closed: Mutex<mpsc::UnboundedReceiver<Instant>>,
    _task: JoinSet<()>,
}

async fn serve(acts: Vec<Act>) -> Server {
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
                let _ = request_sender.send(request);
                if play(&mut socket, acts).await {
                    let _ = closed_sender.send(Instant::now());
                }
            });
        }
    });
    Server {
        url,
        requests: Mutex::new(requests),
        closed: Mutex::new(closed),
        _task: task,
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
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
async fn play(socket: &mut TcpStream, acts: Vec<Act>) -> bool {
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
fn short() -> Limits {
    let moment = Duration::from_millis(150);
    let limits = Limits {
        headers: moment,
        first_event: moment,
        between_events: moment,
        ..Limits::default()
    };
    Limits {
        after_finish: moment,
        answer_bytes: 1 << 20,
        ..limits
    }
}

fn upstream(url: &str) -> OpenAi {
    let key = Some(Secret::new(KEY));
    OpenAi::new(Config {
        api_key: key,
        limits: short(),
        ..Config::new("local", url)
    })
    .unwrap()
}

fn prompt() -> Prompt {
    let messages = vec![Message::User("hi".into())];
    Prompt {
        model: "m".into(),
        system: None,
        messages,
        tools: Vec::new(),
        params: Params::default(),
    }
}

type Items = Vec<Result<Delta, ProviderError>>;

/// Everything an upstream that acts like this gives, and the server.
async fn answer(acts: Vec<Act>) -> (Items, Server) {
    let server = serve(acts).await;
    let items = timeout(
        Duration::from_secs(10),
        upstream(&server.url).stream(prompt()).collect::<Items>(),
    );
    (items.await.expect("the stream ends"), server)
}

/// The same, where it is to end with an error; gives the texts before it too.
async fn failure(acts: Vec<Act>) -> (String, ProviderError) {
    let (mut items, _server) = answer(acts).await;
    let error = items.pop().unwrap().unwrap_err();
    assert!(error.message.starts_with("local: "), "{error:?}");
    assert!(
        !error.message.contains(KEY) && !error.message.contains(char::is_control),
        "{error:?}"
    );
    assert!(error.message.len() <= 2048 + "local: ".len(), "{}", error.message.len());
    let text = items.into_iter().map(|item| match item.unwrap() {
        Delta::Text { text, .. } => text,
        other => panic!("{other:?}"),
    });
    (text.collect(), error)
}

fn text(text: &str) -> Result<Delta, ProviderError> {
    Ok(Delta::Text {
        text: text.into(),
        lossy: false,
    })
}

fn end(warning: Option<&'static str>) -> Result<Delta, ProviderError> {
    Ok(Delta::End {
        finish_reason: FinishReason::Stop,
        usage: None,
        warning,
    })
}

#[tokio::test]
async fn an_answer_arrives_and_the_request_is_what_it_should_be() {
    let (items, server) = answer(vec![
        write(STREAM),
        chunk(HELLO),
        chunk(STOP),
        chunk(DONE),
        Act::AwaitClose,
    ])
    .await;
    assert_eq!(
        items,
        [text("hello"), end(None)],
        "without waiting for the end of the body"
    );
    let request = server.requests.lock().await.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/chat/completions HTTP/1.1");
    lines.sort_unstable();
    let host = format!(
        "host: {}",
        server.url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap()
    );
    let length = format!("content-length: {}", body.len());
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: text/event-stream",
            &format!("authorization: Bearer {KEY}"),
            &length,
            "content-type: application/json",
            &host,
            concat!("user-agent: steerage/", env!("CARGO_PKG_VERSION")),
        ]
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        serde_json::json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hi"}],
        })
    );
}

#[tokio::test]
async fn recordings_survive_the_network_in_pieces_of_any_size() {
    for name in ["vllm_text", "odd_framing_crlf", "invalid_utf8"] {
        let path = format!("{}/tests/golden/upstream/{name}.sse", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let super::Outcome { deltas, .. } = super::fold([&bytes[..]]);
        for size in [1, 7, 1000] {
            let mut acts = vec![write(STREAM)];
            for piece in bytes.chunks(size) {
                let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
                framed.extend_from_slice(piece);
                framed.extend_from_slice(b"\r\n");
                acts.push(Act::Write(framed));
            }
            acts.push(write("0\r\n\r\n"));
            let (items, _) = answer(acts).await;
            assert_eq!(
                items,
                deltas.iter().cloned().map(Ok).collect::<Items>(),
                "{name} by {size}"
            );
        }
    }
}

/// R7: the socket is closed before `drop` returns, without another task's help.
#[tokio::test]
async fn r7_dropping_the_stream_closes_the_connection_at_once() {
    for acts in [
        vec![Act::AwaitClose],
        vec![write(STREAM), Act::AwaitClose],
        vec![write(STREAM), chunk(HELLO), Act::AwaitClose],
    ] {
        let server = serve(acts.clone()).await;
        let long = Config {
            limits: Limits::default(),
            ..Config::new("local", &server.url)
        };
        let mut stream = OpenAi::new(long).unwrap().stream(prompt());
        let first = timeout(Duration::from_millis(100), stream.next()).await;
        assert_eq!(first.is_ok(), acts.len() == 3, "{first:?}");
        server.requests.lock().await.recv().await.unwrap();
        let dropped = Instant::now();
        drop(stream);
        let closed = timeout(Duration::from_secs(1), async {
            server.closed.lock().await.recv().await
        });
        let took = closed.await.expect("the server sees the close").unwrap() - dropped;
        assert!(took < Duration::from_millis(20), "{took:?} after {} acts", acts.len());
    }
}

/// The proof that nothing else closes it: no task of the runtime can run between `drop` and the look at the socket.
#[test]
fn r7_the_close_needs_no_runtime() {
    use std::io::{Read as _, Write as _};
    for said in ["", STREAM, &[STREAM, "6\r\n: hi\n\n\r\n"].concat()] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut stream = upstream(&url).stream(prompt());
        let mut poll = || runtime.block_on(async { timeout(Duration::from_millis(50), stream.next()).await });
        assert!(poll().is_err());
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.write_all(said.as_bytes()).unwrap();
        assert!(poll().is_err());
        drop(stream);
        let mut request = Vec::new();
        socket
            .read_to_end(&mut request)
            .expect("the end of the connection, not a time-out");
        assert!(request.starts_with(b"POST /v1/chat/completions"), "after {said:?}");
    }
}

/// U25: an upstream that goes on sending after our close finds the connection gone.
#[tokio::test]
async fn an_upstream_that_ignores_the_close_is_cut_off() {
    let server = serve(vec![
        write(STREAM),
        Act::Repeat(b"5\r\n: hi\n\r\n".to_vec(), Duration::from_millis(1)),
    ])
    .await;
    let mut stream = upstream(&server.url).stream(prompt());
    assert!(
        timeout(Duration::from_millis(50), stream.next()).await.is_err(),
        "comments are no deltas"
    );
    drop(stream);
    let closed = timeout(Duration::from_secs(2), async {
        server.closed.lock().await.recv().await
    });
    closed.await.expect("its writes fail within 2 s");
}

/// U1: what is no event stream is no answer, however successful.
#[tokio::test]
async fn another_content_type_is_a_protocol_error_with_its_text() {
    let page = format!("<html>please log in, your key is {KEY}\r\n{}</html>", "x".repeat(9000));
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n",
        page.len()
    );
    let (_, error) = failure(vec![write(&head), write(&page), Act::AwaitClose]).await;
    assert_eq!((error.code, error.retry), (FailureCode::UpstreamProtocol, Retry::Never));
    let begins = "local: answered 200 with text/html in place of an event stream: <html>please log in, your key is [redacted]  xxx";
    assert!(error.message.starts_with(begins), "{}", error.message);

    let (_, error) = failure(vec![write("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    assert_eq!(error.code, FailureCode::UpstreamProtocol);

    let zipped = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n\x1f\u{8b}";
    let (_, error) = failure(vec![write(zipped)]).await;
    assert_eq!(error.code, FailureCode::UpstreamProtocol);
    assert!(error.message.contains("compression"), "{}", error.message);
}

fn json_answer(status: &str, further: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![write(&format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\n{further}content-length: {length}\r\n\r\n{body}"
    ))]
}

/// U1, U2, U3: errors as statuses, and one under a success.
#[tokio::test]
async fn json_errors_are_told_in_their_own_words() {
    let llama = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let fastapi = r#"{"detail":[{"loc":["body","model"],"msg":"Field required"}]}"#;
    let openai =
        format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}.","type":"invalid_request_error"}}}}"#);
    use FailureCode::{UpstreamError, UpstreamOverloaded, UpstreamRejected};
    for (status, further, body, code, retry, message) in [
        (
            "503 Service Unavailable",
            "",
            llama,
            UpstreamOverloaded,
            Retry::Soon,
            "local: answered 503 Service Unavailable: Loading model",
        ),
        (
            "429 Too Many Requests",
            "retry-after: 7\r\n",
            r#"{"error":"slow down"}"#,
            UpstreamOverloaded,
            Retry::After(Duration::from_secs(7)),
            "local: answered 429 Too Many Requests: slow down",
        ),
        (
            "503 Service Unavailable",
            "date: Sun, 22 Nov 2026 12:00:00 GMT\r\nretry-after: Mon, 23 Nov 2026 12:00:00 GMT\r\n",
            "",
            UpstreamOverloaded,
            Retry::After(Duration::from_secs(60)),
            "local: answered 503 Service Unavailable",
        ),
        (
            "401 Unauthorized",
            "",
            &openai,
            UpstreamRejected,
            Retry::Never,
            "local: answered 401 Unauthorized: Incorrect API key provided: [redacted].",
        ),
        (
            "422 Unprocessable Entity",
            "",
            fastapi,
            UpstreamRejected,
            Retry::Never,
            r#"local: answered 422 Unprocessable Entity: [{"loc":["body","model"],"msg":"Field required"}]"#,
        ),
        (
            "500 Internal Server Error",
            "",
            "oops",
            UpstreamError,
            Retry::Soon,
            "local: answered 500 Internal Server Error: oops",
        ),
        (
            "200 OK",
            "",
            r#"{"error":{"message":"no such model"}}"#,
            UpstreamError,
            Retry::Soon,
            "local: no such model",
        ),
    ] {
        let (_, error) = failure(json_answer(status, further, body)).await;
        assert_eq!(
            error,
            ProviderError {
                code,
                message: message.into(),
                retry
            },
            "{status}"
        );
    }
}

/// The key is no part of any message, wherever the upstream puts it.
#[tokio::test]
async fn the_key_is_never_told() {
    let redirect = format!("HTTP/1.1 307 x\r\nlocation: http://{KEY}.example/\r\ncontent-length: 0\r\n\r\n");
    let event = format!("data: {{\"error\":{{\"message\":\"{}{KEY}\"}}}}\n\n", "x".repeat(2035));
    for acts in [
        json_answer("400 Bad Request", "", &format!(r#"{{"message":"{KEY} {KEY}"}}"#)),
        json_answer("400 Bad Request", "", &format!("{}{KEY}", "x".repeat(2020))),
        vec![write(&redirect)],
        vec![write(STREAM), chunk(&format!("data: {KEY}\n\n"))],
        vec![write(STREAM), chunk(&event)],
        vec![write(&format!("HTTP/1.1 200 OK\r\ncontent-type: text/{KEY}\r\n\r\n"))],
    ] {
        let (_, error) = failure(acts).await;
        assert!(
            !error.message.contains("sk-very"),
            "not even a part of it: {}",
            error.message
        );
    }
    let config = Config {
        api_key: Some(Secret::new(KEY)),
        ..Config::new("local", "http://127.0.0.1:1/v1")
    };
    assert!(!format!("{config:?}").contains(KEY));
    assert!(!format!("{:?}", OpenAi::new(config).unwrap()).contains(KEY));
    let split = Config {
        api_key: Some(Secret::new(format!("{KEY}\r\nx: y"))),
        ..Config::new("local", "http://127.0.0.1:1")
    };
    let refused = OpenAi::new(split).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains(KEY));
}

/// U22: a redirect is an error, and nobody else is asked.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = serve(vec![]).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let head = format!(
            "HTTP/1.1 {status}\r\nlocation: {}/models\r\ncontent-length: 0\r\n\r\n",
            target.url
        );
        let (_, error) = failure(vec![write(&head)]).await;
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamRedirect, Retry::Never));
        assert!(
            error.message.contains("to 127.0.0.1, which is not followed"),
            "{}",
            error.message
        );
    }
    assert!(target.requests.lock().await.try_recv().is_err());
}

/// U4: an error in mid-stream keeps what came before.
#[tokio::test]
async fn an_error_event_ends_the_answer_and_keeps_its_text() {
    let error = chunk("data: {\"error\":{\"message\":\"out of memory\"}}\n\n");
    let (said, error) = failure(vec![write(STREAM), chunk(HELLO), error, chunk(DONE), Act::AwaitClose]).await;
    assert_eq!(
        (&*said, error.code, &*error.message),
        ("hello", FailureCode::UpstreamError, "local: out of memory")
    );
}

/// U5: the connection breaks.
#[tokio::test]
async fn a_broken_connection_is_told_from_an_ending() {
    for acts in [
        vec![write(STREAM), chunk(HELLO)],
        vec![
            write(STREAM),
            chunk(HELLO),
            Act::Pause(Duration::from_millis(20)),
            Act::Reset,
        ],
        vec![write(STREAM), chunk(HELLO), write("ff\r\ndata: {")],
        vec![
            write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"),
            write(HELLO),
        ],
    ] {
        let (said, error) = failure(acts).await;
        assert_eq!(
            (&*said, error.code, error.retry),
            ("hello", FailureCode::UpstreamDisconnected, Retry::Soon),
            "{error}"
        );
    }
    for acts in [vec![], vec![Act::Reset], vec![write("HTTP/1.1 200 O")]] {
        let (_, error) = failure(acts).await;
        assert_eq!(
            (error.code, error.retry),
            (FailureCode::UpstreamDisconnected, Retry::Soon),
            "{error}"
        );
    }
}

/// U6, U7: the end of the body decides nothing, the finish reason does.
#[tokio::test]
async fn the_finish_reason_decides_whether_an_answer_is_whole() {
    let (said, error) = failure(vec![write(STREAM), chunk(HELLO), write("0\r\n\r\n")]).await;
    assert_eq!((&*said, error.code), ("hello", FailureCode::UpstreamTruncated));
    let whole = [text("hello"), end(Some(NO_DONE))];
    let finished = [write(STREAM), chunk(HELLO), chunk(STOP)];
    for last in [
        write("0\r\n\r\n"),
        Act::Reset,
        Act::AwaitClose,
        Act::Repeat(chunk_bytes(": x\n\n"), Duration::from_millis(20)),
    ] {
        let (items, _) = answer([&finished[..], &[Act::Pause(Duration::from_millis(20)), last]].concat()).await;
        assert_eq!(items, whole);
    }
    let (items, _) = answer(vec![
        write("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
        write(HELLO),
        write(STOP),
    ])
    .await;
    assert_eq!(items, whole, "a body that ends with the connection");
}

fn chunk_bytes(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// U8: after `[DONE]` there is nothing.
#[tokio::test]
async fn what_follows_done_is_ignored() {
    let (items, _) = answer(vec![
        write(STREAM),
        chunk(&[HELLO, STOP, DONE, HELLO, "data: x\n\n"].concat()),
    ])
    .await;
    assert_eq!(items, [text("hello"), end(None)]);
}

/// U9, U10: silence has its limit in every phase, and comments are silence.
#[tokio::test]
async fn silence_is_a_stall() {
    let ping = || Act::Repeat(chunk_bytes(": ping\n\n"), Duration::from_millis(10));
    for (acts, said) in [
        (vec![Act::AwaitClose], ""),
        (vec![write("HTTP/1.1 200 OK\r\n"), Act::AwaitClose], ""),
        (vec![write(STREAM), Act::AwaitClose], ""),
        (vec![write(STREAM), ping()], ""),
        (vec![write(STREAM), chunk(HELLO), Act::AwaitClose], "hello"),
        (vec![write(STREAM), chunk(HELLO), ping()], "hello"),
        (
            vec![write(STREAM), chunk(HELLO), write("ff\r\ndata: {"), Act::AwaitClose],
            "hello",
        ),
    ] {
        let began = Instant::now();
        let (got, error) = failure(acts).await;
        assert_eq!(
            (&*got, error.code, error.retry),
            (said, FailureCode::UpstreamStalled, Retry::Soon),
            "{error}"
        );
        let took = began.elapsed();
        assert!(
            took > Duration::from_millis(140) && took < Duration::from_secs(2),
            "{took:?}"
        );
    }
    // Events within the limit keep an answer alive for longer than the limit.
    let slow = |_| [chunk(HELLO), Act::Pause(Duration::from_millis(60))];
    let acts = [
        vec![write(STREAM)],
        (0..6).flat_map(slow).collect(),
        vec![chunk(STOP), chunk(DONE)],
    ]
    .concat();
    assert_eq!(answer(acts).await.0.last(), Some(&end(None)));
}

/// The wait for `[DONE]` is shorter than the wait for a first event that it follows.
#[tokio::test]
async fn a_whole_answer_is_not_kept_waiting() {
    let server = serve(vec![write(STREAM), chunk(HELLO), chunk(STOP), Act::AwaitClose]).await;
    let limits = Limits {
        after_finish: Duration::from_millis(50),
        ..Limits::default()
    };
    let upstream = OpenAi::new(Config {
        limits,
        ..Config::new("local", &server.url)
    })
    .unwrap();
    let items = timeout(Duration::from_secs(2), upstream.stream(prompt()).collect::<Items>()).await;
    assert_eq!(
        items.expect("the short limit counts"),
        [text("hello"), end(Some(NO_DONE))]
    );
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = upstream(&url).stream(prompt()).next().await.unwrap().unwrap_err();
    assert_eq!(
        (error.code, error.retry),
        (FailureCode::UpstreamUnreachable, Retry::Soon)
    );
    assert_eq!(
        upstream(&url).models().await.unwrap_err().code,
        FailureCode::UpstreamUnreachable
    );
}

/// U15, U24: no upstream can make us hold or store without end.
#[tokio::test]
async fn an_endless_line_and_an_endless_answer_are_cut() {
    let limit = |answer_bytes| Config {
        limits: Limits {
            answer_bytes,
            ..short()
        },
        ..Config::new("local", "")
    };
    for (bytes, limit, code) in [
        (vec![b'x'; 65_536], limit(u64::MAX), FailureCode::UpstreamLineTooLong),
        (HELLO.repeat(1000).into_bytes(), limit(300_000), FailureCode::Limit),
    ] {
        let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
        let server = serve(vec![write(STREAM), Act::Repeat(framed, Duration::ZERO)]).await;
        let upstream = OpenAi::new(Config {
            base_url: server.url.clone(),
            ..limit
        })
        .unwrap();
        let items: Items = upstream.stream(prompt()).collect().await;
        let error = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!((error.code, error.retry), (code, Retry::Never));
        let closed = timeout(Duration::from_secs(2), async {
            server.closed.lock().await.recv().await
        });
        closed.await.expect("the connection is closed");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        &format!("{STREAM}zz\r\n"),
        &format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(1 << 20)),
    ] {
        let (_, error) = failure(vec![write(garbage), Act::AwaitClose]).await;
        assert_eq!(
            (error.code, error.retry),
            (FailureCode::UpstreamProtocol, Retry::Never),
            "{error}"
        );
    }
}

/// U23, as far as it goes without a certificate: the other side does not speak TLS.
#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(5)).await;
    });
    let error = upstream(&url).stream(prompt()).next().await.unwrap().unwrap_err();
    assert_eq!(
        (error.code, error.retry),
        (FailureCode::UpstreamTls, Retry::Never),
        "{error}"
    );
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_tls_an_https_url_is_refused_with_the_reason() {
    let error = upstream("https://127.0.0.1:1/v1")
        .stream(prompt())
        .next()
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.message.contains("feature `tls`"), "{error}");
}

#[tokio::test]
async fn models_are_listed_whatever_the_shape() {
    let model = |name: &str, created| Model {
        name: name.into(),
        created,
    };
    for (body, expected) in [
        (
            r#"{"object":"list","data":[{"id":"a","created":7,"owned_by":"x"},{"id":"b","created":1.5}]}"#,
            vec![model("a", 7), model("b", 0)],
        ),
        (r#"[{"id":"a","created":7.0,"type":"chat"}]"#, vec![model("a", 7)]),
        (r#"{"data":[{"id":null},{"name":"x"},null]}"#, vec![]),
        (r#"{"data":null}"#, vec![]),
    ] {
        let server = serve(json_answer("200 OK", "", body)).await;
        assert_eq!(upstream(&server.url).models().await.unwrap(), expected, "{body}");
        let request = server.requests.lock().await.recv().await.unwrap();
        assert!(request.starts_with("GET /v1/models HTTP/1.1\r\n"), "{request}");
    }
    for (acts, code) in [
        (json_answer("404 Not Found", "", "no"), FailureCode::UpstreamRejected),
        (json_answer("200 OK", "", "<html>"), FailureCode::UpstreamBadJson),
        (
            vec![
                write("HTTP/1.1 200 OK\r\n\r\n"),
                Act::Repeat(vec![b' '; 65_536], Duration::ZERO),
            ],
            FailureCode::Limit,
        ),
    ] {
        let server = serve(acts).await;
        assert_eq!(upstream(&server.url).models().await.unwrap_err().code, code);
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    for url in [
        "",
        "127.0.0.1:8080",
        "ftp://127.0.0.1/v1",
        "http://user:pw@127.0.0.1/v1",
        "http:///v1",
        "/v1",
    ] {
        let error = OpenAi::new(Config::new("local", url)).unwrap_err().to_string();
        assert!(
            error.starts_with("upstream local: base_url") && !error.contains("pw"),
            "{url}: {error}"
        );
    }
    for header in ["X-Conversation-Id", "Host", "content-length", "a b", ""] {
        let headers = vec![(header.to_owned(), Secret::new("x"))];
        let error = OpenAi::new(Config {
            headers,
            ..Config::new("local", "http://127.0.0.1:1")
        });
        assert!(error.is_err(), "{header}");
    }
}

#[tokio::test]
async fn a_query_of_the_base_url_and_further_headers_are_sent() {
    let server = serve(vec![]).await;
    let headers = vec![("X-Gateway".to_owned(), Secret::new("abc"))];
    let config = Config {
        headers,
        ..Config::new("local", format!("{}/?api-version=2", server.url))
    };
    let upstream = Arc::new(OpenAi::new(config).unwrap());
    assert!(upstream.stream(prompt()).next().await.unwrap().is_err());
    let request = server.requests.lock().await.recv().await.unwrap();
    assert!(
        request.starts_with("POST /v1/chat/completions?api-version=2 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("x-gateway: abc\r\n") && !request.contains("authorization"),
        "{request}"
    );
}
