//! A model of your own and a tool of your own, in a server of your own: all that a provider does is turn a prompt into
//! a stream of deltas.
//!
//! `cargo run --example provider` asks it one question and ends; with an address, for instance
//! `cargo run --example provider 127.0.0.1:8788`, it serves until Ctrl-C.

mod common;

use common::{Host, Result, delta};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};
use steerage::{
    Config, Server,
    event::FinishReason,
    provider::{Delta, Deltas, Message, Model, Outcome, Prompt, Provider, ProviderError},
    spec::{Executor, ToolSpec},
    tool::{Tool, ToolCall},
};
use tokio::{net::TcpListener, sync::oneshot};

/// A model that counts words: it asks the tool, and says what the tool said.
struct Clerk;

impl Provider for Clerk {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        async { Ok(vec![Model { name: "counting".into(), created: 0 }]) }.boxed()
    }

    /// Nothing happens before the stream is polled, and dropping it is the cancellation. The last delta is `End`.
    fn stream(&self, prompt: Prompt) -> Deltas {
        let deltas = match prompt.messages.last() {
            Some(Message::Tool { outcome: Outcome::Output(count), .. }) => {
                vec![text("I counted "), text(&format!("{count} words.")), end(FinishReason::Stop)]
            }
            Some(Message::User(said)) => vec![
                Delta::ToolCall { index: 0, id: None, name: "count_words".into() },
                Delta::Arguments { index: 0, fragment: json!({ "text": said }).to_string() },
                end(FinishReason::ToolCalls),
            ],
            _ => vec![text("I could not count."), end(FinishReason::Stop)],
        };
        stream::iter(deltas).map(Ok).boxed()
    }
}

fn text(text: &str) -> Delta {
    Delta::Text { text: text.into(), lossy: false }
}

fn end(finish_reason: FinishReason) -> Delta {
    Delta::End { finish_reason, usage: None, warning: None }
}

/// A tool that runs in the server. Its arguments have been checked against `parameters`.
struct CountWords;

impl Tool for CountWords {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "count_words".into(),
            description: "Counts the words of a text.".into(),
            parameters: json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}),
            executor: Executor::Builtin,
            approval: None,
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: true,
            ends_run: false,
        }
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        async move {
            let text = call.arguments["text"].as_str().ok_or("text is missing")?;
            Ok(json!(text.split_whitespace().count()))
        }
        .boxed()
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let bound = listener.local_addr()?.to_string();
    println!("the model clerk/counting is at http://{bound}");

    let server = Server::new(Config::in_memory())?.provider("clerk", Clerk).tool(CountWords);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server.serve(listener, async {
        let _or_dropped = stopped.await;
    });
    let work = async {
        match address {
            Some(_) => tokio::signal::ctrl_c().await?,
            None => ask(&bound).await?,
        }
        drop(stop);
        Ok(())
    };
    let (served, worked) = tokio::join!(serving, work);
    served?;
    worked
}

/// A tool of the server must be asked for by the session. It would wait for a yes, were it not for `approval`.
async fn ask(address: &str) -> Result {
    let host = Host::at(address);
    let body = json!({
        "model": "clerk/counting",
        "input": "how many words are these",
        "tools": [{"name": "count_words", "executor": "builtin", "approval": "never"}],
    });
    let created = host.call("POST", "/v1/sessions", Some(body)).await?;
    let session = created["session_id"].as_str().ok_or("a session has a name")?;
    let mut events = host.events(&format!("/v1/sessions/{session}/events?until=idle")).await?;
    while let Some(event) = events.next().await? {
        match event["type"].as_str() {
            Some("tool_call.ready") => println!("calls {} {}", event["name"], event["arguments"]),
            Some("tool.completed") => println!("gets {}", event["output"]),
            _ => print!("{}", delta(&event).unwrap_or_default()),
        }
    }
    println!();
    Ok(())
}
