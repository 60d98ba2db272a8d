//! The operator's listener: few connections, no stream, and it outlives the public one by the drain.

use std::{io, sync::Arc};

use axum::{Router, serve::Listener};
use tokio::{
    net::TcpListener,
    time::{Duration, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{edge::Edge, socket::Sockets};
use crate::config;

/// Connections at once: a Prometheus or two, a prober, a person.
const CONNECTIONS_MAX: usize = 32;
/// Requests of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 4;
/// Longest that its connections may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Its bounds: as those of the public listener, for fewer.
fn bounds() -> config::Connections {
    config::Connections { max: CONNECTIONS_MAX, streams_max: STREAMS_MAX, ..config::Connections::default() }
}

/// The socket that the configuration names.
pub(super) async fn listen(config: &config::Admin) -> io::Result<Option<Sockets>> {
    let Some(address) = config.listen else { return Ok(None) };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("admin.listen = {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(named)?;
    tracing::info!(address = %listener.local_addr()?, "the admin listener is up");
    Ok(Some(Sockets::new(listener, bounds())))
}

/// Serves `router` on `listener` until `over`.
pub(super) async fn serve<L>(listener: Option<L>, router: Router, over: &CancellationToken)
where
    L: Listener,
    L::Addr: 'static,
{
    let Some(listener) = listener else { return };
    // Its own: the drain waits for all tasks of the public listener, and this one is to be asked meanwhile.
    let tracker = TaskTracker::new();
    let edge = Edge::new(bounds(), None, router, over.clone(), tracker.clone(), Arc::default());
    edge.accept(listener).await;
    tracker.close();
    let _left_behind = timeout(CLOSE_MAX, tracker.wait()).await;
    edge.cut();
}
