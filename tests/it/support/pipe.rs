//! In-memory connections instead of sockets: axum's own `Listener`, so that the server is the real one and time can be
//! paused.

use std::io;

use axum::serve::Listener;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// Bytes that one direction of a pipe holds before the writer waits: a small socket buffer.
pub(crate) const PIPE_BYTES: usize = 16 * 1024;

/// The server's end.
pub(crate) struct PipeListener(mpsc::UnboundedReceiver<DuplexStream>);

/// The clients' end; cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer(mpsc::UnboundedSender<DuplexStream>);

pub(crate) fn pipe() -> (Dialer, PipeListener) {
    let (tx, rx) = mpsc::unbounded_channel();
    (Dialer(tx), PipeListener(rx))
}

impl Dialer {
    /// A new connection.
    pub(crate) fn connect(&self) -> DuplexStream {
        self.connect_with(PIPE_BYTES)
    }

    /// A new connection whose buffers hold `bytes` per direction.
    pub(crate) fn connect_with(&self, bytes: usize) -> DuplexStream {
        let (ours, theirs) = duplex(bytes);
        let _refused = self.0.send(theirs);
        ours
    }
}

impl Listener for PipeListener {
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
