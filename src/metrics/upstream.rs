//! Model calls of each provider that is configured: the one label whose words come from a file.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter},
    registry::{Registry, Unit},
};

use super::{Counters, Latency};
use crate::event::FailureCode;

/// The name under which a provider is counted that is not configured: its session is older than the configuration.
const OTHER: &str = "other";

/// Model calls of one provider.
#[derive(Debug, Default)]
pub struct Upstream {
    /// Calls, each attempt.
    pub attempts: Counter,
    /// Calls that failed.
    pub errors: Counters<FailureCode>,
    /// From the call until the first piece of its answer.
    pub first_delta: Latency,
}

/// Model calls by provider; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Upstreams(Arc<BTreeMap<String, Arc<Upstream>>>);

/// One thing that is counted of every provider.
#[derive(Debug)]
struct View {
    of: Upstreams,
    metric_type: MetricType,
    encode: fn(&Upstream, &mut MetricEncoder, [(&str, String); 1]) -> fmt::Result,
}

impl Upstreams {
    pub(super) fn new<'a>(providers: impl IntoIterator<Item = &'a str>) -> Self {
        let names = providers.into_iter().chain([OTHER]);
        Self(Arc::new(names.map(|name| (name.to_owned(), Arc::default())).collect()))
    }

    pub(super) fn of(&self, provider: &str) -> Arc<Upstream> {
        self.0.get(provider).unwrap_or_else(|| &self.0[OTHER]).clone()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let view = |metric_type, encode| View { of: self.clone(), metric_type, encode };
        let attempts = view(MetricType::Counter, |upstream, encoder, labels| {
            upstream.attempts.encode(encoder.encode_family(&labels)?)
        });
        registry.register("upstream_attempts", "Model calls, each attempt", attempts);
        let errors =
            view(MetricType::Counter, |upstream, encoder, labels| upstream.errors.encode_with(encoder, &labels));
        registry.register("upstream_errors", "Model calls that failed", errors);
        let first = view(MetricType::Histogram, |upstream, encoder, labels| {
            upstream.first_delta.encode(encoder.encode_family(&labels)?)
        });
        let help = "From a model call until the first piece of its answer";
        registry.register_with_unit("upstream_first_delta", help, Unit::Seconds, first);
    }
}

impl EncodeMetric for View {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let each = self.of.0.iter();
        each.into_iter()
            .try_for_each(|(name, upstream)| (self.encode)(upstream, &mut encoder, [("provider", name.clone())]))
    }

    fn metric_type(&self) -> MetricType {
        self.metric_type
    }
}
