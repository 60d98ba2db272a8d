//! Spans, as a collector gets them: the real binary, the standard variables, protobuf over HTTP.

use std::{process::Stdio, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Mutex,
};

/// What was sent to a collector: paths, and bodies.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes one request and answers it.
async fn collect(stream: TcpStream, received: Received) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.expect("a request line");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a header");
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.trim_end().split_once(": ").expect("a header");
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a number"),
            "content-type" => assert_eq!(value, "application/x-protobuf"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("the whole body");
    received.lock().await.push((first, body));
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.expect("an answer");
}

/// One request to the server, answered whole.
async fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("UTF-8");
    answer
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(span: &'a Span, name: &str) -> &'a str {
    match attribute(&span.attributes, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name} is {other:?} in {span:#?}"),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
}

#[tokio::test]
async fn a_run_and_its_model_calls_are_spans_without_a_word_of_anybody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let received = Received::default();
    let sink = async {
        loop {
            collect(listener.accept().await.expect("a connection").0, received.clone()).await;
        }
    };
    let told = tokio::select! {
        told = tell(&endpoint) => told,
        () = sink => unreachable!("it takes requests for ever"),
    };
    let received = received.lock().await;
    let (mut spans, mut services) = (Vec::new(), Vec::new());
    for (first, body) in received.iter() {
        assert_eq!(first, "POST /v1/traces HTTP/1.1\r\n");
        let text = String::from_utf8_lossy(body);
        assert!(!["PROMPT", "STEERED", "Once", "harbour"].iter().any(|word| text.contains(word)), "{text}");
        for resource in ExportTraceServiceRequest::decode(body.as_slice()).expect("a request").resource_spans {
            services.extend(resource.resource.expect("a resource").attributes);
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    assert_eq!(attribute(&services, "service.name"), Some(&Value::StringValue("lighthouse".into())), "{told}");
    let of = |session: &str, name: &str| -> Vec<&Span> {
        let same = |span: &&Span| text(span, "gen_ai.conversation.id") == session && span.name.starts_with(name);
        let mut found: Vec<&Span> = spans.iter().filter(same).collect();
        found.sort_by_key(|span| span.start_time_unix_nano);
        found
    };
    let one = |session: &str, name: &str| match of(session, name)[..] {
        [span] => span,
        ref many => panic!("{} {name} of {session}: {many:#?}", many.len()),
    };
    let (run, call) = (one("echo", "run"), one("echo", "chat"));
    assert_eq!((call.name.as_str(), call.kind), ("chat echo", SpanKind::Client as i32));
    assert_eq!(call.parent_span_id, run.span_id);
    assert_eq!(call.trace_id, run.trace_id);
    assert!(run.parent_span_id.is_empty() && !is_error(run) && !is_error(call));
    assert!(call.end_time_unix_nano >= call.start_time_unix_nano && run.end_time_unix_nano >= call.end_time_unix_nano);
    assert_eq!(text(run, "steerage.run.outcome"), "completed");
    assert_eq!(text(call, "gen_ai.operation.name"), "chat");
    assert_eq!(text(call, "gen_ai.provider.name"), "demo");
    assert_eq!(text(call, "gen_ai.request.model"), "echo");
    let Some(Value::ArrayValue(reasons)) = attribute(&call.attributes, "gen_ai.response.finish_reasons") else {
        panic!("no reasons: {call:#?}")
    };
    assert_eq!(reasons.values[0].value, Some(Value::StringValue("stop".into())));
    for side in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        assert!(matches!(attribute(&call.attributes, side), Some(Value::IntValue(1..))), "{side}: {call:#?}");
    }

    let (run, call) = (one("error", "run"), one("error", "chat"));
    assert!(is_error(run) && is_error(call));
    assert_eq!((text(run, "error.type"), text(call, "error.type")), ("upstream_error", "upstream_error"));
    assert_eq!(text(run, "steerage.run.outcome"), "failed");

    // Steered, then cancelled: two calls of one run, each cut.
    let run = one("story", "run");
    assert_eq!(text(run, "steerage.run.outcome"), "cancelled");
    let calls = of("story", "chat");
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.parent_span_id, run.span_id);
        assert_eq!(attribute(&call.attributes, "steerage.call.cut"), Some(&Value::BoolValue(true)));
        assert_eq!(attribute(&call.attributes, "gen_ai.response.finish_reasons"), None);
    }
}

/// What happens at the server; gives what it logged.
async fn tell(endpoint: &str) -> String {
    let mut server = Command::new(env!("CARGO_BIN_EXE_steerage"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", "memory"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_SERVICE_NAME", "lighthouse")
        .env_remove("STEERAGE_CONFIG")
        .env_remove("STEERAGE_API_KEY")
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut greeting = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let line = greeting.next_line().await.expect("a line").expect("a greeting");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    let address = url.trim_start_matches("http://").to_owned();
    for (id, model, input) in
        [("echo", "demo/echo", "PROMPT"), ("error", "demo/chaos", "error PROMPT"), ("story", "demo/story", "PROMPT")]
    {
        let body = json!({"id": id, "model": model, "input": input}).to_string();
        let answer = ask(&address, "POST", "/v1/sessions", &body).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    for id in ["echo", "error"] {
        let path = format!("/v1/sessions/{id}/events?until=idle");
        assert!(ask(&address, "GET", &path, "").await.contains("run."));
    }
    for command in [json!({"type": "steer", "content": "STEERED"}), json!({"type": "cancel"})] {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let answer = ask(&address, "POST", "/v1/sessions/story/control", &command.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // What is not sent yet is sent before the end.
    let pid = server.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill").success());
    let output = server.wait_with_output().await.expect("an end");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
