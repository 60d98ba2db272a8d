//! A provider that takes its sessions' tasks with it: in mid-answer it panics, and the next request finds no task.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt as _, future::BoxFuture};
use steerage::provider::{Deltas, Model, Prefill, Prompt, Provider, ProviderError};

/// Another provider, until its answers break.
pub(crate) struct Mortal<P> {
    inner: P,
    after: usize,
    lives: Arc<AtomicUsize>,
}

impl<P> Mortal<P> {
    /// So many answers break, each after so many deltas.
    pub(crate) fn new(inner: P, lives: usize, after: usize) -> Self {
        Self { inner, after, lives: Arc::new(AtomicUsize::new(lives)) }
    }
}

impl<P: Provider> Provider for Mortal<P> {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        self.inner.models()
    }

    fn prefill(&self, model: &str) -> Prefill {
        self.inner.prefill(model)
    }

    fn own_tools(&self, model: &str) -> &'static [&'static str] {
        self.inner.own_tools(model)
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        let mut left = self.after;
        let lives = self.lives.clone();
        let dies = lives.load(Ordering::Relaxed) > 0;
        let deltas = self.inner.stream(prompt).inspect(move |_| {
            if dies && left == 0 {
                lives.fetch_sub(1, Ordering::Relaxed);
                panic!("the session's task is lost, as the test wants it");
            }
            left = left.saturating_sub(1);
        });
        deltas.boxed()
    }
}
