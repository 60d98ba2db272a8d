//! Connections whose end is reported one poll late.
//!
//! hyper reads a request, looks at once whether the client has left, and if so drops the request before its handler is
//! polled for the first time. A browser that is closed with "Stop" pressed sends its command and its FIN together. So
//! the end waits until the connection has been polled once more: the handler has begun by then, and what it began goes
//! on in a task of its own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A listener of such connections.
pub(super) struct Patient<L>(pub(super) L);

impl<L: Listener> Listener for Patient<L> {
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
pub(super) struct Connection<T> {
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
