//! A socket that joins the small parts of a write.
//!
//! A streamed token leaves as three parts: chunk size, event, line end. The kernel takes one piece more cheaply than a
//! list of three, and copying some hundred bytes costs next to nothing. Large writes stay as they are.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes up to which parts are joined: several tokens, and small enough for the stack.
const JOINED_MAX_BYTES: usize = 1024;

/// Accepts such sockets.
pub(super) struct Joining<L>(pub(super) L);

impl<L: Listener> Listener for Joining<L> {
    type Io = Socket<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.0.accept().await;
        (Socket(io), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// One of them.
pub(super) struct Socket<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
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
                return Pin::new(&mut self.0).poll_write_vectored(cx, parts);
            };
            room.copy_from_slice(part);
            length += part.len();
        }
        Pin::new(&mut self.0).poll_write(cx, &joined[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
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
            let mut socket = pin!(Socket(near));
            let parts: Vec<_> = (b'a'..=b'c').map(|byte| vec![byte; size]).collect();
            let mut rest: &[u8] = &parts.concat();
            let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut unsent = &mut slices[..];
            while !rest.is_empty() {
                let sent = poll_fn(|cx| socket.as_mut().poll_write_vectored(cx, unsent)).await.unwrap();
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
