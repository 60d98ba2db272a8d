//! What only a connection can do wrong: cut, stall, go on for ever, stay open after a cancel.

use std::time::Duration;

use futures_util::StreamExt as _;
use steerage::{
    event::FailureCode,
    provider::{
        Provider as _, Retry,
        openai::{Config, Limits, NO_DONE, OpenAi},
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::raw::{
    Act, DONE, HELLO, Items, STOP, STREAM, answer, chunk, chunk_bytes, end, failure, prompt, serve, short, text,
    upstream, write,
};

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
            assert_eq!(items, deltas.iter().cloned().map(Ok).collect::<Items>(), "{name} by {size}");
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
        let long = Config { limits: Limits::default(), ..Config::new("local", &server.url) };
        let mut stream = OpenAi::new(long).unwrap().stream(prompt());
        let first = timeout(Duration::from_millis(100), stream.next()).await;
        assert_eq!(first.is_ok(), acts.len() == 3, "{first:?}");
        server.requests.lock().await.recv().await.unwrap();
        let dropped = Instant::now();
        drop(stream);
        let closed = timeout(Duration::from_secs(1), async { server.closed.lock().await.recv().await });
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut stream = upstream(&url).stream(prompt());
        let mut poll = || runtime.block_on(async { timeout(Duration::from_millis(50), stream.next()).await });
        assert!(poll().is_err());
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.write_all(said.as_bytes()).unwrap();
        assert!(poll().is_err());
        drop(stream);
        let mut request = Vec::new();
        socket.read_to_end(&mut request).expect("the end of the connection, not a time-out");
        assert!(request.starts_with(b"POST /v1/chat/completions"), "after {said:?}");
    }
}

/// U25: an upstream that goes on sending after our close finds the connection gone.
#[tokio::test]
async fn an_upstream_that_ignores_the_close_is_cut_off() {
    let server = serve(vec![write(STREAM), Act::Repeat(b"5\r\n: hi\n\r\n".to_vec(), Duration::from_millis(1))]).await;
    let mut stream = upstream(&server.url).stream(prompt());
    assert!(timeout(Duration::from_millis(50), stream.next()).await.is_err(), "comments are no deltas");
    drop(stream);
    let closed = timeout(Duration::from_secs(2), async { server.closed.lock().await.recv().await });
    closed.await.expect("its writes fail within 2 s");
}

/// U4: an error in mid-stream keeps what came before.
#[tokio::test]
async fn an_error_event_ends_the_answer_and_keeps_its_text() {
    let error = chunk("data: {\"error\":{\"message\":\"out of memory\"}}\n\n");
    let (said, error) = failure(vec![write(STREAM), chunk(HELLO), error, chunk(DONE), Act::AwaitClose]).await;
    assert_eq!((&*said, error.code, &*error.message), ("hello", FailureCode::UpstreamError, "local: out of memory"));
}

/// U5: the connection breaks.
#[tokio::test]
async fn a_broken_connection_is_told_from_an_ending() {
    for acts in [
        vec![write(STREAM), chunk(HELLO)],
        vec![write(STREAM), chunk(HELLO), Act::Pause(Duration::from_millis(20)), Act::Reset],
        vec![write(STREAM), chunk(HELLO), write("ff\r\ndata: {")],
        vec![write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"), write(HELLO)],
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
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamDisconnected, Retry::Soon), "{error}");
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
    let (items, _) =
        answer(vec![write("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"), write(HELLO), write(STOP)])
            .await;
    assert_eq!(items, whole, "a body that ends with the connection");
}

/// U8: after `[DONE]` there is nothing.
#[tokio::test]
async fn what_follows_done_is_ignored() {
    let (items, _) = answer(vec![write(STREAM), chunk(&[HELLO, STOP, DONE, HELLO, "data: x\n\n"].concat())]).await;
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
        (vec![write(STREAM), chunk(HELLO), write("ff\r\ndata: {"), Act::AwaitClose], "hello"),
    ] {
        let began = Instant::now();
        let (got, error) = failure(acts).await;
        assert_eq!((&*got, error.code, error.retry), (said, FailureCode::UpstreamStalled, Retry::Soon), "{error}");
        let took = began.elapsed();
        assert!(took > Duration::from_millis(140) && took < Duration::from_secs(2), "{took:?}");
    }
    // Events within the limit keep an answer alive for longer than the limit.
    let slow = |_| [chunk(HELLO), Act::Pause(Duration::from_millis(60))];
    let acts = [vec![write(STREAM)], (0..6).flat_map(slow).collect(), vec![chunk(STOP), chunk(DONE)]].concat();
    assert_eq!(answer(acts).await.0.last(), Some(&end(None)));
}

/// The wait for `[DONE]` is shorter than the wait for a first event that it follows.
#[tokio::test]
async fn a_whole_answer_is_not_kept_waiting() {
    let server = serve(vec![write(STREAM), chunk(HELLO), chunk(STOP), Act::AwaitClose]).await;
    let limits = Limits { after_finish: Duration::from_millis(50), ..Limits::default() };
    let upstream = OpenAi::new(Config { limits, ..Config::new("local", &server.url) }).unwrap();
    let items = timeout(Duration::from_secs(2), upstream.stream(prompt()).collect::<Items>()).await;
    assert_eq!(items.expect("the short limit counts"), [text("hello"), end(Some(NO_DONE))]);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = upstream(&url).stream(prompt()).next().await.unwrap().unwrap_err();
    assert_eq!((error.code, error.retry), (FailureCode::UpstreamUnreachable, Retry::Soon));
    assert_eq!(upstream(&url).models().await.unwrap_err().code, FailureCode::UpstreamUnreachable);
}

/// U15, U24: no upstream can make us hold or store without end.
#[tokio::test]
async fn an_endless_line_and_an_endless_answer_are_cut() {
    let limit = |answer_bytes| Config { limits: Limits { answer_bytes, ..short() }, ..Config::new("local", "") };
    for (bytes, limit, code) in [
        (vec![b'x'; 65_536], limit(u64::MAX), FailureCode::UpstreamLineTooLong),
        (HELLO.repeat(1000).into_bytes(), limit(300_000), FailureCode::Limit),
    ] {
        let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
        let server = serve(vec![write(STREAM), Act::Repeat(framed, Duration::ZERO)]).await;
        let upstream = OpenAi::new(Config { base_url: server.url.clone(), ..limit }).unwrap();
        let items: Items = upstream.stream(prompt()).collect().await;
        let error = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!((error.code, error.retry), (code, Retry::Never));
        let closed = timeout(Duration::from_secs(20), async { server.closed.lock().await.recv().await });
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
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamProtocol, Retry::Never), "{error}");
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
    assert_eq!((error.code, error.retry), (FailureCode::UpstreamTls, Retry::Never), "{error}");
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_tls_an_https_url_is_refused_with_the_reason() {
    let error = upstream("https://127.0.0.1:1/v1").stream(prompt()).next().await.unwrap().unwrap_err();
    assert!(error.message.contains("feature `tls`"), "{error}");
}
