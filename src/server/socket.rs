//! TCP as the server wants it: what the kernel must know of each connection.

use std::{io, net::SocketAddr};

use axum::serve::Listener;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::config;

/// A listener whose connections are set up for streaming: no small packet waits for an acknowledgement, vanished peers
/// are found, and the kernel holds little for a peer that does not read.
#[derive(Debug)]
pub struct Sockets {
    listener: TcpListener,
    connections: config::Connections,
}

impl Sockets {
    /// Wraps a listener that is bound.
    pub fn new(listener: TcpListener, connections: config::Connections) -> Self {
        Self { listener, connections }
    }
}

impl Listener for Sockets {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // A peer that has gone already can fail this; reading from it says so.
        if let Err(error) = set_up(&stream, &self.connections) {
            tracing::debug!(%error, "a connection could not be set up");
        }
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn set_up(stream: &TcpStream, connections: &config::Connections) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let (after, every, times) = connections.keepalive();
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after).with_interval(every).with_retries(times))?;
    socket.set_send_buffer_size(connections.send_buffer_bytes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(connections.unacknowledged_max()))?;
    Ok(())
}
