//! What the server wants of a connection, whatever the listener.
//!
//! Its end is reported one poll late. hyper reads a request, looks at once whether the client has left, and if so drops
//! the request before its handler is polled for the first time. A browser that is closed with "Stop" pressed sends its
//! command and its FIN together. So the end waits until the connection has been polled once more: the handler has begun
//! by then, and what it began goes on in a task of its own.
//!
//! The small parts of a write are joined. A streamed token leaves as three: chunk size, event, line end. The kernel
//! takes one piece more cheaply than a list of three, and copying some hundred bytes costs next to nothing.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes up to which parts are joined: several tokens, and small enough for the stack.
const JOINED_MAX_BYTES: usize = 1024;

/// A listener of such connections.
#[derive(Debug)]
pub struct Connections<L>(pub L);

impl<L: Listener> Listener for Connections<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.0.accept().await;
        (Connection { io, end_seen: false }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection<T> {
    io: T,
    end_seen: bool,
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.remaining();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        let end = matches!(result, Poll::Ready(Ok(()))) && before > 0 && buf.remaining() == before;
        if end && !self.end_seen {
            self.end_seen = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = [0; JOINED_MAX_BYTES];
        let mut length = 0;
        for part in parts {
            let Some(room) = joined.get_mut(length..length + part.len()) else {
                return Pin::new(&mut self.io).poll_write_vectored(cx, parts);
            };
            room.copy_from_slice(part);
            length += part.len();
        }
        Pin::new(&mut self.io).poll_write(cx, &joined[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn parts_arrive_whole_and_in_order_below_and_above_the_limit() {
        for size in [0, 1, 300, 341, 342, 2_000] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut connection = pin!(Connection { io: near, end_seen: false });
            let parts: Vec<_> = (b'a'..=b'c').map(|byte| vec![byte; size]).collect();
            let mut rest: &[u8] = &parts.concat();
            let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut unsent = &mut slices[..];
            while !rest.is_empty() {
                let sent = poll_fn(|cx| connection.as_mut().poll_write_vectored(cx, unsent)).await.unwrap();
                assert!(sent > 0);
                let mut received = vec![0; sent];
                far.read_exact(&mut received).await.unwrap();
                assert_eq!(received, rest[..sent]);
                rest = &rest[sent..];
                IoSlice::advance_slices(&mut unsent, sent);
            }
        }
    }
}
