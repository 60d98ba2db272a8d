//! What the server wants of a connection, whatever the listener.
//!
//! Its end is reported one poll late. hyper reads a request, looks at once whether the client has left, and if so drops
//! the request before its handler is polled for the first time. A browser that is closed with "Stop" pressed sends its
//! command and its FIN together. So the end waits until the connection has been polled once more: the handler has begun
//! by then, and what it began goes on in a task of its own.
//!
//! The small parts of a write are joined. A streamed token leaves as three: chunk size, event, line end. The kernel
//! takes one piece more cheaply than a list of three, and copying some hundred bytes costs next to nothing.
//!
//! A peer that takes nothing for too long has no connection any more: hyper waits for it for ever.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::serve::Listener;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Duration, Sleep, sleep},
};

use super::places::Place;
use crate::{config, limit::Inflow, metrics::Present};

/// Bytes up to which parts are joined: several tokens, and small enough for the stack.
const JOINED_MAX_BYTES: usize = 1024;
/// What a client sends first that speaks HTTP/2 (RFC 9113 §3.4). No request of HTTP/1 begins so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listener of such connections.
#[derive(Debug)]
pub struct Connections<L>(pub L);

impl<L: Listener> Listener for Connections<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.0.accept().await;
        (Connection::new(io, config::Connections::default().stall_timeout(), None), address)
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
    /// What was read to find out what the peer speaks.
    read_ahead: Bytes,
    stall_timeout: Duration,
    /// Runs while the peer takes nothing of what waits for it.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What the peer may still send; a socket bounds it.
    inflow: Inflow,
    /// Held for as long as the connection is there, whoever has it: an upgraded one leaves hyper.
    held: Option<Held>,
}

/// What a connection takes up.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) _place: Place,
    /// As what it is counted.
    pub(super) present: Present,
}

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl<T> Connection<T> {
    pub(super) fn new(io: T, stall_timeout: Duration, held: Option<Held>) -> Self {
        let inflow = Inflow::default();
        Self { io, end_seen: false, read_ahead: Bytes::new(), stall_timeout, stalled: None, inflow, held }
    }

    /// It is known now what it speaks.
    pub(super) fn counts_as(&mut self, present: Present) {
        if let Some(held) = &mut self.held {
            held.present = present;
        }
    }

    /// What its peer may still send.
    pub(super) fn inflow(&self) -> Inflow {
        self.inflow.clone()
    }

    /// What a write came to. Each bit that the peer takes gives it the whole time again.
    fn written<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stall_timeout = self.stall_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_timeout)));
        ready!(stalled.as_mut().poll(cx));
        tracing::debug!("a peer took nothing for too long");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> Connection<T> {
    /// Reads until it is known what the peer speaks. What was read stays to be read. `None` when the peer has gone.
    pub(super) async fn protocol(&mut self) -> io::Result<Option<Protocol>> {
        let mut read = BytesMut::with_capacity(PREFACE.len());
        let protocol = loop {
            if (&mut self.io).take((PREFACE.len() - read.len()) as u64).read_buf(&mut read).await? == 0 {
                return Ok(None);
            }
            match read == PREFACE[..read.len()] {
                false => break Protocol::Http1,
                true if read.len() == PREFACE.len() => break Protocol::Http2,
                true => {}
            }
        };
        self.read_ahead = read.freeze();
        Ok(Some(protocol))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.has_remaining() {
            let length = self.read_ahead.len().min(buf.remaining());
            buf.put_slice(&self.read_ahead.split_to(length));
            // The rest of the head is there, too, as a rule: for a second read hyper would make its buffer twice as large.
            // What goes wrong or ends here does so again with the next read.
            let before = buf.remaining();
            if before > 0 {
                let _ = Pin::new(&mut self.io).poll_read(cx, buf);
                self.inflow.read(before - buf.remaining())?;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.remaining();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.inflow.read(before - buf.remaining())?;
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
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, result)
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
                let result = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
                return self.written(cx, result);
            };
            room.copy_from_slice(part);
            length += part.len();
        }
        let result = Pin::new(&mut self.io).poll_write(cx, &joined[..length]);
        self.written(cx, result)
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

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn connection() -> (Connection<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Connection::new(near, Duration::from_secs(15), None), far)
    }

    #[tokio::test]
    async fn what_a_peer_speaks_is_known_from_its_first_bytes_which_stay() {
        let cases: [(&[u8], _); 5] = [
            (PREFACE, Some(Protocol::Http2)),
            (b"GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"PUT / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Some(Protocol::Http1)),
            (b"PRI *", None),
        ];
        for (sent, spoken) in cases {
            for piece in [1, sent.len()] {
                let (mut near, mut far) = connection();
                let sending = async {
                    for part in sent.chunks(piece) {
                        far.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    far.write_all(if spoken.is_some() { b" and more" } else { b"" }).await.unwrap();
                    drop(far);
                };
                let (protocol, ()) = tokio::join!(near.protocol(), sending);
                assert_eq!(protocol.unwrap(), spoken, "{sent:?}");
                let mut rest = Vec::new();
                near.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, if spoken.is_some() { [sent, b" and more"].concat() } else { Vec::new() });
            }
        }
    }

    #[tokio::test]
    async fn the_first_bytes_are_read_with_what_follows_them() {
        let (mut near, mut far) = connection();
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        near.protocol().await.unwrap();
        let mut head = BytesMut::with_capacity(64);
        near.read_buf(&mut head).await.unwrap();
        assert_eq!(head, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], "in one read");
        // A small buffer takes what fits, and nothing is lost.
        let (mut near, mut far) = connection();
        far.write_all(&PREFACE.repeat(2)).await.unwrap();
        near.protocol().await.unwrap();
        let mut all = Vec::new();
        while all.len() < 2 * PREFACE.len() {
            let mut some = [0; 7];
            let length = near.read(&mut some).await.unwrap();
            all.extend_from_slice(&some[..length]);
        }
        assert_eq!(all, PREFACE.repeat(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
        let (mut near, far) = connection();
        near.write_all(&[0; 64]).await.unwrap();
        assert_eq!(near.write(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(far);

        let (mut near, mut far) = connection();
        let reading = async {
            for _ in 0..20 {
                sleep(Duration::from_secs(14)).await;
                far.read_exact(&mut [0; 8]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 64 + 160]), reading);
        written.unwrap();
    }

    #[tokio::test]
    async fn parts_arrive_whole_and_in_order_below_and_above_the_limit() {
        for size in [0, 1, 300, 341, 342, 2_000] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut connection = pin!(Connection::new(near, Duration::from_secs(15), None));
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
