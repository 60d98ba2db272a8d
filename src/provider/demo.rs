//! Provider without a network: text made up by rules, so that every behaviour can be seen, shown and tested for free.
//!
//! The same prompt and the same `params.seed` give the same answer. There is no randomness and no wall clock, only
//! tokio's time for the pace: `params.tokens_per_second`, 30 by default, where a token is a word with the space after
//! it, or a piece of a long one. `max_tokens` and `stop` are honoured and usage is reported.
//!
//! | model | what it does |
//! | --- | --- |
//! | `assistant` | tells a story; asked for the weather it calls `get_weather` and answers from what became of the call |
//! | `echo` | repeats the last user message byte for byte |
//! | `story` | about 250 words of sea air, another story for another seed |
//! | `tools` | calls `get_weather` for every user message, then answers from what became of the call |
//! | `reasoning` | thinks aloud in a reasoning block, then answers |
//! | `chaos` | goes wrong, in the way that the last user message names |
//!
//! An answer of `assistant`, `story` or `tools` that was cut goes on after a steer: its next sentence takes the steer's
//! words up, and nothing that was said before the cut is said again.
//!
//! An unfinished answer ([`Prompt::continues`]) is gone on with to the byte, whichever model gave it.
//!
//! `chaos` obeys the first of these words in the last user message:
//!
//! | word | what happens |
//! | --- | --- |
//! | `stall` | a few tokens, then silence for ever |
//! | `error` | a few tokens, then `upstream_error` |
//! | `reject` | `upstream_rejected` at once |
//! | `overloaded` | `upstream_overloaded` at once, and the same again at every new attempt |
//! | `truncate` | a few tokens, then `upstream_truncated`: the answer never says that it is whole |
//! | `huge` | one line of 1 MiB in a single delta |
//! | `flood` | 10,000 tokens/s, a million of them unless it is stopped |
//! | `empty` | the end at once, without text |
//! | `bad_tool` | a tool call whose arguments are not JSON |
//! | `unknown_tool` | a call of a tool that nobody offers |
//! | `two_tools` | two weather calls at the same time |

use futures_util::{future::BoxFuture, stream::StreamExt as _};

use crate::{
    event::FailureCode,
    provider::{Deltas, Message, Model, Prefill, Prompt, Provider, ProviderError},
    spec::clip,
};

mod answer;
mod chaos;
mod city;
mod dice;
mod player;
mod prose;
mod reasoning;
mod script;
mod story;
mod talk;
#[cfg(test)]
mod testing;
mod weather;

use script::Script;

/// Its models, the default one first.
const MODELS: [&str; 6] = ["assistant", "echo", "story", "tools", "reasoning", "chaos"];

/// The tool that it calls: the one that the request offers under this name, else the server's own.
const WEATHER_TOOL: &str = "get_weather";

/// The demo provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demo;

impl Provider for Demo {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        let models = MODELS.map(|name| Model { name: name.into(), created: 0 });
        Box::pin(std::future::ready(Ok(models.into())))
    }

    fn stream(&self, prompt: Prompt) -> Deltas {
        async_stream::stream! {
            let mut deltas = player::play(rest(&prompt), &prompt).boxed();
            while let Some(delta) = deltas.next().await {
                yield delta;
            }
        }
        .boxed()
    }

    fn prefill(&self, _model: &str) -> Prefill {
        Prefill::Yes
    }

    fn own_tools(&self, model: &str) -> &'static [&'static str] {
        match model {
            // `chaos` calls it twice for `two_tools`.
            "assistant" | "tools" | "chaos" => &[WEATHER_TOOL],
            _ => &[],
        }
    }

    fn is_demo(&self) -> bool {
        true
    }
}

/// What the model is to say now: all of it, or what an unfinished answer lacks.
fn rest(prompt: &Prompt) -> Script {
    let whole = |prompt: &Prompt| script(prompt).stop_at(&prompt.params.stop);
    match prompt.messages.split_last() {
        Some((Message::Assistant { text, .. }, before)) if prompt.continues => {
            whole(&Prompt { messages: before.to_vec(), ..prompt.clone() }).after(text)
        }
        _ => whole(prompt),
    }
}

/// What the model says to this conversation.
fn script(prompt: &Prompt) -> Script {
    match prompt.model.as_str() {
        "assistant" | "story" | "tools" => talk::script(prompt),
        "echo" => Script::text(last_user_text(prompt)),
        "reasoning" => reasoning::script(prompt),
        "chaos" => chaos::script(prompt),
        unknown => Script::failure(ProviderError::fatal(
            FailureCode::UpstreamRejected,
            format!("the demo provider has no model {:?}; it has {}", clip(unknown, 64), MODELS.join(", ")),
        )),
    }
}

/// What the person said last; empty if nobody has said anything.
fn last_user_text(prompt: &Prompt) -> &str {
    let said = prompt.messages.iter().rev().find_map(|message| match message {
        Message::User(text) => Some(text.as_str()),
        _ => None,
    });
    said.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{ask, assistant, prompt, tell},
        *,
    };
    use crate::{event::FinishReason, provider::Retry};

    #[tokio::test(start_paused = true)]
    async fn echo_repeats_every_byte() {
        let tricky = " \n\t two  spaces\r\n\r\nnaïve — 美咲 🚢👩‍👩‍👧 e\u{301} \u{0}\u{feff}data: x\n\n{\"a\":1}   ";
        for text in [tricky, "", "x", &"long".repeat(1_000), &" ".repeat(100)] {
            let answer = ask("echo", text).await;
            assert_eq!(answer.text, text);
            assert!(answer.deltas.len() >= text.split_whitespace().count());
            assert_eq!(answer.finish_reason(), FinishReason::Stop);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_answer_of_any_model_is_gone_on_with_to_the_byte() {
        for (model, asked) in [
            ("assistant", "the weather in Oslo"),
            ("story", "Go"),
            ("reasoning", "why"),
            ("echo", " ha ha  ha\n\nha — 美咲 🚢 "),
            ("chaos", "which?"),
            ("chaos", "truncate"),
            ("chaos", "two_tools"),
        ] {
            let whole = ask(model, asked).await;
            let cuts = whole.text.char_indices().map(|(at, _)| at).step_by(1 + whole.text.len() / 200);
            let cuts = cuts.chain([whole.text.len()]);
            for said in cuts.map(|at| whole.text[..at].trim_end()) {
                let messages = vec![Message::User(asked.into()), assistant(said)];
                let rest = tell(Prompt { messages, continues: true, ..prompt(model, "") }).await;
                assert_eq!([said, &rest.text].concat(), whole.text, "{model}");
                assert_eq!((&rest.calls, &rest.error), (&whole.calls, &whole.error), "{model}");
                assert!(rest.reasoning.is_empty() || said.is_empty(), "what was thought is not thought again");
            }
        }
        // What somebody else said is not how it begins: then all of it is said.
        let other = Prompt {
            messages: vec![Message::User("aye".into()), assistant("no")],
            continues: true,
            ..prompt("echo", "")
        };
        assert_eq!(tell(other).await.text, "aye");
    }

    #[tokio::test(start_paused = true)]
    async fn every_model_answers_and_an_unknown_one_is_rejected() {
        for model in Demo.models().await.unwrap() {
            assert!(!ask(&model.name, "hello").await.text.is_empty(), "{}", model.name);
        }
        let error = ask("gpt", "hello").await.error.unwrap();
        assert_eq!((error.code, error.retry), (FailureCode::UpstreamRejected, Retry::Never));
        assert!(error.message.contains("gpt") && error.message.contains("assistant"), "{error}");
        assert_eq!(Demo.own_tools("assistant"), ["get_weather"]);
        assert!(Demo.own_tools("story").is_empty() && Demo.is_demo());
    }
}
