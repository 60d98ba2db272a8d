//! Runs that outlive their writers: a scripted run with everything in it dies between every two appends, once and twice,
//! and is the same run in the end.
//!
//! `life` is the log and its writers, `cases` are single moments in full, `demo` is the whole server over HTTP.

use serde_json::json;
use steerage::{
    event::{Event, FailureCode, FinishReason, RecoveryMode, ToolFailure},
    provider::{Delta, Message, Prefill, Prompt, Retry},
    session::{
        conversation::CallState,
        state::{Input, Limits, OnCrash},
    },
    spec::Role,
};

use self::life::Life;

mod cases;
mod demo;
mod life;
mod seams;

/// What the model says before its calls, after them, and after the steer.
const TEXTS: [&str; 3] = [
    "I will look at it from both sides.\n\n",
    "The wind is from the west, the sea — as far as one can see — is calm… \nAnd so is the crew of the ship. ",
    "Il fait beau, la mer est calme.",
];

/// How the upstream takes an unfinished answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// It goes on within it, exactly.
    Exact,
    /// It gives all of it back, and goes on.
    Echoes,
    /// It refuses the request.
    Refuses,
    /// It is known not to; asked to go on, it repeats its last words.
    Repeats,
}

impl Kind {
    fn prefill(self) -> Prefill {
        match self {
            Self::Exact => Prefill::Yes,
            Self::Echoes | Self::Refuses => Prefill::Unknown,
            Self::Repeats => Prefill::No,
        }
    }

    /// All that the model says to this prompt, a word at a time; `None` where it refuses it.
    fn answer(self, prompt: &Prompt) -> Option<Vec<Delta>> {
        let said = |at: usize| match prompt.messages.iter().nth_back(at) {
            Some(Message::Assistant { text, .. }) => text.as_str(),
            _ => "",
        };
        let interrupted = matches!(prompt.messages.last(), Some(Message::User(text)) if text.contains("interrupted"));
        let said = if prompt.continues {
            said(0)
        } else if interrupted {
            said(1)
        } else {
            ""
        };
        if prompt.continues && self == Self::Refuses {
            return None;
        }
        let count = |what: fn(&Message) -> bool| prompt.messages.iter().filter(|message| what(message)).count();
        let steered = count(|message| matches!(message, Message::User(text) if text == "en français")) > 0;
        let looked = count(|message| matches!(message, Message::Tool { .. })) > 0;
        let nth = if steered { 2 } else { usize::from(looked) };
        let rest = TEXTS[nth].strip_prefix(said).expect("what was shown is how it begins");
        let again = match self {
            Self::Exact => "",
            // What is short is not taken for an echo.
            Self::Echoes if prompt.continues => said.get(8..).map_or("", |_| said),
            _ => said.rsplit_once(' ').and_then(|(before, _)| before.rsplit_once(' ')).map_or(said, |(before, _)| {
                if said.len() - before.len() > 12 { &said[before.len() + 1..] } else { said }
            }),
        };
        let mut deltas = Vec::new();
        if said.is_empty() && nth == 0 {
            deltas.extend(["Hm, ", "let me see."].map(|text| Delta::Reasoning { text: text.into(), lossy: false }));
        }
        let words = [again, rest].concat();
        deltas.extend(words.split_inclusive(' ').map(|text| Delta::Text { text: text.into(), lossy: false }));
        if nth == 0 {
            for (index, name) in (0..).zip(["act", "look", "asks", "theirs"]) {
                deltas.push(Delta::ToolCall { index, id: Some(format!("call_{index}")), name: name.into() });
                deltas.extend(["{\"n\"", ":1}"].map(|f| Delta::Arguments { index, fragment: f.into() }));
            }
        }
        deltas.push(Delta::End { finish_reason: FinishReason::Stop, usage: None, warning: None });
        Some(deltas)
    }
}

/// Plays the run to its end; the writer dies after the appends that are named.
fn play(kind: Kind, limits: Limits, deaths: &[usize]) -> Life {
    let mut life = Life::limited(kind.prefill(), limits);
    let mut deaths = deaths.iter().copied().peekable();
    let mut answer: Option<(Prompt, std::vec::IntoIter<Delta>)> = None;
    life.begin();
    while life.runs() {
        if deaths.next_if(|death| life.appends >= *death).is_some() {
            life.crash();
            answer = None;
            continue;
        }
        life.now.0 += 20;
        let fold = &life.state.fold;
        let steered = fold
            .conversation
            .messages
            .iter()
            .any(|message| message.role == Role::User && message.text() == "en français");
        let with_client = fold.conversation.newest_calls().find(|call| call.state == CallState::Ready);
        let with_client = with_client.map(|call| call.call_id.clone());
        let shown = fold.conversation.growing().map(|message| message.text()).unwrap_or_default();
        if shown.ends_with("as far as ") && !steered {
            life.command(json!({"type": "steer", "content": "en français", "when": "now"}));
        } else if let Some(prompt) = &life.asked {
            if answer.as_ref().is_none_or(|(of, _)| of != prompt) {
                match kind.answer(prompt) {
                    Some(deltas) => answer = Some((prompt.clone(), deltas.into_iter())),
                    None => {
                        life.fails(FailureCode::UpstreamRejected, Retry::Never);
                        continue;
                    }
                }
            }
            let (_, deltas) = answer.as_mut().expect("it answers");
            life.hears(deltas.next().expect("an answer has an end"));
        } else if let Some((_, call)) = life.tools.pop() {
            life.step(Input::ToolDone { call_id: call.call_id, result: Ok(json!("done")) });
        } else if let Some(approval_id) = fold.open_approvals.first() {
            life.command(json!({"type": "approve", "approval_id": approval_id}));
        } else if let Some(call_id) = with_client {
            life.command(json!({"type": "tool_result", "call_id": call_id, "output": 7}));
        } else {
            life.waits();
        }
    }
    life
}

/// What must be true of the run however often its writer died.
fn judge(kind: Kind, life: &Life, deaths: &[usize]) {
    let told = || format!("{kind:?}, dead after {deaths:?}: {:#?}", life.outline(0));
    let of = |kind: &str| life.count(kind);
    assert_eq!((of("run.started"), of("run.completed")), (1, 1), "{}", told());
    assert_eq!(
        life.texts().concat(),
        {
            let cut = TEXTS[1].find("as far as ").expect("the place of the steer") + "as far as ".len();
            [TEXTS[0], &TEXTS[1][..cut], TEXTS[2]].concat()
        },
        "{}",
        told()
    );
    assert_eq!(life.texts().len(), 3, "an unfinished text goes on in its block: {}", told());
    let answered = life.state.fold.conversation.messages.iter().filter(|message| message.role == Role::Assistant);
    assert_eq!(answered.count(), 3, "and in its message: {}", told());
    assert_eq!((of("approval.requested"), of("approval.resolved")), (1, 1), "{}", told());
    let mut started = std::collections::BTreeMap::new();
    let mut recoveries = 0;
    for stamped in &life.log {
        match &stamped.event {
            Event::ToolStarted { call_id, attempt } => drop(started.insert(call_id.clone(), *attempt)),
            Event::ToolFailed { code, .. } => {
                assert!(matches!(code, ToolFailure::Interrupted | ToolFailure::OutcomeUnknown), "{code:?}: {}", told())
            }
            Event::RunRecovered { attempt, mode, .. } => {
                recoveries = *attempt;
                assert!(kind != Kind::Exact || *mode != RecoveryMode::Continue);
                assert!(kind != Kind::Repeats || *mode != RecoveryMode::Prefill);
            }
            _ => {}
        }
    }
    let again = started.values().filter(|attempt| **attempt > 1).count();
    assert_eq!(started.len(), 3, "{}", told());
    assert!(again <= 1 && recoveries as usize <= deaths.len(), "{}", told());
    assert_eq!(life.state.fold.receipts.len() - 4, 0, "send, approve, tool_result and steer, once each: {}", told());
}

const KINDS: [Kind; 4] = [Kind::Exact, Kind::Echoes, Kind::Refuses, Kind::Repeats];

#[test]
fn r8_r9_r10_r12_a_run_outlives_its_writer_wherever_that_dies() {
    for kind in KINDS {
        let whole = play(kind, Limits::default(), &[]);
        judge(kind, &whole, &[]);
        assert_eq!(whole.count("run.recovered"), 0);
        assert!(whole.appends > 40, "a run with something in it: {}", whole.appends);
        for death in 1..whole.appends {
            judge(kind, &play(kind, Limits::default(), &[death]), &[death]);
        }
    }
}

#[test]
fn r8_r9_r10_r12_and_outlives_the_next_one_too() {
    for kind in KINDS {
        let appends = play(kind, Limits::default(), &[]).appends;
        for first in 1..appends {
            // Right after the first, in the middle of the recovery, and anywhere later.
            for second in [first, first + 1, first + 2, first + 3, first + 5, first + 8, first + 13, first + 21] {
                let deaths = [first, second, second + 1];
                judge(kind, &play(kind, Limits::default(), &deaths), &deaths);
            }
        }
    }
}

#[test]
fn r8_where_the_server_is_set_to_fail_a_run_ends_with_its_writer() {
    let limits = || Limits { on_crash: OnCrash::Fail, ..Limits::default() };
    let appends = play(Kind::Exact, limits(), &[]).appends;
    for death in 1..appends {
        let life = play(Kind::Exact, limits(), &[death]);
        let ends: Vec<_> = life.log.iter().filter(|stamped| stamped.event.ends_run()).collect();
        let Event::RunFailed { code: FailureCode::OwnerLost, partial, .. } = ends[0].event else { panic!("{ends:?}") };
        // The first append asks the model; the second shows something.
        assert_eq!((ends.len(), partial, life.count("run.recovered")), (1, death > 1, 0));
    }
}
