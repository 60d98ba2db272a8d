//! Bounds of the process, of each session, of each tenant, and how often things may be done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::{
    auth::{Lives, TOKEN_TTL_MAX_S},
    http,
    limit::Rate,
    registry,
    session::state::{self, BYTES_MAX_LEAST},
};

/// Ten years: far from where moments cannot be written down.
const RETENTION_MOST_S: u64 = 10 * 365 * 86_400;

/// Bounds of the process and of each session.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions in memory at once.
    pub sessions_max: usize,
    /// Model calls of one run.
    pub steps_max: u32,
    /// Attempts at one model call, before its first token.
    pub attempts_max: u32,
    /// Seconds of one model call.
    pub step_max_s: u64,
    /// Commands of one session that wait at once.
    pub pending_max: usize,
    /// Command ids that one session remembers.
    pub receipts_max: usize,
    /// Events of one session.
    pub events_max: u64,
    /// Bytes of one session's log.
    pub bytes_max: u64,
    /// Bytes of a body that makes something: a session, a chat, a response.
    pub create_bytes_max: usize,
    /// Seconds after its last activity that a session is kept, where its creator does not say.
    pub retention_s: u64,
    /// The most that its creator may say.
    pub retention_max_s: u64,
    /// Seconds that an approval waits, where its tool does not say.
    pub approval_timeout_s: u64,
    /// Wrong keys of one address that are answered as such, a minute; more have to wait. Right ones never do.
    pub wrong_keys_per_minute: u32,
    /// Longest life of a token for a page, in seconds.
    pub token_ttl_max_s: u64,
    /// Life of a ticket, in seconds.
    pub ticket_ttl_s: u64,
    /// Seconds after which a reader whose stream has ended comes back: at random between this and the next.
    pub retry_min_s: u64,
    /// See [`Limits::retry_min_s`].
    pub retry_max_s: u64,
    /// Readers of one session at once, whatever they read with. 0 is no bound, here and in all below.
    pub readers_per_session_max: usize,
    /// Readers at once of one token for a page, and of those that were minted from it. A key has no such bound: behind it is
    /// an application with all of its users.
    pub readers_per_token_max: usize,
    /// Sessions that one tenant creates a second, and at once. A tenant is a whole application with all of its users.
    pub session_creates_per_s: u32,
    /// See [`Limits::session_creates_per_s`].
    pub session_creates_burst: u32,
    /// Streams and sockets that one address opens a second, and at once (IPv6: one /64). Loopback has no such bound, as
    /// with [`super::Connections::per_address_max`].
    pub stream_opens_per_s: u32,
    /// See [`Limits::stream_opens_per_s`].
    pub stream_opens_burst: u32,
    /// Messages that one WebSocket takes a second, and at once. Pings have a bucket of their own of the same size.
    pub socket_messages_per_s: u32,
    /// See [`Limits::socket_messages_per_s`].
    pub socket_messages_burst: u32,
    /// Commands that one token for a page, and those that were minted from it, give over `/control` a second, and at once. A
    /// cancel is always taken. A key has no such bound, as with readers.
    pub token_commands_per_s: u32,
    /// See [`Limits::token_commands_per_s`].
    pub token_commands_burst: u32,
    /// Seconds after which an event stream is asked to come back, a fifth more or less: connections move to where there is
    /// room, and none lives for ever.
    pub stream_age_max_s: u64,
    /// Bytes of memory that the process may use. 0 is the limit of its cgroup (version 2), where it has one.
    pub memory_max_bytes: u64,
}

/// Bounds of each tenant, so that one does not take all of the server. 0 is no bound.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// Sessions in memory at once.
    pub sessions_max: usize,
    /// Runs at once, those that wait for a person or a client included.
    pub runs_max: usize,
    /// Readers at once, of all of its sessions.
    pub readers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let registry::Config { sessions_max, session, .. } = registry::Config::default();
        let lives = Lives::default();
        Self {
            sessions_max,
            steps_max: session.steps_max,
            attempts_max: session.attempts_max,
            step_max_s: session.step_max_s,
            pending_max: session.pending_max,
            receipts_max: session.receipts_max,
            events_max: session.events_max,
            bytes_max: session.bytes_max,
            create_bytes_max: 4 * 1024 * 1024,
            retention_s: session.retention_s,
            retention_max_s: session.retention_max_s,
            approval_timeout_s: session.approval_timeout_s,
            wrong_keys_per_minute: 5,
            token_ttl_max_s: lives.token_ttl_max_s,
            ticket_ttl_s: lives.ticket_ttl_s,
            retry_min_s: 1,
            retry_max_s: 5,
            readers_per_session_max: 64,
            readers_per_token_max: 50,
            session_creates_per_s: 50,
            session_creates_burst: 200,
            stream_opens_per_s: 10,
            stream_opens_burst: 50,
            socket_messages_per_s: 20,
            socket_messages_burst: 40,
            token_commands_per_s: 20,
            token_commands_burst: 40,
            stream_age_max_s: 15 * 60,
            memory_max_bytes: 0,
        }
    }
}

impl Default for TenantLimits {
    /// Half of what the process may have: sessions and connections of the other half are everybody else's.
    fn default() -> Self {
        Self { sessions_max: 10_000, runs_max: 5_000, readers_max: 5_000 }
    }
}

impl Limits {
    /// Why these bounds cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError(text));
        let at_least_one = [
            ("sessions_max", self.sessions_max as u64),
            ("steps_max", self.steps_max.into()),
            ("attempts_max", self.attempts_max.into()),
            ("step_max_s", self.step_max_s),
            ("pending_max", self.pending_max as u64),
            ("receipts_max", self.receipts_max as u64),
            ("retention_s", self.retention_s),
            ("approval_timeout_s", self.approval_timeout_s),
            ("wrong_keys_per_minute", self.wrong_keys_per_minute.into()),
            ("ticket_ttl_s", self.ticket_ttl_s),
            ("retry_min_s", self.retry_min_s),
            ("session_creates_burst", self.session_creates_burst.into()),
            ("stream_opens_burst", self.stream_opens_burst.into()),
            ("socket_messages_burst", self.socket_messages_burst.into()),
            ("token_commands_burst", self.token_commands_burst.into()),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return fail(format!("limits.{key} is at least 1"));
        }
        let ranges = [
            ("create_bytes_max", self.create_bytes_max as u64, 64 * 1024, 64 * 1024 * 1024),
            ("token_ttl_max_s", self.token_ttl_max_s, 1, TOKEN_TTL_MAX_S),
            ("ticket_ttl_s", self.ticket_ttl_s, 1, 300),
            ("retry_max_s", self.retry_max_s, self.retry_min_s, 300),
            ("retention_max_s", self.retention_max_s, self.retention_s, RETENTION_MOST_S),
            ("approval_timeout_s", self.approval_timeout_s, 1, 86_400),
        ];
        if let Some((key, _, least, most)) =
            ranges.iter().find(|(_, value, least, most)| !(least..=most).contains(&value))
        {
            return fail(format!("limits.{key} is {least} to {most}"));
        }
        if self.events_max < 2_000 {
            return fail("limits.events_max is at least 2000: a thousand are kept free to close what is open".into());
        }
        if self.bytes_max < BYTES_MAX_LEAST {
            return fail(format!("limits.bytes_max is at least {BYTES_MAX_LEAST}: half of that is kept free"));
        }
        Ok(())
    }
}

impl Config {
    /// The registry's part.
    pub fn registry(&self) -> registry::Config {
        let limits = &self.limits;
        let session = state::Limits {
            steps_max: limits.steps_max,
            attempts_max: limits.attempts_max,
            step_max_s: limits.step_max_s,
            pending_max: limits.pending_max,
            receipts_max: limits.receipts_max,
            events_max: limits.events_max,
            bytes_max: limits.bytes_max,
            retention_s: limits.retention_s,
            retention_max_s: limits.retention_max_s,
            approval_timeout_s: limits.approval_timeout_s,
            on_crash: self.on_crash,
        };
        registry::Config {
            sessions_max: limits.sessions_max,
            tenant_sessions_max: self.tenant_limits.sessions_max,
            tenant_runs_max: self.tenant_limits.runs_max,
            creates: Rate { per_s: limits.session_creates_per_s, burst: limits.session_creates_burst },
            memory_max_bytes: limits.memory_max_bytes,
            session,
        }
    }

    /// The part of the doors.
    pub fn bounds(&self) -> http::Bounds {
        let limits = &self.limits;
        http::Bounds {
            readers_per_session_max: limits.readers_per_session_max,
            readers_per_token_max: limits.readers_per_token_max,
            tenant_readers_max: self.tenant_limits.readers_max,
            stream_opens: Rate { per_s: limits.stream_opens_per_s, burst: limits.stream_opens_burst },
            socket_messages: Rate { per_s: limits.socket_messages_per_s, burst: limits.socket_messages_burst },
            token_commands: Rate { per_s: limits.token_commands_per_s, burst: limits.token_commands_burst },
            stream_age_max_s: limits.stream_age_max_s,
            drain_spread_s: self.drain_spread_s,
            retry_ms: (limits.retry_min_s * 1_000, limits.retry_max_s * 1_000),
            wrong_keys_per_minute: limits.wrong_keys_per_minute,
            bodies: http::Bodies {
                create_bytes_max: limits.create_bytes_max,
                longest: Duration::from_secs(self.connections.body_timeout_s),
                longest_pause: Duration::from_secs(self.connections.body_idle_timeout_s),
            },
        }
    }

    /// How long tokens and tickets are good.
    pub fn lives(&self) -> Lives {
        Lives { token_ttl_max_s: self.limits.token_ttl_max_s, ticket_ttl_s: self.limits.ticket_ttl_s }
    }
}
