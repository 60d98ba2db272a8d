//! What a session's task asks for itself, without a task in between: its upstream, and the tools that run.

use std::{future::poll_fn, task::Poll};

use futures_util::{StreamExt as _, future::BoxFuture};

use crate::{
    id::CallId,
    provider::{Delta, Deltas, ProviderError},
};

/// What the upstream has to say at once, if anything. Asked with the task's own waker, which is registered already: a
/// waker that does nothing would take its place in every timer and socket below, and be replaced in turn.
pub(super) async fn at_hand(upstream: &mut Deltas) -> Option<Option<Result<Delta, ProviderError>>> {
    poll_fn(|cx| {
        Poll::Ready(match upstream.poll_next_unpin(cx) {
            Poll::Ready(delta) => Some(delta),
            Poll::Pending => None,
        })
    })
    .await
}

/// The next tool that ends. Few run at once, so each is simply asked.
pub(super) async fn next_tool(
    tools: &mut Vec<(CallId, BoxFuture<'static, Result<serde_json::Value, String>>)>,
) -> (CallId, Result<serde_json::Value, String>) {
    poll_fn(|cx| {
        for i in 0..tools.len() {
            if let Poll::Ready(result) = tools[i].1.as_mut().poll(cx) {
                return Poll::Ready((tools.swap_remove(i).0, result));
            }
        }
        Poll::Pending
    })
    .await
}
