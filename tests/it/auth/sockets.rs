//! Keys of sockets: a browser says them as a subprotocol.

use std::time::Duration;

use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, client::IntoClientRequest as _},
};

use super::{FIRST, OTHER, WRONG, bearer, guarded};
use crate::support::{
    Client,
    client::{read_head, send},
};

#[tokio::test(start_paused = true)]
async fn a_socket_takes_its_key_as_a_subprotocol_and_never_repeats_it() {
    let server = guarded();
    let client = server.client();
    let (first, protocol) = (bearer(FIRST), |key: &str| format!("steerage.bearer.{key}"));
    let json = [("content-type", "application/json"), ("authorization", first.as_str())];
    assert_eq!(client.request("POST", "/v1/sessions", &json, br#"{"id":"s"}"#).await.status, 201);
    let ask = async |path: &str, more: &[(&str, &str)]| {
        let mut stream = client.dialer().connect();
        let mut headers = vec![
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.extend(more);
        send(&mut stream, "GET", path, &headers, b"", false).await;
        let (status, headers, _) = read_head(stream).await;
        assert!(!format!("{headers:?}").contains("sk_"), "{headers:?}");
        (status, headers.get("sec-websocket-protocol").cloned())
    };
    let name = "sec-websocket-protocol";
    let selected = Some("steerage".to_owned());
    let (right, wrong, other) = (protocol(FIRST), protocol(WRONG), protocol(OTHER));
    for path in ["/v1/sessions/s/ws", "/v1/ai-sdk/chat/ws", "/v1/responses"] {
        for list in [format!("steerage, {right}"), format!("{right},steerage")] {
            assert_eq!(ask(path, &[(name, &list)]).await, (101, selected.clone()), "{path}");
        }
        assert_eq!(
            ask(path, &[(name, "steerage"), (name, &right)]).await,
            (101, selected.clone()),
            "two lines are one list"
        );
        assert_eq!(ask(path, &[("authorization", &first)]).await, (101, None));
        for list in ["steerage".to_owned(), "steerage, steerage.bearer".to_owned(), "sk_first-0123456789".to_owned()] {
            assert_eq!(ask(path, &[(name, &list)]).await.0, 401, "{list}");
        }
        for list in [format!("steerage, {wrong}"), format!("steerage, {right}, {right}"), format!("{right}, {wrong}")] {
            assert_eq!(ask(path, &[(name, &list)]).await.0, 401, "{list}");
            tokio::time::advance(Duration::from_secs(61)).await;
        }
        assert_eq!(ask(path, &[(name, &right), ("authorization", &first)]).await.0, 401, "one credential");
        // A page of another origin stays outside, with whatever key.
        assert_eq!(ask(path, &[(name, &right), ("origin", "http://elsewhere.test")]).await.0, 403);
    }
    assert_eq!(ask("/v1/sessions/s/ws", &[(name, &other)]).await.0, 404, "another tenant's");
    // Where nothing is upgraded there are no subprotocols.
    assert_eq!(client.request("GET", "/v1/sessions", &[(name, &right)], b"").await.status, 401);
}

/// Opens a socket with a key or token as its subprotocol. `Err`: the status of the refusal.
pub(super) async fn open(client: &Client, path: &str, secret: &str) -> Result<WebSocketStream<DuplexStream>, u16> {
    let mut request = format!("ws://steerage.test{path}").into_client_request().expect("a request");
    let protocol = format!("steerage, steerage.bearer.{secret}").parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    match client_async(request, client.dialer().connect()).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}
