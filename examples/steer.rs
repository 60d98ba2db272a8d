//! Says more while the answer is running, then lets a tool run that had to ask.
//!
//! `cargo run --example steer [http://127.0.0.1:8787]`

mod common;

use std::io::Write as _;

use common::{Host, Result, delta};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result {
    let host = Host::find().await?;
    steer(&host).await?;
    approve(&host).await?;
    host.stop().await
}

/// A story that takes a wish up in its next sentence. It is one run with two steps: the model call is cut where the
/// steer arrives, what was said stays said, and the next call goes on from both.
async fn steer(host: &Host) -> Result {
    let body = json!({"model": "demo/story", "input": "Tell me a story", "params": {"tokens_per_second": 100}});
    let session = create(host, body).await?;
    let mut events = host.events(&format!("/v1/sessions/{session}/events?until=idle")).await?;
    let mut pieces = 0;
    while let Some(event) = events.next().await? {
        show(&event)?;
        pieces += usize::from(delta(&event).is_some());
        if pieces == 40 {
            pieces += 1;
            let steer = json!({"type": "steer", "command_id": "wish-1", "content": "Let there be a lighthouse"});
            let receipt = control(host, &session, steer).await?;
            println!("\n      -- steer {} at seq {} --", receipt["status"], receipt["seq"]);
        }
    }
    Ok(())
}

/// `demo/tools` always calls `get_weather`, a tool of the server: it waits until somebody says yes. We say yes to
/// something else than was asked.
async fn approve(host: &Host) -> Result {
    let session = create(host, json!({"model": "demo/tools", "input": "What is the weather in Oslo?"})).await?;
    let mut events = host.events(&format!("/v1/sessions/{session}/events?until=idle")).await?;
    while let Some(event) = events.next().await? {
        show(&event)?;
        if event["type"] == "approval.requested" {
            println!("\n      -- it wants {} {} --", event["name"], event["arguments"]);
            let yes = json!({
                "type": "approve",
                "approval_id": event["approval_id"],
                "arguments": {"city": "Bergen"},
            });
            let receipt = control(host, &session, yes).await?;
            println!("      -- approve {} for Bergen --", receipt["status"]);
        }
        if event["type"] == "tool.completed" {
            println!("      -- it got {} --", event["output"]);
        }
    }
    Ok(())
}

async fn create(host: &Host, body: Value) -> Result<String> {
    let created = host.call("POST", "/v1/sessions", Some(body)).await?;
    Ok(created["session_id"].as_str().ok_or("a session has a name")?.to_owned())
}

/// Gives a command; its receipt. With an id of our own in it we could ask again after a lost answer.
async fn control(host: &Host, session: &str, command: Value) -> Result<Value> {
    host.call("POST", &format!("/v1/sessions/{session}/control"), Some(command)).await
}

fn show(event: &Value) -> Result {
    match event["type"].as_str() {
        Some("text.delta") => print!("{}", delta(event).unwrap_or_default()),
        Some("input.added") => println!("\n> {}", event["content"].as_str().unwrap_or_default()),
        Some("run.completed") => println!("\n      -- the run is complete --"),
        Some("run.failed") => return Err(format!("the run failed: {}", event["message"]).into()),
        _ => {}
    }
    Ok(std::io::stdout().flush()?)
}
