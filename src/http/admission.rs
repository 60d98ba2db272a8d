//! Whether one more reader, or one more stream of an address, is let in, and what is said to one who is not.
//!
//! A client that gives up for good on an error status, a browser's `EventSource`, is told inside its stream. Everybody
//! else gets the status. Of commands those of tokens are counted; a cancel passes whatever is full.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{App, error::Problem, extract::Bodies, stream_headers};
use crate::{
    auth::{TokenId, network},
    command::Command,
    dialect::native::{self, Notice},
    id::{SessionKey, Tenant},
    limit::{Buckets, Memory, Permit, Pressure, Quotas, Rate},
};

/// How long one who was not let in should stay away, in milliseconds: longer than after a restart, because there is no
/// place until somebody leaves.
const OVERLOADED_AFTER_MS: (u64, u64) = (5_000, 15_000);
/// Of the streams that are looked at while memory is very scarce, one in so many ends: they leave one after another, and
/// no more of them than it takes.
const SHED_ONE_IN: u64 = 2;

/// What is let in. 0 is no bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Readers of one session at once.
    pub readers_per_session_max: usize,
    /// Readers of one tenant at once.
    pub tenant_readers_max: usize,
    /// Readers at once of one token and of those that were minted from it.
    pub readers_per_token_max: usize,
    /// How often one address may open a stream or a socket.
    pub stream_opens: Rate,
    /// How often one socket may send a message.
    pub socket_messages: Rate,
    /// How often one token, with those that were minted from it, may give a command over `/control`.
    pub token_commands: Rate,
    /// Seconds that an event stream lives, a fifth more or less.
    pub stream_age_max_s: u64,
    /// Seconds over which readers come back after a stop.
    pub drain_spread_s: u64,
    /// Milliseconds after which a reader whose stream has ended comes back: at random between these.
    pub retry_ms: (u64, u64),
    /// Wrong keys of one address that are answered as such, a minute.
    pub wrong_keys_per_minute: u32,
    /// How a body may arrive.
    pub bodies: Bodies,
}

/// Who is in.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    of_session: Arc<Quotas<SessionKey>>,
    of_tenant: Arc<Quotas<Tenant>>,
    of_token: Arc<Quotas<TokenId>>,
    opens: Buckets<IpAddr>,
    commands: Buckets<TokenId>,
    memory: Arc<Memory>,
}

/// A reader's place, among those of its session, of its tenant and of its token. It is given back when the last copy is dropped, which a
/// stream takes along: one whose client has vanished is dropped like any other.
#[derive(Clone)]
pub(super) struct Seat {
    _held: Arc<Held>,
}

struct Held {
    _of_session: Permit<SessionKey>,
    _of_tenant: Permit<Tenant>,
    _of_token: Option<Permit<TokenId>>,
}

/// Why there is no place.
#[derive(Clone, Debug)]
pub(super) struct Overload {
    code: &'static str,
    what: &'static str,
    /// The configuration's key, and what it says.
    key: &'static str,
    max: u64,
    after_ms: u64,
}

impl Overload {
    /// As it is said inside a stream.
    pub(super) fn notice(&self) -> Notice<'static> {
        Notice::Overloaded { limit: self.key, max: self.max, after_ms: self.after_ms }
    }

    /// How long its client should stay away.
    pub(super) fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms)
    }

    /// As a whole stream: 200, and the reason in it.
    pub(super) fn stream(&self) -> Response {
        let body: Bytes = [native::opening(self.after_ms), self.notice().sse(None)].concat().into();
        (stream_headers(), Body::from(body)).into_response()
    }
}

impl From<Overload> for Problem {
    fn from(overload: Overload) -> Self {
        let Overload { code, what, key, max, after_ms } = overload;
        Self::new(code, format!("{what} ({key} = {max})")).after_ms(after_ms)
    }
}

impl Admission {
    /// With nobody in.
    pub fn new(bounds: Bounds, memory: Arc<Memory>) -> Self {
        Self {
            of_session: Quotas::new(bounds.readers_per_session_max),
            of_tenant: Quotas::new(bounds.tenant_readers_max),
            of_token: Quotas::new(bounds.readers_per_token_max),
            opens: Buckets::new(bounds.stream_opens),
            commands: Buckets::new(bounds.token_commands),
            bounds,
            memory,
        }
    }

    /// How often one socket may send a message.
    pub(super) fn socket_messages(&self) -> Rate {
        self.bounds.socket_messages
    }

    /// Wrong keys of one address that are answered as such, a minute.
    pub(super) fn wrong_keys_per_minute(&self) -> u32 {
        self.bounds.wrong_keys_per_minute
    }
}

impl App {
    /// How a body may arrive.
    pub(super) fn bodies(&self) -> Bodies {
        self.admission.bounds.bodies
    }

    /// After how long a reader whose stream has ended comes back, in milliseconds: each after another time.
    pub(super) fn retry_ms(&self) -> u64 {
        let (least, most) = self.admission.bounds.retry_ms;
        self.env.between(least, most)
    }

    /// A place among the readers of that session.
    pub(super) fn seat(&self, session: &SessionKey) -> Result<Seat, Overload> {
        let Admission { bounds, of_session, of_tenant, of_token, memory, .. } = &*self.admission;
        let overload = |code, what, key, max| Overload { code, what, key, max, after_ms: self.overloaded_after_ms() };
        if memory.pressure() >= Pressure::High {
            return Err(self.memory_is_scarce());
        }
        let own = of_session.take(session).map_err(|_| {
            let max = bounds.readers_per_session_max as u64;
            overload(
                "too_many_readers",
                "this session has all the readers it may",
                "limits.readers_per_session_max",
                max,
            )
        })?;
        let tenants = of_tenant.take(&session.tenant).map_err(|_| {
            let max = bounds.tenant_readers_max as u64;
            overload("too_many_readers", "this tenant has all the readers it may", "tenant_limits.readers_max", max)
        })?;
        let tokens =
            self.caller.grant.as_ref().map(|grant| of_token.take(&grant.root())).transpose().map_err(|_| {
                let max = bounds.readers_per_token_max as u64;
                overload(
                    "too_many_readers",
                    "this token has all the readers it may",
                    "limits.readers_per_token_max",
                    max,
                )
            })?;
        Ok(Seat { _held: Arc::new(Held { _of_session: own, _of_tenant: tenants, _of_token: tokens }) })
    }

    /// Counts a stream or a socket that is opened. Not of loopback: everybody behind a proxy comes from there.
    pub(super) fn opens(&self) -> Result<(), Overload> {
        if self.admission.memory.pressure() >= Pressure::High {
            return Err(self.memory_is_scarce());
        }
        let counted = self.peer.filter(|peer| !peer.to_canonical().is_loopback());
        let Some(peer) = counted else { return Ok(()) };
        self.admission.opens.take(&network(peer)).map_err(|wait| Overload {
            code: "rate_limited",
            what: "this address opens streams faster than it may",
            key: "limits.stream_opens_per_s",
            max: self.admission.bounds.stream_opens.per_s.into(),
            after_ms: self.overloaded_after_ms().max(ms(wait)),
        })
    }

    /// Counts a command of a token: what it gives is remembered as long as its session, and a session remembers so many. A
    /// key has no such bound, and a cancel is never asked for.
    pub(super) fn gives(&self, command: &Command) -> Result<(), Problem> {
        let counted = self.caller.grant.as_ref().filter(|_| !matches!(command, Command::Cancel(_)));
        let Some(grant) = counted else { return Ok(()) };
        self.admission.commands.take(&grant.root()).map_err(|wait| {
            let per_s = self.admission.bounds.token_commands.per_s;
            let detail =
                format!("this token gives commands faster than it may (limits.token_commands_per_s = {per_s})");
            Problem::new("rate_limited", detail).after_ms(ms(wait))
        })
    }

    fn overloaded_after_ms(&self) -> u64 {
        self.env.between(OVERLOADED_AFTER_MS.0, OVERLOADED_AFTER_MS.1)
    }

    fn memory_is_scarce(&self) -> Overload {
        Overload {
            code: "overloaded",
            what: "this server uses most of the memory that it may",
            key: "limits.memory_max_bytes",
            max: self.admission.memory.max().unwrap_or_default(),
            after_ms: self.overloaded_after_ms(),
        }
    }

    /// What a reader is told when the server stops. All of them are told at once, and come back one after another.
    pub(super) fn comes_back(&self) -> Notice<'static> {
        let spread_ms = self.admission.bounds.drain_spread_s.saturating_mul(1_000);
        let after_ms = self.retry_ms() + self.env.between(0, spread_ms);
        Notice::Reconnect { after_ms }
    }

    /// What one of many readers is told while memory is very scarce; `None` for those that may stay this time.
    pub(super) fn shed(&self) -> Option<Notice<'static>> {
        let critical = self.admission.memory.pressure() == Pressure::Critical;
        (critical && self.env.between(1, SHED_ONE_IN) == 1).then(|| self.memory_is_scarce().notice())
    }

    /// How long a stream that begins now may live.
    pub(super) fn lifetime(&self) -> Lifetime {
        let age_ms = self.admission.bounds.stream_age_max_s.saturating_mul(1_000);
        let age_ms = (age_ms > 0).then(|| self.env.between(age_ms / 5 * 4, age_ms / 5 * 6));
        let ends_at = age_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        Lifetime { ends_at, app: self.clone() }
    }
}

/// When a stream ends although its log goes on. Looked at with its heartbeat, so that no token pays for it.
pub(super) struct Lifetime {
    ends_at: Option<Instant>,
    app: App,
}

impl Lifetime {
    /// When it is to be looked at, at the latest at `heartbeat`.
    pub(super) fn look_at(&self, heartbeat: Instant) -> Instant {
        self.ends_at.map_or(heartbeat, |ends_at| ends_at.min(heartbeat))
    }

    /// What is said at the end, if it is now.
    pub(super) fn is_over(&self) -> Option<Notice<'static>> {
        match self.ends_at {
            Some(ends_at) if Instant::now() >= ends_at => Some(Notice::Reconnect { after_ms: self.app.retry_ms() }),
            _ => self.app.shed(),
        }
    }
}

/// Milliseconds, of which the last has begun.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
