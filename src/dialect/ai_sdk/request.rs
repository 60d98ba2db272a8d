//! What an AI SDK client asks for: its messages, read leniently, and what they mean for a session.
//!
//! Clients of three major versions send parts of many kinds, and applications add keys of their own. What is not needed
//! is passed over; what would be lost without a word (a file) is refused.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::{
    command::Said,
    id::{InvalidId, MessageId},
    spec::Role,
};

/// Messages of one history: more than any page shows, and few enough to be compared between two tokens.
pub const HISTORY_MESSAGES_MAX: usize = 10_000;

/// The body of a `POST`, and the part of a WebSocket `send` that is the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// The chat.
    pub id: Option<String>,
    /// The whole history.
    pub messages: Option<Vec<UiMessage>>,
    /// The last message alone: what the SDK's page on persistence recommends.
    pub message: Option<UiMessage>,
    /// What the user did.
    #[serde(default)]
    pub trigger: Trigger,
    /// The message that it was done to.
    pub message_id: Option<String>,
}

/// What the user did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Said something, edited what was said, or answered what the last message asked.
    #[default]
    SubmitMessage,
    /// Asked for another answer.
    RegenerateMessage,
}

/// A message as the SDK keeps it.
#[derive(Clone, Debug, Deserialize)]
pub struct UiMessage {
    id: Option<String>,
    role: Role,
    #[serde(default, deserialize_with = "parts")]
    parts: Vec<Part>,
}

/// What is kept of a part.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Step,
    File,
    Tool(Box<ToolPart>),
}

#[derive(Clone, Debug)]
struct ToolPart {
    call_id: String,
    answer: Option<ClientAnswer>,
}

/// Reads parts one by one and keeps what is needed: a body may have a great many that say nothing.
fn parts<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Part>, D::Error> {
    struct Parts;

    impl<'de> de::Visitor<'de> for Parts {
        type Value = Vec<Part>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of parts")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Part>, A::Error> {
            let mut kept = Vec::new();
            while let Some(part) = seq.next_element::<UiPart>()? {
                kept.extend(part.kept());
            }
            Ok(kept)
        }
    }

    d.deserialize_seq(Parts)
}

/// A part as it is sent. Fields that a kind of part does not have are absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UiPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    state: Option<String>,
    tool_call_id: Option<String>,
    output: Option<Value>,
    error_text: Option<String>,
    approval: Option<UiApproval>,
}

#[derive(Deserialize)]
struct UiApproval {
    id: String,
    approved: Option<bool>,
    reason: Option<String>,
}

/// What a submission means.
#[derive(Debug, PartialEq)]
pub enum Intent {
    /// Something new is said, or something old anew.
    Say {
        /// What.
        content: String,
        /// Its name at the client.
        message_id: Option<MessageId>,
        /// What the client has before it; `None` where it sent the message alone.
        history: Option<Vec<Said>>,
        /// How sure it is that a message of that name is said anew, and not the same request once more.
        anew: Anew,
    },
    /// Another answer.
    Regenerate {
        /// What is answered, or answered again; `None` for the newest. Beside a history, the answer that is not wanted.
        message_id: Option<MessageId>,
        /// What the client has, up to the question.
        history: Option<Vec<Said>>,
    },
    /// Answers to what the last message asked of the client.
    FollowUp {
        /// That message.
        message_id: String,
        /// Every call of its last step.
        calls: Vec<String>,
        /// What the client says to them.
        answers: Vec<ClientAnswer>,
    },
}

/// Whether a message that was said before is said anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anew {
    /// It is: the client has named it as the one that was edited.
    Yes,
    /// It is if it says something else: a message that is sent alone cannot tell.
    IfChanged,
    /// It is not: a request that was given up may come late.
    No,
}

/// What a client says to one call.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAnswer {
    /// To a request for approval.
    Decision {
        /// Of which call.
        call_id: String,
        /// Which.
        approval_id: String,
        /// Yes or no.
        approved: bool,
        /// Why.
        reason: Option<String>,
    },
    /// What its tool gave.
    Output {
        /// Of which call.
        call_id: String,
        /// What, or why there is nothing.
        result: Result<Value, String>,
    },
}

impl ClientAnswer {
    /// The call whose result this is.
    pub fn result_of(&self) -> Option<&str> {
        match self {
            Self::Decision { .. } => None,
            Self::Output { call_id, .. } => Some(call_id),
        }
    }

    /// The call that is answered.
    pub fn call_id(&self) -> &str {
        match self {
            Self::Decision { call_id, .. } | Self::Output { call_id, .. } => call_id,
        }
    }
}

/// Why a submission cannot be understood, in words for a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubmission {
    /// There is no message where one is due.
    #[error("there is no message; send messages, or message")]
    NoMessage,
    /// The newest message is nobody's question.
    #[error("the last message is a user's, or an answer that is followed up")]
    NotAsked,
    /// More messages than any page shows.
    #[error("a history has at most {HISTORY_MESSAGES_MAX} messages")]
    TooMany,
    /// A message says nothing.
    #[error("the message has no text")]
    NoText,
    /// A file would be lost.
    #[error("files are not supported here yet; send text")]
    File,
    /// A message's id is not one.
    #[error("a message's id: {0}")]
    Id(#[from] InvalidId),
}

impl Intent {
    /// Whether there is something in it that a chat can begin with.
    pub fn can_begin(&self) -> bool {
        match self {
            Self::Say { .. } => true,
            Self::Regenerate { history, .. } => {
                history.as_ref().and_then(|history| history.last()).is_some_and(|last| last.role == Role::User)
            }
            Self::FollowUp { .. } => false,
        }
    }
}

impl Submission {
    /// What it means.
    pub fn intent(self) -> Result<Intent, InvalidSubmission> {
        let Self { messages, message, trigger, message_id, .. } = self;
        if trigger == Trigger::RegenerateMessage {
            return regenerate(messages, message, message_id.as_deref());
        }
        let alone = messages.is_none();
        let mut messages = messages.unwrap_or_else(|| message.into_iter().collect());
        let named = |m: &UiMessage| m.role == Role::Assistant && m.id.is_some() && m.id == message_id;
        let last = messages.last().ok_or(InvalidSubmission::NoMessage)?;
        let answered = messages.iter().rfind(|m| named(m)).or(Some(last).filter(|m| m.role == Role::Assistant));
        if let Some(answered) = answered {
            return Ok(answered.follow_up());
        }
        let said = messages.pop().filter(|said| said.role == Role::User).ok_or(InvalidSubmission::NotAsked)?;
        let content = said.said()?;
        if content.trim().is_empty() {
            return Err(InvalidSubmission::NoText);
        }
        let anew = match () {
            () if message_id.is_some() && said.id == message_id => Anew::Yes,
            () if alone => Anew::IfChanged,
            () => Anew::No,
        };
        let message_id = said.id.as_deref().map(str::parse).transpose()?;
        let history = if alone { None } else { Some(history(messages)?) };
        Ok(Intent::Say { content, message_id, history, anew })
    }
}

fn regenerate(
    messages: Option<Vec<UiMessage>>,
    message: Option<UiMessage>,
    message_id: Option<&str>,
) -> Result<Intent, InvalidSubmission> {
    if let Some(mut messages) = messages {
        // The SDK cuts the answer off; a client of its own making may have left it.
        let uncut =
            |m: &&UiMessage| m.role == Role::Assistant && (message_id.is_none() || m.id.as_deref() == message_id);
        if messages.last().filter(uncut).is_some() {
            messages.pop();
        }
        // A name that is none of ours is an answer that the application has named.
        let message_id = message_id.and_then(|id| id.parse().ok());
        return Ok(Intent::Regenerate { message_id, history: Some(history(messages)?) });
    }
    let id = message_id.or(message.as_ref().and_then(|m| m.id.as_deref()));
    Ok(Intent::Regenerate { message_id: id.map(str::parse).transpose()?, history: None })
}

fn history(messages: Vec<UiMessage>) -> Result<Vec<Said>, InvalidSubmission> {
    if messages.len() > HISTORY_MESSAGES_MAX {
        return Err(InvalidSubmission::TooMany);
    }
    let said = |message: UiMessage| {
        let id = message.id.as_deref().unwrap_or_default();
        Ok(Said { message_id: id.parse()?, role: message.role, content: message.said()? })
    };
    messages.into_iter().map(said).collect()
}

impl UiMessage {
    /// What it says, as text. An answer's parts are pieces of one text; a person's are paragraphs.
    fn said(&self) -> Result<String, InvalidSubmission> {
        if self.role != Role::Assistant && self.parts.iter().any(|part| matches!(part, Part::File)) {
            return Err(InvalidSubmission::File);
        }
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let between = if self.role == Role::Assistant { "" } else { "\n\n" };
        Ok(texts.collect::<Vec<_>>().join(between))
    }

    /// The calls of its last step, and what the client says to them. Earlier steps were over before it was asked.
    fn follow_up(&self) -> Intent {
        let last_step = self.parts.iter().rposition(|part| matches!(part, Part::Step)).map_or(0, |at| at + 1);
        let tools = || {
            self.parts[last_step..].iter().filter_map(|part| match part {
                Part::Tool(tool) => Some(&**tool),
                _ => None,
            })
        };
        let calls = tools().map(|tool| tool.call_id.clone()).collect();
        let answers = tools().filter_map(|tool| tool.answer.clone()).collect();
        Intent::FollowUp { message_id: self.id.clone().unwrap_or_default(), calls, answers }
    }
}

impl UiPart {
    fn kept(self) -> Option<Part> {
        match self.kind.as_str() {
            "text" => self.text.map(Part::Text),
            "step-start" => Some(Part::Step),
            "file" => Some(Part::File),
            _ => {
                let call_id = self.tool_call_id.clone()?;
                Some(Part::Tool(Box::new(ToolPart { call_id, answer: self.answer() })))
            }
        }
    }

    fn answer(self) -> Option<ClientAnswer> {
        let call_id = self.tool_call_id?;
        match self.state.as_deref()? {
            "approval-responded" => {
                let UiApproval { id, approved, reason } = self.approval?;
                Some(ClientAnswer::Decision { call_id, approval_id: id, approved: approved?, reason })
            }
            "output-available" => {
                let result = Ok(self.output.unwrap_or_default());
                Some(ClientAnswer::Output { call_id, result })
            }
            "output-error" => {
                let result = Err(self.error_text.unwrap_or_default());
                Some(ClientAnswer::Output { call_id, result })
            }
            _ => None,
        }
    }
}
