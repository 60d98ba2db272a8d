//! A real server behind pipes.

use steerage::{Config, Server, env::Env, server::Drained};
use tokio::sync::oneshot;

use super::{
    Client,
    pipe::{Dialer, pipe},
};

/// For scenarios that say much on one socket and are not about how much.
pub(crate) fn unmetered() -> Config {
    let mut config = Config::in_memory();
    config.limits.socket_messages_per_s = 0;
    config
}

/// A running server; ends with [`TestServer::stop`] or with the test.
pub(crate) struct TestServer {
    pub(crate) dialer: Dialer,
    admin: Dialer,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<std::io::Result<Drained>>,
}

impl TestServer {
    /// With the demo provider and reproducible names.
    pub(crate) fn start() -> Self {
        Self::with(|server| server)
    }

    /// With whatever `change` adds.
    pub(crate) fn with(change: impl FnOnce(Server) -> Server) -> Self {
        Self::configured(Config::in_memory(), change)
    }

    pub(crate) fn configured(mut config: Config, change: impl FnOnce(Server) -> Server) -> Self {
        config.allowed_hosts.push("steerage.test".into());
        let server = change(Server::new(config).expect("a valid configuration").env(Env::seeded(1)));
        let (dialer, listener) = pipe();
        let (admin, admin_listener) = pipe();
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "the test is the owner: it awaits the end in `stop`")]
        let ended = tokio::spawn(server.serve_with_admin(listener, Some(admin_listener), async {
            let _or_dropped = stopped.await;
        }));
        Self { dialer, admin, stop: Some(stop), ended }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.dialer.clone())
    }

    /// A client of the operator's doors.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.admin.clone())
    }

    /// Begins its drain.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }

    /// Drains it.
    pub(crate) async fn stop(mut self) -> Drained {
        drop(self.stop.take());
        self.ended.await.expect("the server does not panic").expect("the server serves")
    }
}
