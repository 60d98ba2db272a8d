//! The sessions alive in this process: created, opened, listed, ended. What nobody uses leaves the memory (`keep`), and
//! comes back from the store when somebody asks.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    command::InputMessage,
    env::{Env, Millis},
    event::{Durability, Event, Record},
    id::{EventId, Seq, SessionId, SessionKey, Tenant},
    limit::{Buckets, Memory, Quotas, Rate},
    metrics::Metrics,
    provider::{Model, ProviderError, Providers},
    session::{
        Handle, Watch,
        fold::Fold,
        read_only::ReadOnly,
        state::{Limits, OnCrash, Stamped, Upstream},
        task::{Task, World},
        view::{SessionState, Summary},
    },
    spec::{Executor, OnDisconnect, Params, SessionSpec, ToolSpec, clip},
    store::{Store, StoreError, Stored},
    tool::Tools,
    trace::Tracer,
};

mod error;
mod keep;
mod live;
mod unknown;

pub use error::RegistryError;
use live::Live;
use unknown::UnknownProvider;

/// The model of a session that names none.
pub const DEFAULT_MODEL: &str = "demo/assistant";
/// Longest that a run may go on without readers, when the session asks for an end to it: a day.
pub const CANCEL_AFTER_MAX_S: u64 = 86_400;
/// Tools of one session: a prompt with more is a mistake.
pub const TOOLS_MAX: usize = 128;
/// How long an upstream's list of models is believed, and how long it is waited for.
const MODELS_FRESH: Duration = Duration::from_secs(60);
const MODELS_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a log that are read at a time when a session is opened.
const OPEN_READ_BYTES: usize = 1024 * 1024;
/// Sessions that can be created or opened from the store at the same time; each has one lock of these.
const OPENING_LOCKS: usize = 64;

/// Bounds of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sessions in memory at once.
    pub sessions_max: usize,
    /// Sessions of one tenant in memory at once; 0 is no bound.
    pub tenant_sessions_max: usize,
    /// Runs of one tenant at once; 0 is no bound.
    pub tenant_runs_max: usize,
    /// How often one tenant may create a session.
    pub creates: Rate,
    /// Bytes of memory that the process may use; 0 is what its cgroup may.
    pub memory_max_bytes: u64,
    /// Bounds of each session.
    pub session: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions_max: 20_000,
            tenant_sessions_max: 0,
            tenant_runs_max: 0,
            creates: Rate { per_s: 0, burst: 1 },
            memory_max_bytes: 0,
            session: Limits::default(),
        }
    }
}

/// What a client asks for when it creates a session.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    /// Its name; a fresh one otherwise.
    pub id: Option<SessionId>,
    /// Its model; [`DEFAULT_MODEL`] otherwise.
    pub model: Option<String>,
    /// Instructions.
    pub system: Option<String>,
    /// Tools.
    pub tools: Vec<ToolSpec>,
    /// What is said first; a run starts when there is something.
    pub inputs: Vec<InputMessage>,
    /// Whatever the client wants to find again with the first run.
    pub run_metadata: Map<String, Value>,
    /// Sampling parameters.
    pub params: Params,
    /// Whatever the client wants to find again.
    pub metadata: Map<String, Value>,
    /// Seconds after the last activity until it expires.
    pub retention_s: Option<u64>,
    /// What happens when the last reader has gone.
    pub on_disconnect: Option<OnDisconnect>,
}

/// The sessions alive in this process.
pub struct Registry {
    live: Mutex<Live>,
    /// A session is created, or opened from the store, by one at a time, so that none gets two writers.
    opening: [tokio::sync::Mutex<()>; OPENING_LOCKS],
    models: Mutex<HashMap<String, (Instant, Vec<Model>)>>,
    creates: Buckets<Tenant>,
    runs: Arc<Quotas<Tenant>>,
    memory: Arc<Memory>,
    config: Config,
    store: Arc<dyn Store>,
    providers: Providers,
    tools: Arc<Tools>,
    env: Env,
    tracker: TaskTracker,
    stopping: CancellationToken,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

impl Registry {
    /// An empty registry. Session tasks are spawned on `tracker`; `stopping` refuses new sessions.
    #[expect(clippy::too_many_arguments, reason = "each is something else, and there is one caller")]
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        providers: Providers,
        tools: Tools,
        env: Env,
        tracker: TaskTracker,
        stopping: CancellationToken,
        tracer: Tracer,
    ) -> Arc<Self> {
        let metrics = Metrics::new(providers.keys().map(String::as_str));
        Arc::new(Self {
            metrics,
            tracer,
            live: Mutex::default(),
            opening: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            models: Mutex::default(),
            creates: Buckets::new(config.creates),
            runs: Quotas::new(config.tenant_runs_max),
            memory: Arc::new(Memory::new(config.memory_max_bytes)),
            config,
            store,
            providers,
            tools: Arc::new(tools),
            env,
            tracker,
            stopping,
        })
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().expect("no panic while the map is held")
    }

    /// Makes a session, and starts its first run if something was said.
    pub async fn create(self: &Arc<Self>, tenant: Tenant, new: NewSession) -> Result<Handle, RegistryError> {
        if self.stopping.is_cancelled() {
            return Err(RegistryError::Stopping);
        }
        self.begins_something()?;
        self.creates
            .take(&tenant)
            .map_err(|retry_after| RegistryError::TooFast { per_s: self.creates.rate().per_s, retry_after })?;
        self.make_room(&tenant, self.config.tenant_sessions_max)?;
        new.params.check(self.providers.keys().map(String::as_str)).map_err(RegistryError::Invalid)?;
        InputMessage::check(&new.inputs).map_err(RegistryError::Invalid)?;
        let Limits { retention_s, retention_max_s, .. } = self.config.session;
        let retention_s = new.retention_s.unwrap_or(retention_s);
        if !(1..=retention_max_s).contains(&retention_s) {
            let allowed = format!("retention_s is 1 to {retention_max_s} seconds (limits.retention_max_s)");
            return Err(RegistryError::Invalid(allowed));
        }
        if new.on_disconnect.is_some_and(|wish| wish.cancel_after_s > CANCEL_AFTER_MAX_S) {
            let limit = format!("on_disconnect.cancel_after_s is at most {CANCEL_AFTER_MAX_S} seconds");
            return Err(RegistryError::Invalid(limit));
        }
        let model = self.resolve(new.model.as_deref().unwrap_or(DEFAULT_MODEL)).await?;
        let tools = self.resolve_tools(&model, new.tools)?;
        let session = new.id.unwrap_or_else(|| self.env.session_id());
        let key = SessionKey { tenant, session };
        let spec = SessionSpec {
            model: model.clone(),
            system: new.system,
            tools,
            params: new.params,
            metadata: new.metadata,
            retention_s,
            on_disconnect: new.on_disconnect,
        };
        let epoch = self.env.epoch();
        let created = Stamped {
            id: EventId { epoch, seq: Seq(1) },
            at: self.env.now(),
            event: Event::SessionCreated {
                session_id: key.session.clone(),
                durability: self.store.durability(),
                epoch,
                spec: Box::new(spec),
            },
        };
        let (upstream, world) = self.world(&model);
        // Held until the task counts the run itself.
        let runs = (!new.inputs.is_empty()).then(|| self.runs.take(&key.tenant)).transpose();
        let _run = runs.map_err(|full| RegistryError::TooManyRuns(full.max))?;
        // Whoever asks for it meanwhile waits until it has its writer.
        let _one_at_a_time = self.opening_lock(&key).lock().await;
        match self.store.create(&key).await {
            // The process before ended between this and the first event: nobody has ever seen it.
            Err(StoreError::Exists) if self.is_empty(&key).await? => {
                self.store.delete(&key).await?;
                self.store.create(&key).await?;
            }
            created => created?,
        }
        let limits = self.config.session.clone();
        let (task, handle) = Task::create(key, created, new.inputs, new.run_metadata, upstream, limits, world);
        self.spawn(task.run(), handle.clone());
        Ok(handle)
    }

    /// The session of that name: alive, or opened from the store.
    pub async fn open(self: &Arc<Self>, key: &SessionKey) -> Result<Handle, RegistryError> {
        self.opened(key, self.config.tenant_sessions_max).await
    }

    async fn opened(self: &Arc<Self>, key: &SessionKey, of_tenant_max: usize) -> Result<Handle, RegistryError> {
        if let Some(handle) = self.find_live(key) {
            return Ok(handle);
        }
        let _one_at_a_time = self.opening_lock(key).lock().await;
        if let Some(handle) = self.find_live(key) {
            return Ok(handle);
        }
        let stored = self.store.get(key).await?;
        // What needs a writer is opened in any case: it was in memory when the process before ended.
        if stored.note.due > Millis(0) {
            self.make_room(&key.tenant, of_tenant_max)?;
        }
        let Some(fold) = self.fold(&stored).await? else { return Err(RegistryError::NotFound) };
        if let Some(reason) = self.store.failure() {
            let (reason, watch) = (StoreError::Failed(reason), Watch::new(self.metrics.clone(), self.env.clone()));
            let (reading, handle) = ReadOnly::new(key.clone(), fold, reason, self.store.clone(), watch);
            self.spawn(reading.run(), handle.clone());
            return Ok(handle);
        }
        let (upstream, world) = self.world(&fold.spec.model);
        let limits = self.config.session.clone();
        let (task, handle) = Task::take_over(key.clone(), fold, stored.term, upstream, limits, world);
        self.spawn(task.run(), handle.clone());
        Ok(handle)
    }

    fn opening_lock(&self, key: &SessionKey) -> &tokio::sync::Mutex<()> {
        &self.opening[BuildHasherDefault::<DefaultHasher>::new().hash_one(key) as usize % OPENING_LOCKS]
    }

    /// Whether the store has a name without a single event, and nobody is about to write one.
    async fn is_empty(&self, key: &SessionKey) -> Result<bool, StoreError> {
        Ok(self.find_live(key).is_none() && self.store.get(key).await?.tail == Seq::ZERO)
    }

    fn find_live(&self, key: &SessionKey) -> Option<Handle> {
        self.live().get(key).filter(|handle| !handle.has_ended()).cloned()
    }

    /// Reads a whole log back. `None` when it is empty: its writer died before the first event.
    async fn fold(&self, stored: &Stored) -> Result<Option<Fold>, RegistryError> {
        let mut fold: Option<Fold> = None;
        let mut cursor = Seq::ZERO;
        while cursor < stored.tail {
            for frame in self.store.read(&stored.key, cursor, OPEN_READ_BYTES).await? {
                cursor = frame.seq();
                let damaged = |what: &str| RegistryError::Damaged(format!("event {cursor} of {} {what}", stored.key));
                let record = Record::decode(&frame.json()).map_err(|_| damaged("is not readable"))?;
                let at = record.at_millis().unwrap_or_default();
                match &mut fold {
                    Some(fold) => fold.apply(record.id, at, &record.event),
                    None => fold = Fold::begin(record.id, at, &record.event),
                }
                if let Some(fold) = &mut fold {
                    fold.weigh(frame.size() as u64);
                }
            }
        }
        Ok(fold)
    }

    fn spawn(self: &Arc<Self>, running: impl Future<Output = ()> + Send + 'static, handle: Handle) {
        let key = handle.key().clone();
        self.live().insert(handle);
        let registry = self.clone();
        self.tracker.spawn(async move {
            // A broken invariant ends this session's writer and nothing else: the next one who asks opens the session
            // from its store, where the run goes on.
            if AssertUnwindSafe(running).catch_unwind().await.is_err() {
                tracing::error!(session_id = %key.session, tenant = %key.tenant, "the session's task broke");
            }
            let mut live = registry.live();
            if live.get(&key).is_some_and(Handle::has_ended) {
                live.remove(&key);
            }
        });
    }

    /// Where the answers of `model` (`PROVIDER/NAME`) come from. A session may outlive the configuration that it was made
    /// under: what it holds can be read all the same, and its next model call says what is missing.
    fn world(&self, model: &str) -> (Upstream, World) {
        let (name, model) = model.split_once('/').unwrap_or((model, ""));
        let known = self.providers.get(name).cloned();
        let provider = known.unwrap_or_else(|| Arc::new(UnknownProvider(name.to_owned())));
        let (demo, prefill) = (provider.is_demo(), provider.prefill(model));
        let upstream = Upstream { provider: name.into(), model: model.into(), demo, prefill };
        let (store, tools) = (self.store.clone(), self.tools.clone());
        let (env, metrics, tracer) = (self.env.clone(), self.metrics.clone(), self.tracer.clone());
        (upstream, World { store, provider, tools, env, metrics, tracer, runs: self.runs.clone() })
    }

    /// The full name of a model: as it is when it begins with a provider's name, else looked up in every list.
    pub async fn resolve(&self, model: &str) -> Result<String, RegistryError> {
        if let Some((provider, name)) = model.split_once('/')
            && self.providers.contains_key(provider)
            && !name.is_empty()
        {
            return Ok(model.to_owned());
        }
        for (provider, models) in self.models().await {
            if models.is_ok_and(|models| models.iter().any(|offered| offered.name == model)) {
                return Ok(format!("{provider}/{model}"));
            }
        }
        Err(RegistryError::UnknownModel(clip(model, 128).to_owned()))
    }

    /// What every provider offers now, or why it does not say.
    pub async fn models(&self) -> BTreeMap<String, Result<Vec<Model>, String>> {
        let ask = self.providers.iter().map(async |(name, provider)| {
            let known = self.models.lock().expect("no panic while the lists are held").get(name).cloned();
            if let Some((at, models)) = known
                && at.elapsed() < MODELS_FRESH
            {
                return (name.clone(), Ok(models));
            }
            let answer = timeout(MODELS_WAIT, provider.models()).await;
            let models = match answer {
                Ok(models) => models.map_err(|error: ProviderError| error.message),
                Err(_) => Err(format!("no answer within {} s", MODELS_WAIT.as_secs())),
            };
            if let Ok(models) = &models {
                let mut lists = self.models.lock().expect("no panic while the lists are held");
                lists.insert(name.clone(), (Instant::now(), models.clone()));
            }
            (name.clone(), models)
        });
        futures_util::future::join_all(ask).await.into_iter().collect()
    }

    /// The tools of a session: as declared, the server's own completed from what the server has, and those that the
    /// model brings along.
    fn resolve_tools(&self, model: &str, declared: Vec<ToolSpec>) -> Result<Vec<ToolSpec>, RegistryError> {
        let invalid = |message: String| Err(RegistryError::Invalid(message));
        if declared.len() > TOOLS_MAX {
            return invalid(format!("a session has at most {TOOLS_MAX} tools"));
        }
        let mut tools: Vec<ToolSpec> = Vec::with_capacity(declared.len());
        for mut tool in declared {
            tool.check().map_err(RegistryError::Invalid)?;
            if tools.iter().any(|other| other.name == tool.name) {
                return invalid(format!("two tools are called {}", tool.name));
            }
            if tool.executor == Executor::Builtin {
                let Some(builtin) = self.tools.get(&tool.name) else {
                    let known = self.tools.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    return invalid(format!("this server has no tool {}; it has: {known}", tool.name));
                };
                let own = builtin.spec();
                // What runs here decides what it takes and whether it may run twice.
                (tool.parameters, tool.idempotent) = (own.parameters, own.idempotent);
                if tool.description.is_empty() {
                    tool.description = own.description;
                }
            }
            tools.push(tool);
        }
        let own_tools = model
            .split_once('/')
            .and_then(|(provider, name)| Some(self.providers.get(provider)?.own_tools(name)))
            .unwrap_or_default();
        for name in own_tools {
            if let Some(tool) = self.tools.get(*name)
                && !tools.iter().any(|declared| declared.name == *name)
            {
                tools.push(tool.spec());
            }
        }
        Ok(tools)
    }

    /// Names of the tools that the server has.
    pub fn own_tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Sessions of a tenant, newest first, with the cursor of the next page.
    pub async fn list(
        &self,
        tenant: &Tenant,
        state: Option<SessionState>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Summary>, Option<u64>), RegistryError> {
        let (limit, mut before) = (limit.max(1), before);
        let mut found = Vec::new();
        loop {
            let page = self.store.scan(tenant, before, limit).await?;
            let last_page = page.len() < limit;
            for stored in page {
                // An entry without a note is a session whose first event is not stored yet.
                if let Ok(summary) = serde_json::from_slice::<Summary>(&stored.note.summary)
                    && state.is_none_or(|state| summary.state == state)
                {
                    if found.len() == limit {
                        return Ok((found, before));
                    }
                    found.push(summary);
                }
                before = Some(stored.ordinal);
            }
            if last_page {
                return Ok((found, None));
            }
        }
    }

    /// The memory that the process has.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Why nothing more is stored, if the store has failed.
    pub fn store_failure(&self) -> Option<String> {
        self.store.failure()
    }

    /// What is counted here.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Sessions alive.
    pub fn live_sessions(&self) -> usize {
        self.live().len()
    }

    /// Whether a run that this process leaves open is taken up by the next one.
    pub fn hands_over(&self) -> bool {
        self.store.durability() != Durability::Memory && self.config.session.on_crash == OnCrash::Continue
    }

    /// Ends every run that still runs, unless it is handed over, and waits until everything is stored.
    pub async fn shut_down(&self) {
        let handles: Vec<_> = self.live().handles().cloned().collect();
        if !self.hands_over() {
            futures_util::future::join_all(handles.iter().map(Handle::shut_down)).await;
        }
        // Whatever was asked before a snapshot is stored when it is answered.
        let stored = handles.iter().map(Handle::snapshot);
        let _ended_already = futures_util::future::join_all(stored).await;
        // A task ends when nobody can speak to it any more.
        drop(self.live().take());
    }

    /// Sessions with a run that has not ended.
    pub fn running(&self) -> usize {
        // What a failed store left open runs no more.
        self.live().handles().filter(|handle| !handle.is_resting() && handle.failure().is_none()).count()
    }
}
