//! What is sent, and answers that are no stream: refusals, redirects, pages, lists of models.

use std::time::Duration;

use futures_util::StreamExt as _;
use steerage::{
    event::FailureCode,
    fetch::Secret,
    provider::{
        Model, Provider as _, ProviderError, Retry,
        openai::{Config, OpenAi},
    },
};

use super::raw::{
    Act, DONE, HELLO, KEY, STOP, STREAM, answer, chunk, end, failure, json_answer, prompt, serve, text, upstream, write,
};

#[tokio::test]
async fn an_answer_arrives_and_the_request_is_what_it_should_be() {
    let (items, server) = answer(vec![write(STREAM), chunk(HELLO), chunk(STOP), chunk(DONE), Act::AwaitClose]).await;
    assert_eq!(items, [text("hello"), end(None)], "without waiting for the end of the body");
    let request = server.requests.lock().await.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/chat/completions HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap());
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

/// U1: what is no event stream is no answer, however successful.
#[tokio::test]
async fn another_content_type_is_a_protocol_error_with_its_text() {
    let page = format!("<html>please log in, your key is {KEY}\r\n{}</html>", "x".repeat(9000));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", page.len());
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
        ("200 OK", "", r#"{"error":{"message":"no such model"}}"#, UpstreamError, Retry::Soon, "local: no such model"),
    ] {
        let (_, error) = failure(json_answer(status, further, body)).await;
        assert_eq!(error, ProviderError { code, message: message.into(), retry }, "{status}");
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
        assert!(!error.message.contains("sk-very"), "not even a part of it: {}", error.message);
    }
    let config = Config { api_key: Some(Secret::new(KEY)), ..Config::new("local", "http://127.0.0.1:1/v1") };
    assert!(!format!("{config:?}").contains(KEY));
    assert!(!format!("{:?}", OpenAi::new(config).unwrap()).contains(KEY));
    let split =
        Config { api_key: Some(Secret::new(format!("{KEY}\r\nx: y"))), ..Config::new("local", "http://127.0.0.1:1") };
    let refused = OpenAi::new(split).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains(KEY));
}

/// U22: a redirect is an error, and nobody else is asked.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = serve(vec![]).await;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let head = format!("HTTP/1.1 {status}\r\nlocation: {}/models\r\ncontent-length: 0\r\n\r\n", target.url);
        let (_, error) = failure(vec![write(&head)]).await;
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamRedirect, Retry::Never));
        assert!(error.message.contains("to 127.0.0.1, which is not followed"), "{}", error.message);
    }
    assert!(target.requests.lock().await.try_recv().is_err());
}

#[tokio::test]
async fn models_are_listed_whatever_the_shape() {
    let model = |name: &str, created| Model { name: name.into(), created };
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
        (vec![write("HTTP/1.1 200 OK\r\n\r\n"), Act::Repeat(vec![b' '; 65_536], Duration::ZERO)], FailureCode::Limit),
    ] {
        let server = serve(acts).await;
        assert_eq!(upstream(&server.url).models().await.unwrap_err().code, code);
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    for url in ["", "127.0.0.1:8080", "ftp://127.0.0.1/v1", "http://user:pw@127.0.0.1/v1", "http:///v1", "/v1"] {
        let error = OpenAi::new(Config::new("local", url)).unwrap_err().to_string();
        assert!(error.starts_with("upstream local: base_url") && !error.contains("pw"), "{url}: {error}");
    }
    for header in ["X-Conversation-Id", "Host", "content-length", "a b", ""] {
        let headers = vec![(header.to_owned(), Secret::new("x"))];
        let error = OpenAi::new(Config { headers, ..Config::new("local", "http://127.0.0.1:1") });
        assert!(error.is_err(), "{header}");
    }
}

#[tokio::test]
async fn a_query_of_the_base_url_and_further_headers_are_sent() {
    let server = serve(vec![]).await;
    let headers = vec![("X-Gateway".to_owned(), Secret::new("abc"))];
    let config = Config { headers, ..Config::new("local", format!("{}/?api-version=2", server.url)) };
    let upstream = OpenAi::new(config).unwrap();
    assert!(upstream.stream(prompt()).next().await.unwrap().is_err());
    let request = server.requests.lock().await.recv().await.unwrap();
    assert!(request.starts_with("POST /v1/chat/completions?api-version=2 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-gateway: abc\r\n") && !request.contains("authorization"), "{request}");
}
