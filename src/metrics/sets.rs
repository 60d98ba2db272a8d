//! Counters and gauges by label, each made beforehand, so that counting looks nothing up under a lock.

use std::{fmt, marker::PhantomData, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter, gauge::Gauge},
};
use serde::Serialize;

/// A label whose words are all known beforehand.
pub trait Label: Copy + PartialEq + Serialize + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Its words.
    const ALL: &'static [Self];

    /// Its place among all.
    fn place(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).expect("all of them are listed")
    }

    /// The word, as the API says it.
    fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).expect("a word is a string")
    }
}

/// A counter for each word of a label; cheap to clone, all clones are one.
#[derive(Clone, Debug)]
pub struct Counters<L>(Arc<[Counter]>, PhantomData<L>);

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self(L::ALL.iter().map(|_| Counter::default()).collect(), PhantomData)
    }
}

impl<L: Label> Counters<L> {
    /// The one of that word.
    pub fn of(&self, label: L) -> &Counter {
        &self.0[label.place()]
    }

    /// Each, with these labels before its own.
    pub(super) fn encode_with(&self, encoder: &mut MetricEncoder, before: &[(&str, String)]) -> fmt::Result {
        for (label, counter) in L::ALL.iter().zip(&*self.0) {
            let mut labels = before.to_vec();
            labels.push((L::NAME, label.word()));
            counter.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl<L: Label> EncodeMetric for Counters<L> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        self.encode_with(&mut encoder, &[])
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// A counter for each two words of two labels.
#[derive(Clone, Debug)]
pub struct Pairs<A, B>(Arc<[Counters<B>]>, PhantomData<A>);

impl<A: Label, B: Label> Default for Pairs<A, B> {
    fn default() -> Self {
        Self(A::ALL.iter().map(|_| Counters::default()).collect(), PhantomData)
    }
}

impl<A: Label, B: Label> Pairs<A, B> {
    /// The one of these words.
    pub fn of(&self, a: A, b: B) -> &Counter {
        self.0[a.place()].of(b)
    }
}

impl<A: Label, B: Label> EncodeMetric for Pairs<A, B> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let each = A::ALL.iter().zip(&*self.0);
        each.into_iter().try_for_each(|(a, counters)| counters.encode_with(&mut encoder, &[(A::NAME, a.word())]))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// A gauge for each word of a label.
#[derive(Clone, Debug)]
pub struct Gauges<L>(Arc<[Gauge]>, PhantomData<L>);

impl<L: Label> Default for Gauges<L> {
    fn default() -> Self {
        Self(L::ALL.iter().map(|_| Gauge::default()).collect(), PhantomData)
    }
}

impl<L: Label> Gauges<L> {
    /// Counts one more of these, for as long as what is given is held.
    pub fn enter(&self, label: L) -> Present {
        let gauge = self.0[label.place()].clone();
        gauge.inc();
        Present(gauge)
    }
}

impl<L: Label> EncodeMetric for Gauges<L> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for (label, gauge) in L::ALL.iter().zip(&*self.0) {
            gauge.encode(encoder.encode_family(&[(L::NAME, label.word())])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Something that is there, and is counted until this is dropped.
#[derive(Debug)]
pub struct Present(Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}
