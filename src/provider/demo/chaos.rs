//! Everything that can go wrong with an upstream, on demand. The words are in the table of the provider's page.

use serde_json::json;

use super::{
    WEATHER_TOOL,
    dice::Dice,
    last_user_text,
    script::{Line, Script, call},
    talk,
};
use crate::{
    event::{FailureCode, FinishReason},
    provider::{Message, Prompt, ProviderError},
};

/// The words it knows.
const WORDS: [&str; 11] = [
    "stall",
    "error",
    "reject",
    "overloaded",
    "truncate",
    "huge",
    "flood",
    "empty",
    "bad_tool",
    "unknown_tool",
    "two_tools",
];

/// Bytes of the huge line.
const HUGE_BYTES: usize = 1 << 20;

/// Tokens of a flood, and tokens per second.
const FLOOD: (usize, f64) = (1_000_000, 10_000.0);

/// The first of its words in the last user message, played out.
pub(super) fn script(prompt: &Prompt) -> Script {
    if let Some(Message::Tool { .. }) = prompt.messages.last() {
        // The call was the trouble; without this the same call would be made again and again.
        return talk::script(prompt);
    }
    let asked = last_user_text(prompt);
    let id = Dice::new(prompt.params.seed.unwrap_or(0), prompt.messages.len(), asked).roll();
    let words = |text: &str| Line::Text(text.into());
    let fail = |error| Line::Fail(error);
    match word(asked) {
        Some("stall") => Script::new(vec![words("The line goes quiet after this… "), Line::Stall]),
        Some("error") => Script::new(vec![
            words("Something is about to break… "),
            fail(ProviderError::fatal(
                FailureCode::UpstreamError,
                "the demo upstream reported the error it was asked for",
            )),
        ]),
        Some("reject") => Script::failure(ProviderError::fatal(
            FailureCode::UpstreamRejected,
            "the demo upstream rejected the request, as it was asked to",
        )),
        Some("overloaded") => Script::failure(ProviderError::passing(
            FailureCode::UpstreamOverloaded,
            "the demo upstream is overloaded, as it was asked to be",
        )),
        Some("truncate") => Script::new(vec![
            words("This answer will not be finis"),
            fail(ProviderError::passing(
                FailureCode::UpstreamTruncated,
                "the demo upstream's answer ended without saying that it was whole",
            )),
        ]),
        Some("huge") => Script::new(vec![Line::Lump("steerage ".repeat(HUGE_BYTES / 9 + 1)[..HUGE_BYTES].into())]),
        Some("flood") => Script {
            lines: vec![Line::Flood("water and more water, ".into(), FLOOD.0)],
            finish_reason: FinishReason::Length,
            rate: FLOOD.1,
        },
        Some("empty") => Script::new(Vec::new()),
        Some("bad_tool") => Script::new(vec![
            words("Let me look that up."),
            Line::Call {
                index: 0,
                id: format!("call_{id:016x}_0"),
                name: WEATHER_TOOL.into(),
                arguments: r#"{"city": "Lisbon", "#.into(),
            },
        ]),
        Some("unknown_tool") => {
            Script::new(vec![words("Let me raise the anchor."), call(0, id, "raise_anchor", &json!({"chain_m": 40}))])
        }
        Some("two_tools") => Script::new(vec![
            words("Let me look both up."),
            call(0, id, WEATHER_TOOL, &json!({"city": "Lisbon"})),
            call(1, id, WEATHER_TOOL, &json!({"city": "Oslo"})),
        ]),
        _ => Script::text(format!("Say one of these words, and see what happens: {}.", WORDS.join(", "))),
    }
}

/// The first of its words in a text, as a word of its own.
fn word(text: &str) -> Option<&'static str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .find_map(|word| WORDS.into_iter().find(|known| word.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use serde_json::Value;
    use tokio::time::{Instant, timeout};

    use super::super::testing::{ask, called, converse, prompt, tool, user};
    use super::*;
    use crate::provider::{Delta, Provider as _, Retry, demo::Demo};

    #[tokio::test(start_paused = true)]
    async fn failures_come_with_or_without_tokens_before_them() {
        for (word, code, tokens, retry) in [
            ("error", FailureCode::UpstreamError, true, Retry::Never),
            ("reject", FailureCode::UpstreamRejected, false, Retry::Never),
            ("overloaded", FailureCode::UpstreamOverloaded, false, Retry::Soon),
            ("truncate", FailureCode::UpstreamTruncated, true, Retry::Soon),
        ] {
            let answer = ask("chaos", &format!("Please, {word}!")).await;
            let error = answer.error.as_ref().expect(word);
            assert_eq!((error.code, error.retry, !answer.text.is_empty()), (code, retry, tokens), "{word}");
            assert!(answer.end.is_none(), "{word}: a failed answer is never whole");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stall_falls_silent_for_ever() {
        let mut stream = Demo.stream(prompt("chaos", "stall"));
        for _ in 0..6 {
            assert!(matches!(stream.next().await, Some(Ok(Delta::Text { .. }))));
        }
        assert!(timeout(Duration::from_secs(86_400), stream.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn huge_is_one_line_in_one_delta() {
        let answer = ask("chaos", "huge").await;
        assert_eq!((answer.text.len(), answer.deltas.len()), (HUGE_BYTES, 2));
        assert!(!answer.text.contains('\n'));
    }

    #[tokio::test(start_paused = true)]
    async fn flood_is_fast_and_long_and_has_an_end() {
        let mut stream = Demo.stream(prompt("chaos", "flood"));
        let started = Instant::now();
        for _ in 0..20_000 {
            stream.next().await.unwrap().unwrap();
        }
        let seconds = started.elapsed().as_secs_f64();
        assert!((seconds - 2.0).abs() < 0.01, "{seconds} s");
        let tokens = script(&prompt("chaos", "flood")).acts().count();
        assert_eq!(tokens, FLOOD.0);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_ends_at_once() {
        let answer = ask("chaos", "empty").await;
        assert_eq!((answer.deltas.len(), answer.finish_reason()), (1, FinishReason::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_wrong_in_three_ways() {
        let bad = ask("chaos", "bad_tool").await;
        assert!(serde_json::from_str::<Value>(&bad.calls[0].1).is_err());
        let unknown = ask("chaos", "unknown_tool").await;
        assert_eq!(unknown.calls[0].0, "raise_anchor");
        let two = ask("chaos", "two_tools").await;
        assert_eq!(two.calls.len(), 2);
        assert_ne!(two.calls[0].1, two.calls[1].1);
        assert_ne!(two.calls[0].2, two.calls[1].2, "each call has its own id");
        for answer in [bad, unknown, two] {
            assert_eq!(answer.finish_reason(), FinishReason::ToolCalls);
        }
        let report = tool(json!({"city": "Lisbon", "temperature_c": 19}));
        let told = converse("chaos", vec![user("two_tools"), called("Lisbon"), report]).await;
        assert!(told.calls.is_empty() && told.text.contains("19 °C"), "{}", told.text);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_word_it_says_which_ones_it_knows() {
        let answer = ask("chaos", "hello, stalling errors").await;
        assert!(WORDS.iter().all(|word| answer.text.contains(word)), "{}", answer.text);
    }
}
