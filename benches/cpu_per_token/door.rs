//! The ways to ask for an answer: each server has its own path, body and last words.

/// Where a client knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The mock's own, which nginx passes on.
    Completions,
    /// Steerage's native one.
    Sessions,
    /// What `useChat` sends and expects.
    Chat,
    /// Steerage's Chat Completions.
    OpenAiChat,
    /// Steerage's Responses.
    Responses,
}

impl Door {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Sessions => "sessions",
            Self::Chat => "chat",
            Self::OpenAiChat => "openai-chat",
            Self::Responses => "responses",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Completions, Self::Sessions, Self::Chat, Self::OpenAiChat, Self::Responses]
            .into_iter()
            .find(|door| door.name() == name)
    }

    /// Asks for an answer of so many tokens, in a conversation of its own.
    pub(crate) fn request(self, port: u16, id: &str, tokens: u64) -> String {
        let (path, body) = match self {
            Self::Completions => (
                "/v1/chat/completions",
                format!(
                    r#"{{"model":"mock","messages":[{{"role":"user","content":"go"}}],"stream":true,"max_tokens":{tokens}}}"#
                ),
            ),
            Self::Sessions => (
                "/v1/sessions",
                format!(r#"{{"id":"{id}","model":"mock/mock","input":"go","params":{{"max_tokens":{tokens}}}}}"#),
            ),
            Self::Chat => (
                "/v1/ai-sdk/chat",
                format!(
                    r#"{{"id":"{id}","messages":[{{"id":"{id}-1","role":"user","parts":[{{"type":"text","text":"go"}}]}}],"trigger":"submit-message","model":"mock/mock","params":{{"max_tokens":{tokens}}}}}"#
                ),
            ),
            Self::OpenAiChat => (
                "/v1/chat/completions",
                format!(
                    r#"{{"model":"mock/mock","messages":[{{"role":"user","content":"go"}}],"stream":true,"max_tokens":{tokens}}}"#
                ),
            ),
            Self::Responses => (
                "/v1/responses",
                format!(r#"{{"model":"mock/mock","input":"go","stream":true,"max_output_tokens":{tokens}}}"#),
            ),
        };
        format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\nidempotency-key: {id}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Asks for the same answer again, from its start.
    pub(crate) fn resume(self, port: u16, id: &str, tokens: u64) -> String {
        let path = match self {
            // The same request is answered with the same answer.
            Self::OpenAiChat | Self::Responses => return self.request(port, id, tokens),
            Self::Completions => "/has-no-such-thing".to_owned(),
            Self::Sessions => format!("/v1/sessions/{id}/events"),
            Self::Chat => format!("/v1/ai-sdk/chat/{id}/stream"),
        };
        format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n\r\n")
    }

    /// What comes after the last token of a whole answer, and before anything that says it again. Short, so that it is found though it comes in two pieces.
    pub(crate) fn last_words(self) -> &'static [u8] {
        match self {
            Self::Sessions => b"\nevent: run.completed\n",
            Self::Responses => b"event: response.output_text.done",
            Self::Completions | Self::Chat | Self::OpenAiChat => b"data: [DONE]\n",
        }
    }
}
