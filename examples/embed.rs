//! Steerage inside your own axum application: its routes under a path of yours, and a proper end.
//!
//! `cargo run --example embed` asks itself one question and ends; with an address, for instance
//! `cargo run --example embed 127.0.0.1:8788`, it serves until Ctrl-C, the page at `/ai`.

mod common;

use axum::{Router, routing::get};
use common::{Host, Result};
use serde_json::json;
use steerage::{Config, Server};
use tokio::{net::TcpListener, sync::oneshot};

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let bound = listener.local_addr()?;

    let steerage = Server::new(Config::in_memory())?.start()?;
    let app = Router::new()
        .route("/hello", get(|| async { r#"{"hello":"from a route of my own"}"# }))
        .nest("/ai", steerage.router.clone());
    println!("http://{bound}/hello is ours, http://{bound}/ai is Steerage's");

    // The order of the end: Steerage first. It tells its readers to come back, lets running generations finish within
    // the grace and stores every last word. Then the listener has no stream left that it would wait for.
    let (stopped, listener_may_stop) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async {
        let _or_dropped = listener_may_stop.await;
    });
    let work = async {
        match address {
            Some(_) => tokio::signal::ctrl_c().await?,
            None => ask(&bound.to_string()).await?,
        }
        println!("stopped: {:?}", steerage.stop().await);
        drop(stopped);
        Ok(())
    };
    let (served, worked) = tokio::join!(serving, work);
    served?;
    worked
}

/// A client of both.
async fn ask(address: &str) -> Result {
    let host = Host::at(address);
    println!("{}", host.call("GET", "/hello", None).await?);
    let body = json!({"model": "demo/echo", "input": "Steerage answers beside it"});
    let created = host.call("POST", "/ai/v1/sessions", Some(body)).await?;
    let session = created["session_id"].as_str().ok_or("a session has a name")?;
    let mut events = host.events(&format!("/ai/v1/sessions/{session}/events?until=idle")).await?;
    while let Some(event) = events.next().await? {
        print!("{}", common::delta(&event).unwrap_or_default());
    }
    println!();
    Ok(())
}
