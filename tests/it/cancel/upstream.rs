//! An OpenAI-shaped upstream on a raw socket: chunked events as fast as they are taken, and the moment at which its
//! socket saw the other side go.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::puppet::Drops;

/// Serves until the test ends; gives the base URL.
pub(super) async fn serve(closes: Drops) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "an upstream lives as long as the test's runtime")]
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let closes = closes.clone();
            tokio::spawn(flood(stream, closes));
        }
    });
    url
}

async fn flood(stream: TcpStream, closes: Drops) {
    let (mut read, mut write) = stream.into_split();
    let mut request = Vec::new();
    // What was said is in the request's body and ends with a dot: `run-17.`
    let name = loop {
        let mut bytes = [0; 4096];
        match read.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&bytes[..n]),
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some(name) = text.split("run-").nth(1).and_then(|rest| rest.split_once('.')) {
            break format!("run-{}.", name.0);
        }
    };
    let answering = async {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        write.write_all(head.as_bytes()).await?;
        for n in 0.. {
            let event = format!(
                "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"flood\",\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n} \"}},\"finish_reason\":null}}]}}\n\n"
            );
            write.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    // The end shows on whichever side is asked first.
    let gone = async {
        let mut bytes = [0; 4096];
        while matches!(read.read(&mut bytes).await, Ok(n) if n > 0) {}
    };
    tokio::select! {
        _ = answering => {}
        () = gone => {}
    }
    closes.note(&name);
}
