//! Role `server`: the library in a process of its own, with the oracle as its model server and two tools that write
//! down every real execution before they answer.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use steerage::{
    Config, Server, config,
    server::socket::Sockets,
    session::state::OnCrash,
    spec::{ApprovalPolicy, Executor, ToolSpec},
    tool::{Tool, ToolCall},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{
    canon::digest,
    oracle::{ACT, ACT_IDEM, output},
};

/// Longest pause of a tool before and after it acts.
const PAUSE_MAX_US: u64 = 25_000;

/// Seconds that answers may go on after SIGTERM: shorter than some take, so that they are handed over.
pub(crate) const GRACE_S: u64 = 1;

/// A tool whose effect is a line in a file.
struct Act {
    name: &'static str,
    idempotent: bool,
    file: PathBuf,
}

impl Tool for Act {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.into(),
            description: "Does what its key says.".into(),
            parameters: json!({
                "type": "object",
                "properties": {"key": {"type": "string"}, "n": {"type": "integer"}},
                "required": ["key", "n"],
                "additionalProperties": false,
            }),
            executor: Executor::Builtin,
            approval: Some(ApprovalPolicy::Always),
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: self.idempotent,
            ends_run: false,
        }
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        let (file, name) = (self.file.clone(), self.name);
        Box::pin(async move {
            let pause = || Duration::from_micros(fastrand::u64(..PAUSE_MAX_US));
            sleep(pause()).await;
            let result = output(&call.arguments);
            let line = json!({
                "call_id": call.call_id.as_str(), "attempt": call.attempt, "tool": name,
                "key": call.arguments["key"], "digest": digest(name, &call.arguments),
            });
            let written = tokio::task::spawn_blocking(move || act(&file, &line)).await;
            written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            sleep(pause()).await;
            Ok(result)
        })
    }
}

/// The effect itself: done when the disk has it.
fn act(file: &Path, line: &Value) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

/// Serves until the process is killed, or asked to stop. Prints its port.
pub(crate) async fn run(store: &str, on_crash: &str, upstream: u16, tools: &Path) -> Result<(), String> {
    let on_crash = if on_crash == "fail" { OnCrash::Fail } else { OnCrash::Continue };
    let mut config = Config { store: store.to_owned(), on_crash, drain_grace_s: GRACE_S, ..Config::default() };
    // What is tried here is not how often: controllers and readers of all sessions are at work at once, from one tenant.
    (config.limits.session_creates_per_s, config.limits.socket_messages_per_s) = (0, 0);
    config.limits.readers_per_session_max = 0;
    config.add_upstream(&format!("oracle=http://127.0.0.1:{upstream}/v1")).map_err(|error| error.to_string())?;
    let act = |name, idempotent| Act { name, idempotent, file: tools.to_owned() };
    let server =
        Server::new(config).map_err(|error| error.to_string())?.tool(act(ACT, false)).tool(act(ACT_IDEM, true));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let listener = Sockets::new(listener, config::Connections::default());
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let stop = async move {
        terminate.recv().await;
    };
    println!("{port}");
    server.serve(listener, stop).await.map(drop).map_err(|error| error.to_string())
}
