//! Port: something that the server runs when the model calls it.
//!
//! A tool is started at most once per `tool.started` event, and that event is stored first. Dropping the future is the
//! interruption: whatever the tool had done by then is `outcome_unknown`.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::{id::CallId, spec::ToolSpec};

pub mod builtin;

/// One execution.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The call; together with the session it is the idempotency key for whatever the tool talks to.
    pub call_id: CallId,
    /// From 1.
    pub attempt: u32,
    /// What to do, checked against the tool's schema.
    pub arguments: Value,
}

/// A tool of this server.
pub trait Tool: Send + Sync + 'static {
    /// Name, description, schema and default policies.
    fn spec(&self) -> ToolSpec;

    /// Runs one call. The error is told to the model.
    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>>;
}

/// The tools of a server by name.
pub type Tools = BTreeMap<String, Arc<dyn Tool>>;
