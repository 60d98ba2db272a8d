//! Builds a server, serves, drains.

use std::{future::Future, sync::Arc};

use axum::{Router, serve::Listener};
use tokio::time::{Duration, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Caller, SECRET_BYTES_MIN, Tokens},
    config::{Config, ConfigError, StoreKind},
    env::Env,
    fetch::Secret,
    http::{self, Admission, App, Hosts},
    provider::{
        Provider, Providers,
        demo::Demo,
        openai::{self, OpenAi},
    },
    registry::Registry,
    store::{Store, disk::DiskStore, memory::MemoryStore},
    tool::{Tool, Tools, builtin},
    trace::Tracer,
};

mod admin;
pub mod connection;
mod edge;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod places;
pub mod socket;
mod streams;
#[cfg(feature = "tls")]
mod tls;

use edge::Edge;
#[cfg(not(feature = "tls"))]
use no_tls::Tls;
#[cfg(feature = "tls")]
use tls::Tls;

/// How often a draining server looks whether the last generation has ended.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest that connections may take to close after everything they wait for has ended: with it the process is gone within
/// five seconds of the grace, whatever a client does.
const CLOSE_MAX: Duration = Duration::from_secs(4);

/// A server before it serves.
pub struct Server {
    config: Config,
    env: Env,
    /// Another store than the one that the configuration names.
    store: Option<Arc<dyn Store>>,
    providers: Providers,
    tools: Tools,
    tls: Option<Tls>,
    /// What tokens are signed with, if the operator has said it.
    token_secret: Option<Secret>,
    tracer: Tracer,
    /// Cancelled when the drain is to be cut short.
    hurry: CancellationToken,
}

/// Name of the variable that holds what tokens are signed with. Servers that share their sessions share it.
pub const TOKEN_SECRET_VARIABLE: &str = "STEERAGE_TOKEN_SECRET";

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every generation ended by itself.
    Whole,
    /// So many were still running when the grace was over; each has its `run.failed`.
    Cut(usize),
    /// So many were still running when the grace was over; each goes on when a server is started on the same store.
    HandedOver(usize),
}

impl Server {
    /// A server with what the configuration names: the demo provider and each upstream. Its store is opened by
    /// [`Server::start`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut providers = Providers::new();
        providers.insert("demo".into(), Arc::new(Demo));
        for (name, upstream) in &config.upstreams {
            let variable = Config::api_key_variable(name, upstream);
            let key = std::env::var(&variable).ok();
            if upstream.api_key_env.is_some() && key.is_none() {
                return Err(ConfigError(format!("upstream {name}: the variable {variable} is not set")));
            }
            let mut adapter = openai::Config::new(name, &upstream.url);
            adapter.api_key = key.map(Secret::new);
            adapter.limits = upstream.limits();
            adapter.prefill = upstream.prefill;
            let provider = OpenAi::new(adapter).map_err(|error| ConfigError(error.to_string()))?;
            providers.insert(name.clone(), Arc::new(provider));
        }
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let token_secret = std::env::var(TOKEN_SECRET_VARIABLE).ok();
        if token_secret.as_ref().is_some_and(|secret| secret.len() < SECRET_BYTES_MIN) {
            return Err(ConfigError(format!("{TOKEN_SECRET_VARIABLE} is at least {SECRET_BYTES_MIN} bytes")));
        }
        let token_secret = token_secret.map(Secret::new);
        Ok(Self {
            config,
            env: Env::system(),
            store: None,
            providers,
            tools: builtin::tools(),
            tls,
            token_secret,
            tracer: Tracer::default(),
            hurry: CancellationToken::new(),
        })
    }

    /// Adds a provider of your own; its models appear as `NAME/MODEL`.
    #[must_use]
    pub fn provider(mut self, name: &str, provider: impl Provider) -> Self {
        self.providers.insert(name.to_owned(), Arc::new(provider));
        self
    }

    /// Adds a tool of your own, for sessions that declare it with `executor: builtin`.
    #[must_use]
    pub fn tool(mut self, tool: impl Tool) -> Self {
        self.tools.insert(tool.spec().name, Arc::new(tool));
        self
    }

    /// Uses another store than the one that the configuration names.
    ///
    /// There is no folder then to keep revocations in. Without [`TOKEN_SECRET_VARIABLE`] no token outlives the process; with
    /// it they do, and one that was taken back is good again after a restart, until it ends (15 minutes at most).
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Makes spans of runs and model calls with `tracer`.
    #[must_use]
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Uses another source of time and names.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Cuts its drain short when `hurry` is cancelled: what still runs has no grace any more, and no connection is waited
    /// for. What happened until then is stored all the same.
    #[must_use]
    pub fn hurry(mut self, hurry: CancellationToken) -> Self {
        self.hurry = hurry;
        self
    }

    /// Starts it: opens the store, takes up what an earlier process left, and gives the routes, to be served or nested,
    /// with the handle that stops what is behind them. Called inside a tokio runtime.
    ///
    /// By which name they are asked for is the application's matter: `allowed_hosts` is looked at by [`Server::serve`].
    pub fn start(self) -> Result<Running, ConfigError> {
        self.start_for(None)
    }

    fn start_for(self, hosts: Option<Hosts>) -> Result<Running, ConfigError> {
        let secret = self.token_secret.as_ref().map(Secret::expose);
        // Tokens live as long as the sessions that they open.
        let (store, tokens) = match (self.store, self.config.store()?) {
            (Some(store), _) => (store, Tokens::in_memory(secret, self.env.clone())),
            (None, StoreKind::Memory) => {
                (Arc::new(MemoryStore::default()) as Arc<dyn Store>, Tokens::in_memory(secret, self.env.clone()))
            }
            (None, StoreKind::Disk(disk)) => {
                let folder = disk.path.clone();
                let wrong = |error: std::io::Error| ConfigError(format!("tokens in {}: {error}", folder.display()));
                let store = DiskStore::open(disk).map_err(|error| ConfigError(error.to_string()))?;
                (Arc::new(store) as _, Tokens::in_folder(&folder, secret, self.env.clone()).map_err(wrong)?)
            }
        };
        let admin_keys = self.config.admin.keys()?;
        // A page that a user visits must not read an operator's doors through a name of its own.
        let admin_hosts = admin_keys.is_empty().then(|| Hosts::new(&self.config.allowed_hosts));
        let (tracker, stopping) = (TaskTracker::new(), CancellationToken::new());
        let registry = Registry::new(
            self.config.registry(),
            store,
            self.providers,
            self.tools,
            self.env.clone(),
            tracker.clone(),
            stopping.clone(),
            self.tracer,
        );
        tracker.spawn(registry.clone().keep());
        let (memory, watched) = (registry.memory().clone(), stopping.clone());
        tracker.spawn(async move { watched.run_until_cancelled(memory.watch()).await });
        let app = App {
            registry: registry.clone(),
            env: self.env,
            stopping: stopping.clone(),
            tracker: tracker.clone(),
            keys: Arc::new(self.config.keys()?),
            tokens: Arc::new(tokens.with_lives(self.config.lives())),
            origins: self.config.origins()?,
            admission: Arc::new(Admission::new(self.config.bounds(), registry.memory().clone())),
            caller: Caller::default(),
            peer: None,
            noted: Arc::default(),
        };
        let grace = self.config.drain_grace();
        let hurry = self.hurry;
        let admin = http::admin::router(app.clone(), admin_keys, admin_hosts);
        Ok(Running { router: http::router(app, hosts), admin, registry, stopping, hurry, tracker, grace })
    }

    /// Serves on `listener` until `stop` is ready, then drains. TCP is best wrapped in [`socket::Sockets`]. With a
    /// certificate of its own, SIGHUP makes it read the files again. The operator's doors are on the address that the
    /// configuration names, if it names one, until the drain is over.
    pub async fn serve<L>(
        self,
        listener: L,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<Drained>
    where
        L: Listener,
        L::Addr: 'static,
    {
        let admin = admin::listen(&self.config.admin).await?;
        self.serve_with_admin(listener, admin, stop).await
    }

    /// The same with a listener for the operator's doors that is there already, or none.
    pub async fn serve_with_admin<L, A>(
        mut self,
        listener: L,
        admin: Option<A>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<Drained>
    where
        L: Listener,
        L::Addr: 'static,
        A: Listener,
        A::Addr: 'static,
    {
        let (bounds, tls) = (self.config.connections, self.tls.take());
        let hosts = self.config.hosts_checked().then(|| Hosts::new(&self.config.allowed_hosts));
        let running = self.start_for(hosts).map_err(std::io::Error::other)?;
        let (router, connections) = (running.router.clone(), running.registry.metrics().connections.clone());
        let edge = Edge::new(bounds, tls, router, running.stopping.clone(), running.tracker.clone(), connections);
        let over = CancellationToken::new();
        let (drained, (), (), ()) = tokio::join!(
            async {
                stop.await;
                let drained = running.stop().await;
                over.cancel();
                drained
            },
            admin::serve(admin, running.admin.clone(), &over),
            edge.accept(listener),
            edge.reload_certificates(),
        );
        edge.cut();
        Ok(drained)
    }
}

/// A server that serves.
pub struct Running {
    /// Every route, for a listener or for a place in another axum application. An application that serves it itself
    /// wraps its listener in [`connection::Connections`], so that a command counts although its client leaves right after it.
    pub router: Router,
    /// The operator's doors: `/metrics`, `/readyz`, `/healthz`. For a listener that strangers do not reach.
    pub admin: Router,
    registry: Arc<Registry>,
    stopping: CancellationToken,
    hurry: CancellationToken,
    tracker: TaskTracker,
    grace: Duration,
}

impl Running {
    /// Drains: new sessions are refused, readers are told to come back, running generations may finish within the
    /// grace, the rest get their end, or are left to the next start where the store keeps them. When this returns, every
    /// session's last word is stored.
    pub async fn stop(&self) -> Drained {
        self.stopping.cancel();
        let quiet = async {
            while self.registry.running() > 0 {
                sleep(DRAIN_LOOK_EVERY).await;
            }
        };
        let quiet = self.hurry.run_until_cancelled(timeout(self.grace, quiet)).await;
        let drained = match quiet {
            Some(Ok(())) => Drained::Whole,
            _ if self.registry.hands_over() => Drained::HandedOver(self.registry.running()),
            _ => Drained::Cut(self.registry.running()),
        };
        self.registry.shut_down().await;
        self.tracker.close();
        let _left_behind = self.hurry.run_until_cancelled(timeout(CLOSE_MAX, self.tracker.wait())).await;
        drained
    }
}
