//! The player: sends a script at the pace that was asked for.

use std::time::Duration;

use futures_util::stream::Stream;
use tokio::time::Instant;

use super::script::{Act, Script};
use crate::{
    event::{FinishReason, Usage},
    provider::{Delta, Message, Prompt, ProviderError},
};

/// After so many tokens without a pause, other tasks get their turn.
const TOKENS_BETWEEN_YIELDS: u64 = 32;

/// Plays `script` at the pace of `prompt`, to at most its `max_tokens`.
pub(super) fn play(script: Script, prompt: &Prompt) -> impl Stream<Item = Result<Delta, ProviderError>> + Send + use<> {
    let budget = prompt.params.max_tokens.map_or(u64::MAX, u64::from);
    let rate = prompt.params.tokens_per_second.unwrap_or(script.rate);
    let input_tokens = words(prompt);
    async_stream::stream! {
        let mut finish_reason = script.finish_reason;
        let mut pace = Pace::new(rate);
        let mut reasoning_tokens = 0;
        for act in script.acts() {
            match act {
                Act::Token(_) | Act::Mark(_) if pace.sent == budget => {
                    finish_reason = FinishReason::Length;
                    break;
                }
                Act::Token(delta) => {
                    pace.token().await;
                    reasoning_tokens += u64::from(matches!(delta, Delta::Reasoning { .. }));
                    yield Ok(delta);
                }
                Act::Mark(delta) => yield Ok(delta),
                Act::Stall => std::future::pending::<()>().await,
                Act::Fail(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
        let usage = Usage {
            input_tokens: Some(input_tokens),
            output_tokens: Some(pace.sent),
            reasoning_tokens: (reasoning_tokens > 0).then_some(reasoning_tokens),
            cached_tokens: None,
        };
        yield Ok(Delta::End { finish_reason, usage: Some(usage), warning: None });
    }
}

/// A schedule: token `n` is due at `start + n / rate`. Pausing between tokens instead would add up every late wake-up,
/// and a timer of one millisecond could never give more than a thousand tokens a second.
struct Pace {
    start: Instant,
    rate: f64,
    sent: u64,
    /// Tokens since the last pause.
    hurried: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        // The bounds keep a schedule of a million tokens within what an `Instant` can hold.
        let rate = if rate.is_finite() { rate.clamp(0.001, 100_000.0) } else { 30.0 };
        Self { start: Instant::now(), rate, sent: 0, hurried: 0 }
    }

    /// Waits until the next token is due.
    async fn token(&mut self) {
        self.sent += 1;
        let due = self.start + Duration::from_secs_f64(self.sent as f64 / self.rate);
        if Instant::now() < due {
            self.hurried = 0;
            tokio::time::sleep_until(due).await;
            return;
        }
        self.hurried += 1;
        if self.hurried >= TOKENS_BETWEEN_YIELDS {
            self.hurried = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Tokens of a prompt: its words.
fn words(prompt: &Prompt) -> u64 {
    let count = |text: &str| text.split_whitespace().count();
    let said = prompt.messages.iter().map(|message| match message {
        Message::System(text) | Message::User(text) => count(text),
        Message::Assistant { text, reasoning, .. } => count(text) + count(reasoning),
        Message::Tool { outcome, edited_arguments, .. } => count(&outcome.for_model(edited_arguments.as_ref())),
    });
    (prompt.system.as_deref().map_or(0, count) + said.sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::super::testing::{ask, prompt, tell, with};
    use super::*;
    use crate::provider::{Provider as _, demo::Demo};

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_the_one_asked_for_from_slow_to_very_fast() {
        for (rate, seconds) in [(None, 20.0), (Some(10_000.0), 0.06), (Some(5.0), 120.0)] {
            let prompt = with(prompt("echo", "so "), |p| p.tokens_per_second = rate);
            let text = "word ".repeat(600);
            let started = Instant::now();
            let answer = tell(Prompt { messages: vec![Message::User(text)], ..prompt }).await;
            let took = started.elapsed().as_secs_f64();
            assert_eq!(answer.usage().output_tokens, Some(600));
            assert!((took - seconds).abs() < 0.02 * seconds + 0.002, "{rate:?}: {took} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_rates_do_no_harm() {
        for rate in [f64::NAN, f64::INFINITY, 0.0, -1.0, f64::MIN_POSITIVE, f64::MAX] {
            let prompt = with(prompt("echo", "aye aye"), |p| p.tokens_per_second = Some(rate));
            assert_eq!(tell(prompt).await.text, "aye aye");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn max_tokens_ends_it_and_a_text_that_just_fits_is_whole() {
        let limited = |max| with(prompt("echo", "one two three"), |p| p.max_tokens = Some(max));
        let answer = tell(limited(2)).await;
        assert_eq!((answer.text.as_str(), answer.finish_reason()), ("one two ", FinishReason::Length));
        let answer = tell(limited(3)).await;
        assert_eq!((answer.text.as_str(), answer.finish_reason()), ("one two three", FinishReason::Stop));
        assert_eq!(answer.usage().input_tokens, Some(3));
        assert_eq!(answer.usage().output_tokens, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn stop_texts_end_it_and_are_not_said() {
        let prompt = with(prompt("echo", "one two three four"), |p| p.stop = vec!["four".into(), "o th".into()]);
        let answer = tell(prompt).await;
        assert_eq!((answer.text.as_str(), answer.finish_reason()), ("one tw", FinishReason::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_happens_before_it_is_polled() {
        let mut stream = Demo.stream(prompt("echo", "hello there"));
        tokio::time::advance(Duration::from_secs(60)).await;
        // The schedule begins with the first poll: the first token is not due yet, a minute after the call.
        assert!(stream.next().now_or_never().is_none());
        drop(stream);
        assert_eq!(ask("echo", "hello").await.text, "hello");
    }
}
