//! The provider of a session whose own is no longer configured.

use futures_util::{
    future::{BoxFuture, FutureExt as _, ready},
    stream::{StreamExt as _, once},
};

use crate::{
    event::FailureCode,
    provider::{Deltas, Model, Prompt, Provider, ProviderError},
};

/// Fails every model call, and says which name is missing.
pub(super) struct UnknownProvider(pub(super) String);

impl UnknownProvider {
    fn error(&self) -> ProviderError {
        let message = format!("no provider {} is configured", self.0);
        ProviderError::fatal(FailureCode::UpstreamUnreachable, message)
    }
}

impl Provider for UnknownProvider {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        ready(Err(self.error())).boxed()
    }

    fn stream(&self, _: Prompt) -> Deltas {
        once(ready(Err(self.error()))).boxed()
    }
}
