//! A histogram of durations without a lock: prometheus-client's own takes one for every observation.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds of the buckets, in microseconds: a tenth of a millisecond, which is a store in memory, to ten seconds,
/// which is a stall, in the usual steps of 1, 2.5 and 5.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How long something takes; cheap to clone, all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Latency(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those that are at most the bound and more than the one before; the last ones are longer than every bound.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        self.observe_many(took, 1);
    }

    /// Counts so many that took as long: one that was looked at, for those that were not.
    pub fn observe_many(&self, took: Duration, count: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(count, Ordering::Relaxed);
        self.0.sum_us.fetch_add(us.saturating_mul(count), Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let counts = self.0.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn each_bucket_has_what_is_at_most_its_bound_and_the_sum_is_in_seconds() {
        let latency = Latency::default();
        for us in [0, 100, 101, 1_000, 999_999, 10_000_000, 10_000_001] {
            latency.observe(Duration::from_micros(us));
        }
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("x", "x", latency.clone());
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "x_sum 21.001201",
            "x_count 7",
            "x_bucket{le=\"0.0001\"} 2",
            "x_bucket{le=\"0.00025\"} 3",
            "x_bucket{le=\"0.001\"} 4",
            "x_bucket{le=\"0.5\"} 4",
            "x_bucket{le=\"1.0\"} 5",
            "x_bucket{le=\"10.0\"} 6",
            "x_bucket{le=\"+Inf\"} 7",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert_eq!(latency.count(), 7);
    }
}
