//! Whether an upstream goes on within an unfinished answer: as configured, as its list of models tells, as it has shown.
//!
//! No field of the protocol says so. The names that servers put under `owned_by` tell who they are, and these are known:
//! llama.cpp, vLLM and SGLang go on; Ollama leaves it to each model's template, most of which close the answer and begin
//! a new one without an error; OpenAI takes the text for a finished answer. Everyone else is asked, and a refusal is
//! remembered.

use std::{collections::HashSet, sync::Mutex};

use serde::{Deserialize, Serialize};

use crate::provider::Prefill;

/// The setting of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefillSetting {
    /// What its list of models tells, and whether it has refused.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// Where a trailing answer is history.
const OPENAI_HOST: &str = "api.openai.com";

/// What is known of one upstream.
#[derive(Debug)]
pub(super) struct Known {
    setting: PrefillSetting,
    is_openai: bool,
    /// What its newest list of models tells; `None` before there is one.
    listed: Mutex<Option<Prefill>>,
    /// Models that have refused.
    refused: Mutex<HashSet<String>>,
}

impl Known {
    pub(super) fn new(setting: PrefillSetting, host: Option<&str>) -> Self {
        let is_openai = host.is_some_and(|host| host.eq_ignore_ascii_case(OPENAI_HOST));
        Self { setting, is_openai, listed: Mutex::default(), refused: Mutex::default() }
    }

    /// Whether `model` goes on.
    pub(super) fn of(&self, model: &str) -> Prefill {
        let refused = || self.refused.lock().expect("no panic while it is held").contains(model);
        match self.setting {
            PrefillSetting::Yes => Prefill::Yes,
            PrefillSetting::No => Prefill::No,
            PrefillSetting::Auto if self.is_openai || refused() => Prefill::No,
            PrefillSetting::Auto => self.listed().unwrap_or(Prefill::Unknown),
        }
    }

    /// Whether a list of models could tell more.
    pub(super) fn lacks_list(&self) -> bool {
        self.setting == PrefillSetting::Auto && !self.is_openai && self.listed().is_none()
    }

    fn listed(&self) -> Option<Prefill> {
        *self.listed.lock().expect("no panic while it is held")
    }

    /// Takes in who the models of a list belong to.
    pub(super) fn list<'a>(&self, owners: impl Iterator<Item = &'a str>) {
        *self.listed.lock().expect("no panic while it is held") = Some(told_by(owners));
    }

    /// `model` was given an unfinished answer and refused the request.
    pub(super) fn refuse(&self, model: &str) {
        self.refused.lock().expect("no panic while it is held").insert(model.to_owned());
    }
}

fn told_by<'a>(owners: impl Iterator<Item = &'a str>) -> Prefill {
    let one = |owner: &str| match owner {
        "llamacpp" | "vllm" | "sglang" => Prefill::Yes,
        "library" => Prefill::No,
        _ => Prefill::Unknown,
    };
    // A server that lists models of several kinds is a gateway: only what holds for all of them holds.
    let kinds: Vec<Prefill> = owners.map(one).collect();
    match kinds.first() {
        Some(first) if kinds.iter().all(|kind| kind == first) => *first,
        _ if kinds.contains(&Prefill::No) => Prefill::No,
        _ => Prefill::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_tells_who_serves_it() {
        let told = |owners: &[&str]| told_by(owners.iter().copied());
        for owner in ["llamacpp", "vllm", "sglang"] {
            assert_eq!(told(&[owner, owner]), Prefill::Yes);
        }
        assert_eq!(told(&["library"]), Prefill::No);
        assert_eq!(told(&["library", "vllm"]), Prefill::No);
        assert_eq!(told(&["vllm", "someone"]), Prefill::Unknown);
        assert_eq!((told(&["mistralai"]), told(&[])), (Prefill::Unknown, Prefill::Unknown));
    }

    #[test]
    fn the_setting_comes_first_then_a_refusal_then_the_list() {
        let auto = || Known::new(PrefillSetting::Auto, Some("127.0.0.1"));
        let known = auto();
        assert!(known.of("m") == Prefill::Unknown && known.lacks_list());
        known.list(["llamacpp"].into_iter());
        assert!(known.of("m") == Prefill::Yes && !known.lacks_list());
        known.refuse("m");
        assert_eq!((known.of("m"), known.of("n")), (Prefill::No, Prefill::Yes));
        let openai = Known::new(PrefillSetting::Auto, Some("API.OpenAI.com"));
        openai.list(["system"].into_iter());
        assert!(openai.of("gpt") == Prefill::No && !openai.lacks_list());
        for (setting, is) in [(PrefillSetting::Yes, Prefill::Yes), (PrefillSetting::No, Prefill::No)] {
            let known = Known::new(setting, Some(OPENAI_HOST));
            known.refuse("m");
            assert!(known.of("m") == is && !known.lacks_list());
        }
    }
}
