//! Builds a server, serves, drains.

use std::{future::Future, sync::Arc};

use axum::{Router, serve::Listener};
use tokio::time::{Duration, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::Caller,
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
};

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
/// Longest that connections may take to close after everything they wait for has ended.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A server before it serves.
pub struct Server {
    config: Config,
    env: Env,
    /// Another store than the one that the configuration names.
    store: Option<Arc<dyn Store>>,
    providers: Providers,
    tools: Tools,
    tls: Option<Tls>,
    /// Cancelled when the drain is to be cut short.
    hurry: CancellationToken,
}

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
        let hurry = CancellationToken::new();
        Ok(Self { config, env: Env::system(), store: None, providers, tools: builtin::tools(), tls, hurry })
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
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
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
        let store = match self.store {
            Some(store) => store,
            None => open(&self.config)?,
        };
        let (tracker, stopping) = (TaskTracker::new(), CancellationToken::new());
        let registry = Registry::new(
            self.config.registry(),
            store,
            self.providers,
            self.tools,
            self.env.clone(),
            tracker.clone(),
            stopping.clone(),
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
            admission: Arc::new(Admission::new(self.config.bounds(), registry.memory().clone())),
            caller: Caller::default(),
            peer: None,
        };
        let grace = self.config.drain_grace();
        let hurry = self.hurry;
        Ok(Running { router: http::router(app, hosts), registry, stopping, hurry, tracker, grace })
    }

    /// Serves on `listener` until `stop` is ready, then drains. TCP is best wrapped in [`socket::Sockets`]. With a
    /// certificate of its own, SIGHUP makes it read the files again.
    pub async fn serve<L>(
        mut self,
        listener: L,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<Drained>
    where
        L: Listener,
        L::Addr: 'static,
    {
        let (bounds, tls) = (self.config.connections, self.tls.take());
        let hosts = self.config.hosts_checked().then(|| Hosts::new(&self.config.allowed_hosts));
        let running = self.start_for(hosts).map_err(std::io::Error::other)?;
        let edge = Edge::new(bounds, tls, running.router.clone(), running.stopping.clone(), running.tracker.clone());
        let (drained, (), ()) = tokio::join!(
            async {
                stop.await;
                running.stop().await
            },
            edge.accept(listener),
            edge.reload_certificates(),
        );
        edge.cut();
        Ok(drained)
    }
}

/// The store that the configuration names.
fn open(config: &Config) -> Result<Arc<dyn Store>, ConfigError> {
    Ok(match config.store()? {
        StoreKind::Memory => Arc::new(MemoryStore::default()),
        StoreKind::Disk(disk) => Arc::new(DiskStore::open(disk).map_err(|error| ConfigError(error.to_string()))?),
    })
}

/// A server that serves.
pub struct Running {
    /// Every route, for a listener or for a place in another axum application. An application that serves it itself
    /// wraps its listener in [`connection::Connections`], so that a command counts although its client leaves right after it.
    pub router: Router,
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
