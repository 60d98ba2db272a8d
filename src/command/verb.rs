//! What may be done to a session, in the words in which it is allowed to somebody, and which of them a command needs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Command, IfIdle, IfRunning};

/// One thing that may be done to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// See it: snapshot, events, on every transport.
    Read,
    /// Say the next thing, answer again, give what a client's tool produced.
    Send,
    /// Say something to the running run.
    Steer,
    /// End the running run.
    Cancel,
    /// Let a tool call run, or refuse it.
    Approve,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Send, Self::Steer, Self::Cancel, Self::Approve];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Steer => "steer",
            Self::Cancel => "cancel",
            Self::Approve => "approve",
        })
    }
}

/// Some of the verbs; as JSON a list of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verbs(u8);

impl Verbs {
    /// Every verb.
    pub const ALL: Self = Self((1 << Verb::ALL.len()) - 1);

    /// Whether this one is among them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// Whether all of these are among them.
    pub fn cover(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.has(*verb))
    }

    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |all, verb| all | verb.bit()))
    }
}

impl Serialize for Verbs {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Verbs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let verbs = Vec::<Verb>::deserialize(d)?;
        // Whoever writes one twice has meant another one.
        let all: Self = verbs.iter().copied().collect();
        match all.iter().count() == verbs.len() {
            true => Ok(all),
            false => Err(D::Error::custom("a verb is there twice")),
        }
    }
}

impl Command {
    /// The first verb that it needs and that is not among these: what a command does may be more than its name says.
    pub fn verb_missing(&self, may: Verbs) -> Option<Verb> {
        let needs: &[Verb] = match self {
            Self::Cancel(_) => &[Verb::Cancel],
            // Where nothing runs it would start a run.
            Self::Steer(steer) if steer.if_idle == IfIdle::Start => &[Verb::Steer, Verb::Send],
            Self::Steer(_) => &[Verb::Steer],
            Self::Approve(_) | Self::Deny(_) => &[Verb::Approve],
            Self::ToolResult(_) => &[Verb::Send],
            Self::Send(send) => match send.if_running {
                IfRunning::Cancel => &[Verb::Send, Verb::Cancel],
                IfRunning::Steer => &[Verb::Send, Verb::Steer],
                IfRunning::Queue | IfRunning::Reject => &[Verb::Send],
            },
            // A running run is cancelled.
            Self::Regenerate(_) => &[Verb::Send, Verb::Cancel],
            // What was said, taken back by whoever may say it.
            Self::Withdraw(_) if may.has(Verb::Send) => &[],
            Self::Withdraw(_) => &[Verb::Steer],
        };
        needs.iter().copied().find(|verb| !may.has(*verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(command: &str, verbs: &str) -> Option<Verb> {
        let command = Command::decode(command.as_bytes()).unwrap();
        command.verb_missing(serde_json::from_str(verbs).unwrap())
    }

    #[test]
    fn a_list_of_names_is_strict() {
        let verbs: Verbs = serde_json::from_str(r#"["cancel","read"]"#).unwrap();
        assert_eq!(serde_json::to_string(&verbs).unwrap(), r#"["read","cancel"]"#);
        assert!(verbs.has(Verb::Read) && !verbs.has(Verb::Send) && Verbs::ALL.cover(verbs) && !verbs.cover(Verbs::ALL));
        for bad in [r#"["read","read"]"#, r#"["Read"]"#, r#"["delete"]"#, r#""read""#, "31", "null"] {
            assert!(serde_json::from_str::<Verbs>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Verbs>("[]").unwrap().is_empty());
    }

    #[test]
    fn what_a_command_does_beside_its_name_needs_its_own_verb() {
        let table = [
            (r#"{"type":"cancel"}"#, r#"["cancel"]"#, None),
            (r#"{"type":"cancel"}"#, r#"["read","send","steer","approve"]"#, Some(Verb::Cancel)),
            (r#"{"type":"send","content":"x"}"#, r#"["send"]"#, None),
            (r#"{"type":"send","content":"x","if_running":"cancel"}"#, r#"["send"]"#, Some(Verb::Cancel)),
            (r#"{"type":"send","content":"x","if_running":"steer"}"#, r#"["send"]"#, Some(Verb::Steer)),
            (r#"{"type":"steer","content":"x"}"#, r#"["steer"]"#, Some(Verb::Send)),
            (r#"{"type":"steer","content":"x","if_idle":"reject"}"#, r#"["steer"]"#, None),
            (r#"{"type":"regenerate"}"#, r#"["send"]"#, Some(Verb::Cancel)),
            (r#"{"type":"withdraw","target":"c"}"#, r#"["send"]"#, None),
            (r#"{"type":"withdraw","target":"c"}"#, r#"["steer"]"#, None),
            (r#"{"type":"withdraw","target":"c"}"#, r#"["cancel","approve"]"#, Some(Verb::Steer)),
            (r#"{"type":"approve","approval_id":"a"}"#, r#"["send","steer","cancel"]"#, Some(Verb::Approve)),
            (r#"{"type":"deny","approval_id":"a"}"#, r#"["approve"]"#, None),
            (r#"{"type":"tool_result","call_id":"c","output":1}"#, r#"["approve"]"#, Some(Verb::Send)),
        ];
        for (command, verbs, expected) in table {
            assert_eq!(missing(command, verbs), expected, "{command} with {verbs}");
        }
    }
}
