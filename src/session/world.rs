//! What a session has of the world around it.

use std::sync::Arc;

use crate::{
    env::Env, id::Tenant, limit::Quotas, metrics::Metrics, provider::Provider, store::Store, tool::Tools, trace::Tracer,
};

/// Everything a session needs of the world.
#[derive(Clone)]
pub struct World {
    /// Where its log lives.
    pub store: Arc<dyn Store>,
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// What the server can run.
    pub tools: Arc<Tools>,
    /// Clock and names.
    pub env: Env,
    /// What is counted of it.
    pub metrics: Arc<Metrics>,
    /// Makes spans of its runs.
    pub tracer: Tracer,
    /// The runs of each tenant.
    pub runs: Arc<Quotas<Tenant>>,
}
