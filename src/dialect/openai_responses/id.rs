//! Names of responses and of their items: they say where in which log the thing is, so that no table of them is kept.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::id::{ApprovalId, EventId, InvalidId, SessionId};

/// `resp_{session}_{epoch}_{seq}`: the run of that session whose first event is there. `.{n}` follows, from 2, for what
/// its later turns answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResponseId {
    /// The session.
    pub session: SessionId,
    /// The run's first event.
    pub run: EventId,
    /// Which turn of the run, from 1.
    pub turn: u32,
}

const RESPONSE_RULE: InvalidId =
    InvalidId("a response id is resp_SESSION_EPOCH_SEQ, or that with .TURN, as the server sent it");
const ITEM_RULE: InvalidId = InvalidId("an item id is KIND_SESSION_EPOCH_SEQ as the server sent it");

impl fmt::Display for ResponseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resp_{}_{}_{}", self.session, self.run.epoch, self.run.seq)?;
        if self.turn > 1 { write!(f, ".{}", self.turn) } else { Ok(()) }
    }
}

impl FromStr for ResponseId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rest = text.strip_prefix("resp_").ok_or(RESPONSE_RULE)?;
        let (head, last) = rest.rsplit_once('_').ok_or(RESPONSE_RULE)?;
        let (seq, turn) = match last.split_once('.') {
            None => (last, 1),
            Some((seq, turn)) => (seq, later_turn(turn).ok_or(RESPONSE_RULE)?),
        };
        let (session, run) = place(head, seq).ok_or(RESPONSE_RULE)?;
        Ok(Self { session, run, turn })
    }
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A text.
    Message,
    /// A thought.
    Reasoning,
    /// A call that the client runs.
    FunctionCall,
    /// What the client's run of it gave.
    FunctionOutput,
    /// A call that the server runs.
    McpCall,
    /// A person is asked about a call.
    ApprovalRequest,
}

impl ItemKind {
    const ALL: [Self; 6] = [
        Self::Message,
        Self::Reasoning,
        Self::FunctionCall,
        Self::FunctionOutput,
        Self::McpCall,
        Self::ApprovalRequest,
    ];

    /// What the ids of such items begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Message => "msg",
            Self::Reasoning => "rs",
            Self::FunctionCall => "fc",
            Self::FunctionOutput => "fco",
            Self::McpCall => "mcp",
            Self::ApprovalRequest => "mcpr",
        }
    }
}

/// `{prefix}_{session}_{epoch}_{seq}` of the event that began the item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ItemId {
    /// What it is.
    pub kind: ItemKind,
    /// The session.
    pub session: SessionId,
    /// The event that began it: of a block its start, of a request `approval.requested`, of an output the call's end.
    pub event: EventId,
}

impl ItemId {
    /// The item of a request. `None` for a name that is not of our making.
    pub fn of_approval(session: SessionId, approval_id: &ApprovalId) -> Option<Self> {
        let (epoch, seq) = approval_id.as_str().strip_prefix("apr_")?.split_once('_')?;
        let event = format!("{epoch}.{seq}").parse().ok()?;
        Some(Self { kind: ItemKind::ApprovalRequest, session, event })
    }

    /// The session that an item of that name is in, also of one that an event brought along beside others: their names end
    /// in `.{n}`.
    pub fn session_of(name: &str) -> Option<SessionId> {
        let (head, last) = name.rsplit_once('_')?;
        let first = last.split_once('.').map_or(last, |(seq, _)| seq);
        format!("{head}_{first}").parse().ok().map(|id: Self| id.session)
    }

    /// The request that the item shows, if it shows one.
    pub fn approval_id(&self) -> Option<ApprovalId> {
        let id = || format!("apr_{}_{}", self.event.epoch, self.event.seq).parse().ok();
        (self.kind == ItemKind::ApprovalRequest).then(id)?
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}_{}", self.kind.prefix(), self.session, self.event.epoch, self.event.seq)
    }
}

impl FromStr for ItemId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (prefix, rest) = text.split_once('_').ok_or(ITEM_RULE)?;
        let kind = ItemKind::ALL.into_iter().find(|kind| kind.prefix() == prefix).ok_or(ITEM_RULE)?;
        let (head, seq) = rest.rsplit_once('_').ok_or(ITEM_RULE)?;
        let (session, event) = place(head, seq).ok_or(ITEM_RULE)?;
        Ok(Self { kind, session, event })
    }
}

impl Serialize for ResponseId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for ItemId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// `{session}_{epoch}` and a position. The name of a session may have `_` in it: what we put behind it has none.
fn place(head: &str, seq: &str) -> Option<(SessionId, EventId)> {
    let (session, epoch) = head.rsplit_once('_')?;
    Some((session.parse().ok()?, format!("{epoch}.{seq}").parse().ok()?))
}

/// Only the form that is sent.
fn later_turn(text: &str) -> Option<u32> {
    let turn: u32 = text.parse().ok()?;
    (turn > 1 && turn.to_string() == text).then_some(turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_found_whatever_its_session_is_called() {
        for session in ["s", "a_b", "resp_x", "a.2", "a_k7q2mx_5", "a_k7q2mx_5.2", "a-_.", &"x".repeat(64)] {
            for run in ["k7q2mx.1", "000000.18446744073709551615"] {
                for turn in [1, 2, u32::MAX] {
                    let id = ResponseId { session: session.parse().unwrap(), run: run.parse().unwrap(), turn };
                    assert_eq!(id.to_string().parse().as_ref(), Ok(&id), "{id}");
                }
                for kind in ItemKind::ALL {
                    let id = ItemId { kind, session: session.parse().unwrap(), event: run.parse().unwrap() };
                    assert_eq!(id.to_string().parse().as_ref(), Ok(&id), "{id}");
                    assert_eq!(id.approval_id().is_some(), kind == ItemKind::ApprovalRequest);
                }
            }
        }
        let text = "resp_s_k7q2mx_12.3";
        assert_eq!(text.parse::<ResponseId>().unwrap().to_string(), text);
    }

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        for bad in [
            "",
            "resp_",
            "resp_s",
            "resp_s_k7q2mx",
            "resp_s_k7q2mx_",
            "resp__k7q2mx_1",
            "resp_k7q2mx_1",
            "resp_s_k7q2mx_0",
            "resp_s_k7q2mx_01",
            "resp_s_k7q2mx_+1",
            "resp_s_K7Q2MX_1",
            "resp_s_k7q2m_1",
            "resp_s_k7q2mx_1.",
            "resp_s_k7q2mx_1.0",
            "resp_s_k7q2mx_1.1",
            "resp_s_k7q2mx_1.02",
            "resp_s_k7q2mx_1.+2",
            "resp_s_k7q2mx_1.2.3",
            "resp_s_k7q2mx_1.4294967296",
            "resp_s_k7q2mx.1",
            "Resp_s_k7q2mx_1",
            "resp_-s_k7q2mx_1",
            "resp_a/b_k7q2mx_1",
            "resp_s_k7q2mx_1\n",
            " resp_s_k7q2mx_1",
        ] {
            assert!(bad.parse::<ResponseId>().is_err(), "{bad:?}");
        }
        for bad in ["", "msg", "msg_s", "msg_k7q2mx_1", "xyz_s_k7q2mx_1", "msg_s_k7q2mx_1.2", "mcp_s_k7q2mx_01"] {
            assert!(bad.parse::<ItemId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_and_its_item_name_each_other() {
        let approval_id: ApprovalId = "apr_k7q2mx_9".parse().unwrap();
        let item = ItemId::of_approval("a_b".parse().unwrap(), &approval_id).unwrap();
        assert_eq!((item.to_string().as_str(), item.approval_id()), ("mcpr_a_b_k7q2mx_9", Some(approval_id)));
        for foreign in ["x", "apr_k7q2mx", "apr_k7q2mx_0", "apr_K_1"] {
            assert_eq!(ItemId::of_approval("s".parse().unwrap(), &foreign.parse().unwrap()), None);
        }
    }
}
