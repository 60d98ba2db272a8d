//! What is shown of an event. Answers go to standard output and nothing else does, so that they can be piped on; all
//! that is said about them goes to standard error.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde_json::Value;
use steerage::{
    event::{ApprovalOutcome, Event, FinishReason, ToolFailure},
    id::{CallId, CommandId},
    spec::{Role, clip},
};

/// Bytes of arguments and outputs that are shown.
const SHOWN_BYTES_MAX: usize = 300;

/// How to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Standard output is a terminal: control characters of foreign text must not reach it.
    pub(crate) out_is_terminal: bool,
    /// Standard error is one.
    pub(crate) err_is_terminal: bool,
    /// Standard error takes colours.
    pub(crate) colour: bool,
}

/// Text for one of the two outputs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Answer(String),
    Aside(String),
}

/// Turns events into text, and knows whether a line is unfinished.
pub(crate) struct Screen {
    look: Look,
    /// Standard output ended without a new line.
    answer_open: bool,
    /// Standard error did.
    aside_open: bool,
    tools: HashMap<CallId, String>,
    /// Commands given here: their words are on the screen already.
    pub(crate) ours: HashSet<CommandId>,
}

#[derive(Clone, Copy)]
enum Tone {
    Dim,
    Good,
    Warn,
    Bad,
}

impl Screen {
    pub(crate) fn new(look: Look) -> Self {
        Self { look, answer_open: false, aside_open: false, tools: HashMap::new(), ours: HashSet::new() }
    }

    /// The Enter key has moved the cursor to the start of a line.
    pub(crate) fn line_entered(&mut self) {
        self.aside_open = false;
        if self.look.out_is_terminal {
            self.answer_open = false;
        }
    }

    /// A dim line.
    pub(crate) fn note(&mut self, text: &str) -> Out {
        self.line(Tone::Dim, text)
    }

    /// A line that should be seen.
    pub(crate) fn alarm(&mut self, text: &str) -> Out {
        self.line(Tone::Bad, text)
    }

    /// A question whose answer is typed behind it.
    pub(crate) fn ask(&mut self, text: &str) -> Out {
        let question = format!("{}{}", self.break_line(), self.toned(Tone::Warn, text));
        self.aside_open = true;
        Out::Aside(question)
    }

    /// What an event looks like.
    pub(crate) fn draw(&mut self, event: &Event) -> Vec<Out> {
        match event {
            Event::InputAdded { role: Role::User, content, command_id, .. } => match command_id {
                Some(id) if self.ours.contains(id) => vec![],
                _ => vec![self.note(&format!("> {content}"))],
            },
            Event::RunStarted { model, demo: true, .. } => {
                vec![self.note(&format!("({model}: demo text, not a language model)"))]
            }
            Event::StepStarted { step, attempt, .. } if *attempt > 1 => {
                vec![self.note(&format!("(model call {step}, attempt {attempt})"))]
            }
            Event::StepEnded { finish_reason: FinishReason::Steered, .. } => {
                self.end_answer().into_iter().chain([self.note("↳ steered")]).collect()
            }
            Event::TextDelta { text, .. } => self.answer(text),
            Event::TextEnded { .. } => self.end_answer().into_iter().collect(),
            Event::ReasoningDelta { text, .. } => vec![self.reasoning(text)],
            Event::ReasoningEnded { .. } => vec![Out::Aside(self.break_line().to_owned())],
            Event::ToolCallReady { call_id, name, arguments, .. } => {
                self.tools.insert(call_id.clone(), name.clone());
                vec![self.tool(call_id, Tone::Dim, &shown(arguments))]
            }
            Event::ApprovalRequested { call_id, .. } => vec![self.tool(call_id, Tone::Warn, "waits for a yes")],
            Event::ApprovalResolved { outcome, edited_arguments, .. } => {
                let outcome = match outcome {
                    ApprovalOutcome::Approved => "approved",
                    ApprovalOutcome::Denied => "denied",
                    ApprovalOutcome::TimedOut => "not answered in time",
                    ApprovalOutcome::Cancelled => "cancelled",
                    ApprovalOutcome::Superseded => "a later message took its place",
                };
                let edited = edited_arguments.as_ref().map(|edited| format!(" with {}", shown(edited)));
                vec![self.note(&format!("  {outcome}{}", edited.unwrap_or_default()))]
            }
            Event::ToolStarted { call_id, .. } => vec![self.tool(call_id, Tone::Dim, "runs")],
            Event::ToolCompleted { call_id, output } => {
                vec![self.tool(call_id, Tone::Good, &format!("gave {}", shown(output)))]
            }
            Event::ToolFailed { call_id, code, message } => {
                vec![self.tool(call_id, Tone::Bad, &format!("{}: {message}", failure(*code)))]
            }
            Event::CommandAccepted { content, .. } => vec![self.note(&format!("  waits: {content}"))],
            Event::CommandWithdrawn { content, .. } => vec![self.note(&format!("  taken back: {content}"))],
            Event::RunCompleted { finish_reason, .. } => {
                let mut outs: Vec<Out> = self.end_answer().into_iter().collect();
                match finish_reason {
                    FinishReason::Length => outs.push(self.note("(the answer reached its length limit)")),
                    FinishReason::ContentFilter => outs.push(self.note("(the provider's filter ended the answer)")),
                    _ => {}
                }
                outs
            }
            Event::RunCancelled { .. } => self.end_answer().into_iter().chain([self.note("■ cancelled")]).collect(),
            Event::RunFailed { code, message, .. } => {
                let code = serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned));
                let text = format!("✗ failed ({}): {message}", code.unwrap_or_default());
                self.end_answer().into_iter().chain([self.alarm(&text)]).collect()
            }
            Event::SessionClosed { .. } => vec![self.alarm("the session has ended")],
            _ => vec![],
        }
    }

    fn answer(&mut self, text: &str) -> Vec<Out> {
        let mut outs = Vec::new();
        if std::mem::take(&mut self.aside_open) && self.look.err_is_terminal {
            outs.push(Out::Aside("\n".into()));
        }
        if !text.is_empty() {
            self.answer_open = !text.ends_with('\n');
            outs.push(Out::Answer(if self.look.out_is_terminal { plain(text).into_owned() } else { text.to_owned() }));
        }
        outs
    }

    fn end_answer(&mut self) -> Option<Out> {
        std::mem::take(&mut self.answer_open).then(|| Out::Answer("\n".into()))
    }

    fn reasoning(&mut self, text: &str) -> Out {
        let start = if self.aside_open { "" } else { self.break_line() };
        self.aside_open = !text.ends_with('\n');
        Out::Aside(format!("{start}{}", self.toned(Tone::Dim, text)))
    }

    fn tool(&mut self, call: &CallId, tone: Tone, text: &str) -> Out {
        let name = self.tools.get(call).map_or("a tool", String::as_str);
        let text = format!("⚙ {name}: {text}");
        self.line(tone, &text)
    }

    fn line(&mut self, tone: Tone, text: &str) -> Out {
        let start = self.break_line();
        Out::Aside(format!("{start}{}\n", self.toned(tone, text)))
    }

    /// What must be written to standard error so that it is at the start of a line: an unfinished answer is in the way
    /// only where both are the same screen.
    fn break_line(&mut self) -> &'static str {
        let same_screen = self.look.out_is_terminal && self.look.err_is_terminal;
        let answer_in_the_way = same_screen && std::mem::take(&mut self.answer_open);
        if std::mem::take(&mut self.aside_open) || answer_in_the_way { "\n" } else { "" }
    }

    fn toned(&self, tone: Tone, text: &str) -> String {
        let text = plain(text);
        if !self.look.colour {
            return text.into_owned();
        }
        let code = match tone {
            Tone::Dim => 2,
            Tone::Good => 32,
            Tone::Warn => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Text without what a terminal would obey: a model could otherwise move the cursor, or write to the clipboard.
fn plain(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(obeyed) { text.replace(obeyed, "\u{fffd}").into() } else { text.into() }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let clipped = clip(&text, SHOWN_BYTES_MAX);
    format!("{clipped}{}", if clipped.len() < text.len() { "…" } else { "" })
}

fn failure(code: ToolFailure) -> &'static str {
    match code {
        ToolFailure::DeniedByUser => "denied",
        ToolFailure::ApprovalTimedOut => "not answered in time",
        ToolFailure::Interrupted => "interrupted",
        ToolFailure::OutcomeUnknown => "outcome unknown",
        ToolFailure::Error => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(terminal: bool, colour: bool) -> Screen {
        Screen::new(Look { out_is_terminal: terminal, err_is_terminal: terminal, colour })
    }

    fn delta(text: &str) -> Event {
        Event::TextDelta { block: 1, text: text.into(), lossy: false }
    }

    #[test]
    fn an_answer_alone_reaches_standard_output() {
        let mut screen = screen(false, false);
        assert_eq!(screen.draw(&delta("a\u{1b}[2J")), [Out::Answer("a\u{1b}[2J".into())]);
        assert_eq!(screen.note("lost"), Out::Aside("lost\n".into()));
        assert_eq!(screen.draw(&delta("b")), [Out::Answer("b".into())]);
        assert_eq!(screen.draw(&Event::TextEnded { block: 1 }), [Out::Answer("\n".into())]);
        assert_eq!(screen.draw(&Event::TextEnded { block: 1 }), []);
    }

    #[test]
    fn on_a_terminal_a_note_gets_its_own_line_and_nothing_is_obeyed() {
        let mut screen = screen(true, true);
        assert_eq!(screen.draw(&delta("a\u{1b}[2J\u{9b}\t")), [Out::Answer("a\u{fffd}[2J\u{fffd}\t".into())]);
        assert_eq!(screen.note("lost"), Out::Aside("\n\u{1b}[2mlost\u{1b}[0m\n".into()));
        assert_eq!(screen.draw(&Event::TextEnded { block: 1 }), []);
        let Out::Aside(question) = screen.ask("y?") else { panic!() };
        assert_eq!(question, "\u{1b}[33my?\u{1b}[0m");
        screen.line_entered();
        assert_eq!(screen.alarm("x"), Out::Aside("\u{1b}[31mx\u{1b}[0m\n".into()));
    }

    #[test]
    fn thinking_and_answer_are_apart() {
        let mut screen = screen(true, false);
        let thought = Event::ReasoningDelta { block: 1, text: "hm".into(), lossy: false };
        assert_eq!(screen.draw(&thought), [Out::Aside("hm".into())]);
        assert_eq!(screen.draw(&thought), [Out::Aside("hm".into())]);
        assert_eq!(screen.draw(&delta("so")), [Out::Aside("\n".into()), Out::Answer("so".into())]);
    }
}
