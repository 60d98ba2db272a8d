//! Takes connections in and serves each in a task of its own, within bounds that `axum::serve` does not have: for the
//! first bytes, the head of a request, a peer that takes nothing, how many there are, and the end of them all.

use std::{any::Any, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, header},
    serve::Listener,
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    signal::unix::{SignalKind, signal},
    time::{Duration, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use super::{
    Tls,
    connection::{Connection, Held, Protocol},
    places::{Full, Place, Places},
    streams::Streams,
};
use crate::{
    config,
    metrics::{ConnectionState, Connections, Refused},
};

/// Memory of an HTTP/1.1 connection for what it reads and writes, each.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// What we hold for one HTTP/2 stream whose peer grants no room.
const STREAM_SEND_BYTES_MAX: usize = 64 * 1024;
/// Streams that an HTTP/2 peer may reset before we have seen them, and that we may reset because of it (CVE-2023-44487
/// and its successor, CVE-2025-8671).
const RESETS_PENDING_MAX: usize = 20;
const RESETS_OF_OURS_MAX: usize = 256;
/// How long an HTTP/2 peer has to hear that its connection ends.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Edge {
    bounds: config::Connections,
    tls: Option<Tls>,
    places: Arc<Places>,
    router: Router,
    /// Cancelled when nothing new is taken in and what is there ends after its requests.
    stopping: CancellationToken,
    /// Cancelled when what is still there is dropped.
    cut: CancellationToken,
    tracker: TaskTracker,
    metrics: Arc<Connections>,
}

impl Edge {
    pub(super) fn new(
        bounds: config::Connections,
        tls: Option<Tls>,
        router: Router,
        stopping: CancellationToken,
        tracker: TaskTracker,
        metrics: Arc<Connections>,
    ) -> Arc<Self> {
        let (places, cut) = (Places::new(&bounds), CancellationToken::new());
        Arc::new(Self { bounds, tls, places, router, stopping, cut, tracker, metrics })
    }

    /// Takes connections in until the server stops.
    pub(super) async fn accept<L>(self: &Arc<Self>, mut listener: L)
    where
        L: Listener,
        L::Addr: 'static,
    {
        loop {
            let (io, address) = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let peer = (&address as &dyn Any).downcast_ref::<SocketAddr>().copied();
            let place = match self.places.take(peer.map(|peer| peer.ip())) {
                Ok(place) => place,
                Err(Full::Server) => {
                    self.metrics.refused.of(Refused::Server).inc();
                    tracing::debug!("refused a connection: connections.max are there");
                    continue;
                }
                Err(Full::Address) => {
                    self.metrics.refused.of(Refused::Address).inc();
                    tracing::debug!(
                        ?peer,
                        "refused a connection: connections.per_address_max of its address are there"
                    );
                    continue;
                }
            };
            self.metrics.accepted.inc();
            self.tracker.spawn(self.clone().serve(io, place, peer));
        }
    }

    /// Reads the certificate again whenever the process gets SIGHUP, until the server stops.
    pub(super) async fn reload_certificates(&self) {
        let Some(tls) = &self.tls else { return };
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => return tracing::warn!(%error, "SIGHUP cannot be heard"),
        };
        while let Some(Some(())) = self.stopping.run_until_cancelled(hangups.recv()).await {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the certificate cannot be read; the one before stays"),
            }
        }
    }

    /// Drops every connection that is still there.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    async fn serve<T>(self: Arc<Self>, io: T, place: Place, peer: Option<SocketAddr>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Tokens of its own: thousands of connections on one would share one lock.
        let (stopping, cut) = (self.stopping.child_token(), self.cut.child_token());
        let held = Held { _place: place, present: self.metrics.open.enter(ConnectionState::Opening) };
        let Some(tls) = &self.tls else { return self.speak(io, held, peer, &stopping, &cut).await };
        match stopping.run_until_cancelled(tls.accept(io, self.bounds.tls_handshake_timeout())).await {
            Some(Ok(io)) => self.speak(io, held, peer, &stopping, &cut).await,
            Some(Err(error)) => tracing::debug!(?peer, %error, "no TLS handshake"),
            None => {}
        }
    }

    /// Finds out what the peer speaks, and serves it.
    async fn speak<T>(
        &self,
        io: T,
        held: Held,
        peer: Option<SocketAddr>,
        stopping: &CancellationToken,
        cut: &CancellationToken,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut io = Connection::new(io, self.bounds.stall_timeout(), Some(held));
        let protocol = tokio::select! {
            protocol = timeout(self.bounds.first_byte_timeout(), io.protocol()) => protocol,
            () = stopping.cancelled() => return,
        };
        let served = async {
            match protocol {
                Ok(Ok(Some(Protocol::Http1))) => {
                    io.counts_as(self.metrics.open.enter(ConnectionState::Http1));
                    self.http1(io, peer, stopping).await
                }
                Ok(Ok(Some(Protocol::Http2))) => {
                    io.counts_as(self.metrics.open.enter(ConnectionState::Http2));
                    self.http2(io, peer, stopping).await
                }
                // Silent, or gone.
                Err(_) | Ok(Err(_) | Ok(None)) => Ok(()),
            }
        };
        tokio::select! {
            // Peers leave at any time: nothing to tell an operator.
            result = served => if let Err(error) = result {
                tracing::debug!(?peer, %error, "a connection ended");
            },
            () = cut.cancelled() => {}
        }
    }

    async fn http1<T>(
        &self,
        io: Connection<T>,
        peer: Option<SocketAddr>,
        stopping: &CancellationToken,
    ) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, inflow) = (self.router.clone(), io.inflow());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = received(request, peer);
            // What becomes a socket bounds what its peer may send.
            if request.headers().contains_key(header::UPGRADE) {
                request.extensions_mut().insert(inflow.clone());
            }
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.header_timeout())
            .max_headers(self.bounds.headers_max)
            .max_header_size(self.bounds.header_bytes_max)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn http2<T>(
        &self,
        io: Connection<T>,
        peer: Option<SocketAddr>,
        stopping: &CancellationToken,
    ) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, streams) = (self.router.clone(), Streams::new());
        let watch = streams.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (stream, response) = (watch.begin(), router.clone().call(received(request, peer)));
            async move { response.await.map(|response| response.map(|body| stream.watch(body))) }
        });
        let (ping_every, pong_max) = self.bounds.ping();
        let connection = http2::Builder::new(Spawner(self.tracker.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(ping_every)
            .keep_alive_timeout(pong_max)
            .max_concurrent_streams(self.bounds.streams_max)
            .initial_stream_window_size(self.bounds.stream_window_bytes)
            .initial_connection_window_size(self.bounds.connection_window_bytes)
            .max_send_buf_size(STREAM_SEND_BYTES_MAX)
            .max_header_list_size(self.bounds.header_bytes_max as u32)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(RESETS_OF_OURS_MAX)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let over = streams.over(self.bounds.stall_timeout(), self.bounds.idle_timeout());
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
            () = over => {
                connection.as_mut().graceful_shutdown();
                return timeout(GOODBYE_MAX, connection).await.unwrap_or(Ok(()));
            }
        }
        connection.await
    }
}

/// A request as the routes take it, whatever it came over.
fn received(request: Request<Incoming>, peer: Option<SocketAddr>) -> Request<Body> {
    let mut request = request.map(Body::new);
    // HTTP/2 says in the URI what HTTP/1.1 says in this field (RFC 9113 §8.3.1), and an absolute URI is more than the field
    // (RFC 9112 §3.2.2). A request that asks for two names has both of them: whoever looks at names refuses it.
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
        && !request
            .headers()
            .get(header::HOST)
            .is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(host.as_bytes()))
    {
        request.headers_mut().append(header::HOST, host);
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    request
}

/// Owns the tasks of HTTP/2 streams.
#[derive(Clone)]
struct Spawner(TaskTracker);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
