//! What is counted and measured, for a Prometheus to ask: `steerage_…`, in OpenMetrics text.
//!
//! There is no registry but the one in here, handed down by `Arc`. What is counted often is one atomic addition: every
//! label's counter is made beforehand, and whoever counts holds it. A label's words are known before anything happens:
//! ours, or names from the configuration. No id, no tenant, no text of a user or a model is one.

use std::sync::Arc;

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

mod latency;
mod sets;
mod upstream;
mod words;

pub use latency::Latency;
pub use sets::{Counters, Gauges, Label, Pairs, Present};
pub use upstream::Upstream;
pub use words::{
    AuthFailure, CommandResult, ConnectionState, Outcome, Refused, RunState, Side, StatusClass, Transport,
};

use crate::command::CommandKind;
use upstream::Upstreams;

/// The media type of [`Metrics::text`] (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a server counts and measures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Sessions and their runs.
    pub work: Work,
    /// Model calls, by the provider's name.
    upstreams: Upstreams,
    /// Who reads, asks and is refused.
    pub doors: Doors,
    /// Connections of the public listener.
    pub connections: Arc<Connections>,
    /// What is looked up when somebody asks.
    asked: Asked,
}

/// Sessions and their runs.
#[derive(Debug, Default)]
pub struct Work {
    /// Runs that have not ended and whose session is in memory.
    pub runs: Gauges<RunState>,
    /// Runs that began here.
    pub runs_started: Counter,
    /// Runs that were taken over from a writer that is gone, each time.
    pub runs_recovered: Counter,
    /// Runs that ended.
    pub runs_ended: Counters<Outcome>,
    /// Answers to commands.
    pub receipts: Pairs<CommandKind, CommandResult>,
    /// Events that the store has taken.
    pub events_appended: Counter,
    /// Pieces of answers that upstreams have sent.
    pub deltas: Counter,
    /// Tokens as upstreams counted them.
    pub tokens: Counters<Side>,
    /// From the moment at which a session's task hands events to the store until they are stored.
    pub append: Latency,
    /// From the moment at which an event is made until a waiting reader's connection has it; one sample a write, of its
    /// oldest event.
    pub delivery: Latency,
}

/// Who reads, asks and is refused.
#[derive(Debug, Default)]
pub struct Doors {
    /// Connections that follow a log now.
    pub readers: Gauges<Transport>,
    /// Requests that were refused because of who made them.
    pub auth_failures: Counters<AuthFailure>,
    /// Responses, when their head is ready.
    pub responses: Counters<StatusClass>,
}

/// Connections of one listener.
#[derive(Debug, Default)]
pub struct Connections {
    /// Those that are there.
    pub open: Gauges<ConnectionState>,
    /// Those that were let in.
    pub accepted: Counter,
    /// Those that were closed at once.
    pub refused: Counters<Refused>,
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
struct Asked {
    sessions: Gauge,
    ready: Gauge,
    store_failed: Gauge,
}

impl Metrics {
    /// Of a server with these providers.
    pub fn new<'a>(providers: impl IntoIterator<Item = &'a str>) -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            work: Work::default(),
            upstreams: Upstreams::new(providers),
            doors: Doors::default(),
            connections: Arc::default(),
            asked: Asked::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    /// Model calls of the provider of that name.
    pub fn upstream(&self, provider: &str) -> Arc<Upstream> {
        self.upstreams.of(provider)
    }

    /// All of it, in OpenMetrics text. What nobody counts is said by whoever asks: how many sessions are in memory,
    /// whether new ones are taken, whether the store has failed.
    pub fn text(&self, sessions: usize, ready: bool, store_failed: bool) -> String {
        self.asked.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.asked.ready.set(ready.into());
        self.asked.store_failed.set(store_failed.into());
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("memory takes every character");
        text
    }

    /// Every metric by its name, which `docs/operations.md` repeats.
    fn register(&mut self) {
        let Self { registry, work, upstreams, doors, connections, asked } = self;
        let steerage = registry.sub_registry_with_prefix("steerage");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        steerage.register("build", "What runs here", version);
        steerage.register("sessions", "Sessions in memory", asked.sessions.clone());
        steerage.register("ready", "Whether new sessions are taken (1) or not (0)", asked.ready.clone());
        steerage.register("store_failed", "Whether the store takes nothing more (1)", asked.store_failed.clone());

        steerage.register("runs", "Runs that have not ended, of sessions in memory", work.runs.clone());
        steerage.register("runs_started", "Runs that began", work.runs_started.clone());
        steerage.register("runs_recovered", "Runs taken over from a writer that is gone", work.runs_recovered.clone());
        steerage.register("runs_ended", "Runs that ended", work.runs_ended.clone());
        steerage.register("commands", "Commands that were answered", work.receipts.clone());
        steerage.register("events_appended", "Events that the store has taken", work.events_appended.clone());
        steerage.register("deltas", "Pieces of answers that upstreams have sent", work.deltas.clone());
        steerage.register("tokens", "Tokens as upstreams counted them", work.tokens.clone());
        let append = "From handing events to the store until they are stored";
        steerage.register_with_unit("append", append, Unit::Seconds, work.append.clone());
        let delivery = "From an event until a waiting reader's connection has it; one sample a write";
        steerage.register_with_unit("delivery", delivery, Unit::Seconds, work.delivery.clone());

        upstreams.register(steerage);
        steerage.register("readers", "Connections that follow a log", doors.readers.clone());
        steerage.register("auth_failures", "Requests refused because of who made them", doors.auth_failures.clone());
        steerage.register("http_responses", "Responses by the class of their status", doors.responses.clone());
        steerage.register("connections", "Connections of the public listener", connections.open.clone());
        steerage.register("connections_accepted", "Connections that were let in", connections.accepted.clone());
        steerage.register("connections_refused", "Connections that were closed at once", connections.refused.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FailureCode;

    #[test]
    fn everything_is_there_before_anything_has_happened_and_ends_with_an_end() {
        let text = Metrics::new(["demo", "local"]).text(3, true, false);
        for line in [
            "steerage_sessions 3",
            "steerage_ready 1",
            "steerage_store_failed 0",
            "steerage_runs{state=\"waiting\"} 0",
            "steerage_runs_ended_total{outcome=\"cancelled\"} 0",
            "steerage_commands_total{type=\"tool_result\",result=\"rejected\"} 0",
            "steerage_upstream_errors_total{provider=\"local\",code=\"upstream_stalled\"} 0",
            "steerage_upstream_attempts_total{provider=\"other\"} 0",
            "steerage_append_seconds_bucket{le=\"+Inf\"} 0",
            "steerage_connections_refused_total{reason=\"address\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let mut types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all, "a family is described once, however many providers there are");
    }

    #[test]
    fn a_provider_that_is_not_configured_counts_as_other() {
        let metrics = Metrics::new(["demo"]);
        metrics.upstream("gone-since").attempts.inc();
        metrics.upstream("demo").errors.of(FailureCode::UpstreamStalled).inc();
        let text = metrics.text(0, true, false);
        assert!(text.contains("steerage_upstream_attempts_total{provider=\"other\"} 1"), "{text}");
        assert!(!text.contains("gone-since"));
        let stalled = "steerage_upstream_errors_total{provider=\"demo\",code=\"upstream_stalled\"} 1";
        assert!(text.contains(stalled), "{text}");
    }
}
