//! A whole server behind pipes, for targets that speak to it in bytes. Its time is paused: where it waits, it has waited.

use std::{io, sync::OnceLock};

use axum::serve::Listener;
use steerage::{Config, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// The key that opens.
#[allow(dead_code)]
pub const KEY: &str = "0123456789abcdef";
/// Bytes that one direction of a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

struct Pipes(UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    runtime: Runtime,
    dial: UnboundedSender<DuplexStream>,
}

/// One for all inputs: what one of them does must not matter to the next. It has a key, and answers to its names only.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let mut config = Config::in_memory();
        config.add_key(KEY).expect("a key");
        config.allowed_hosts.push("chat.example".into());
        let (dial, pipes) = unbounded_channel();
        let server = Server::new(config).expect("a valid configuration");
        runtime.spawn(async move { server.serve(Pipes(pipes), std::future::pending()).await });
        World { runtime, dial }
    })
}

/// Sends these pieces on a connection of their own, then says no more; everything that comes back until the server closes.
pub fn ask<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let World { runtime, dial } = world();
    runtime.block_on(async {
        let (near, far) = duplex(PIPE_BYTES);
        dial.send(far).expect("the server serves");
        let (mut reading, mut writing) = tokio::io::split(near);
        let sending = async {
            for piece in pieces {
                // The server may have closed already.
                if writing.write_all(piece).await.is_err() {
                    break;
                }
                // It sees each piece by itself.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let mut said = Vec::new();
        let receiving = async {
            let _broken_off = reading.read_to_end(&mut said).await;
        };
        tokio::join!(sending, receiving);
        said
    })
}
