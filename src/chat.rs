//! `steerage chat`: a terminal client on the native API. One loop: a line, an event, a receipt or Ctrl-C, whichever
//! comes first.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, Write as _, stderr, stdin, stdout},
    pin::pin,
    process::ExitCode,
};

use clap::Args;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use steerage::{
    command::{Command, Receipt},
    env::Env,
    event::Event,
    fetch::Secret,
    id::{CommandId, SessionId},
};
use tokio::sync::mpsc;

mod client;
mod follow;
mod input;
mod screen;
mod talk;

use client::{Client, Problem};
use follow::Signal;
use screen::{Look, Out, Screen};
use talk::{Do, Talk};

/// Exit code after Ctrl-C, as shells expect it.
const INTERRUPTED: u8 = 130;

/// What the command line says.
#[derive(Args)]
pub(crate) struct Options {
    /// Base URL of the server.
    #[arg(long, env = "STEERAGE_URL", default_value = "http://127.0.0.1:8787")]
    url: String,
    /// Key of the server, if it has any.
    #[arg(long, env = "STEERAGE_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// Model of the new session, PROVIDER/NAME as `GET /v1/models` lists them [default: the server's].
    #[arg(long, env = "STEERAGE_MODEL", conflicts_with = "session")]
    model: Option<String>,
    /// Rejoin this session: what was said is shown again, what is being said goes on.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Take lines as on a terminal although standard input is none: lines steer what runs and answer approvals.
    #[arg(long)]
    interactive: bool,
}

/// The rest of `steerage chat --help`.
pub(crate) const HELP: &str = "\
On a terminal:
  a line             is sent; while an answer runs it steers the answer, at once
  y, n, e            answer a tool that asks: yes, no, edit its arguments
  Ctrl-C             cancels the running answer; a second one, or one while nothing runs, leaves
  Ctrl-D             leaves; an answer that runs goes on, and --session shows it

With standard input piped, each line is sent when the answer to the one before has ended, tools that ask are refused,
and the exit code is 1 if an answer failed: echo hi | steerage chat

Answers go to standard output, everything else to standard error. NO_COLOR is honoured.";

type Given = (Command, Result<Receipt, Problem>);

/// The state of the loop.
struct Chat {
    client: Client,
    session: SessionId,
    env: Env,
    screen: Screen,
    talk: Talk,
    /// Commands on their way.
    flying: FuturesUnordered<BoxFuture<'static, Given>>,
    /// Words that wait for the words before them: their order matters.
    words: VecDeque<Command>,
    words_flying: bool,
    /// Whether the log has been read to its end once.
    live: bool,
    /// Lines steer and answer, and a prompt is shown on a terminal.
    interactive: bool,
    terminal: bool,
    /// The question that is on the screen.
    asked: Option<&'static str>,
    delayed: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

/// Talks until the input or the patience ends.
pub(crate) async fn run(options: Options) -> Result<ExitCode, String> {
    let env = Env::system();
    let client = Client::new(&options.url, options.api_key.map(Secret::new), env.clone());
    let rejoined = options.session.is_some();
    let session = match options.session {
        Some(session) => session,
        None => client.create(options.model.as_deref()).await.map_err(|error| {
            format!("{error}\n  ({} is where a server was looked for; `steerage serve` starts one)", options.url)
        })?,
    };
    let (in_is_terminal, err_is_terminal) = (stdin().is_terminal(), stderr().is_terminal());
    let look = Look {
        out_is_terminal: stdout().is_terminal(),
        err_is_terminal,
        colour: err_is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let mut chat = Chat {
        client,
        session,
        env,
        screen: Screen::new(look),
        talk: Talk::default(),
        flying: FuturesUnordered::new(),
        words: VecDeque::new(),
        words_flying: false,
        live: false,
        interactive: in_is_terminal || options.interactive,
        terminal: in_is_terminal,
        asked: None,
        delayed: mpsc::unbounded_channel(),
    };
    if chat.interactive {
        let word = if rejoined { "rejoined" } else { "new" };
        let note = format!("session {} ({word}); Ctrl-C cancels, Ctrl-D leaves", chat.session);
        let note = chat.screen.note(&note);
        chat.show([note])?;
    }
    chat.talk_on().await
}

impl Chat {
    async fn talk_on(&mut self) -> Result<ExitCode, String> {
        let mut lines = input::lines().map_err(|error| error.to_string())?;
        let mut signals = pin!(follow::follow(self.client.clone(), self.session.clone()));
        let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .map_err(|error| error.to_string())?;
        let (mut input_ended, mut interrupted) = (false, false);
        loop {
            self.prompt()?;
            let quiet = self.live && self.talk.is_settled();
            if quiet && (input_ended || interrupted && !self.interactive) {
                break;
            }
            let takes_line = !input_ended && self.live && (self.interactive || quiet && !interrupted);
            tokio::select! {
                biased;
                _ = interrupts.recv() => {
                    let leave = match self.talk.interrupt() {
                        // Before the log has been read we do not know what runs.
                        _ if !self.live => true,
                        Do::Give(cancel) => { self.give(cancel); false }
                        _ => true,
                    };
                    interrupted = true;
                    if leave {
                        break;
                    }
                }
                Some(given) = self.flying.next(), if !self.flying.is_empty() => self.given(given)?,
                Some(delayed) = self.delayed.1.recv() => {
                    let note = self.screen.note(&delayed);
                    self.show([note])?;
                }
                signal = signals.next() => match signal {
                    Some(signal) => self.signal(signal)?,
                    None => return Ok(ExitCode::FAILURE),
                },
                line = lines.recv(), if takes_line => match line {
                    Some(line) => self.line(&line)?,
                    // Ctrl-D leaves at once; a pipe that has ended leaves when all is said.
                    None if self.terminal => break,
                    None => input_ended = true,
                },
            }
        }
        if !self.talk.is_settled() && self.interactive {
            let note = format!("the answer goes on: steerage chat --session {}", self.session);
            let note = self.screen.note(&note);
            self.show([note])?;
        } else if self.terminal {
            eprintln!();
        }
        Ok(match (interrupted && !self.interactive, self.talk.failed && !self.terminal) {
            (true, _) => ExitCode::from(INTERRUPTED),
            (_, true) => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        })
    }

    fn signal(&mut self, signal: Signal) -> Result<(), String> {
        match signal {
            Signal::Event(id, record) => {
                let event = record.as_ref().map(|record| &record.event);
                self.talk.event(id, event);
                let mut outs = event.map(|event| self.screen.draw(event)).unwrap_or_default();
                if self.live {
                    self.talk.failed |= matches!(event, Some(Event::RunFailed { .. }));
                } else if !self.interactive {
                    // What a script asks for is what comes from now on.
                    outs.clear();
                }
                if !outs.is_empty() {
                    // Whatever question was there has scrolled away.
                    self.asked = None;
                }
                self.show(outs)?;
            }
            Signal::CaughtUp => self.live = true,
            Signal::Lost { why, wait } => {
                let note = format!("(connection lost: {why}; coming back in {:.1} s)", wait.as_secs_f64());
                let note = self.screen.note(&note);
                self.show([note])?;
            }
            Signal::Reset { why } => {
                self.talk.reset();
                self.live = false;
                let note = self.screen.alarm(&format!("(the log is another one: {why}; here it is from its start)"));
                self.show([note])?;
            }
            Signal::Refused(problem) => {
                let alarm = self.screen.alarm(&format!("steerage: {problem}"));
                self.show([alarm])?;
            }
        }
        if !self.interactive
            && self.live
            && let Do::Give(deny) = self.talk.deny("nobody is there to be asked")
        {
            let note = self.screen.note("  refused: nobody is there to be asked (see --interactive)");
            self.show([note])?;
            self.give(deny);
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.terminal {
            self.screen.line_entered();
        }
        self.asked = None;
        match self.talk.line(line) {
            Do::Give(command) => self.give(command),
            Do::Again(why) if !why.is_empty() => {
                let alarm = self.screen.alarm(&why);
                self.show([alarm])?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends a command off under a fresh id.
    fn give(&mut self, command: Command) {
        let id: CommandId = format!("chat-{:016x}", self.env.random()).parse().expect("an id");
        self.screen.ours.insert(id.clone());
        let command = command.with_id(id);
        self.talk.under_way += 1;
        match command {
            Command::Send(_) | Command::Steer(_) if self.words_flying => self.words.push_back(command),
            command => self.launch(command),
        }
    }

    fn launch(&mut self, command: Command) {
        self.words_flying |= is_words(&command);
        let (client, session, delayed) = (self.client.clone(), self.session.clone(), self.delayed.0.clone());
        self.flying.push(Box::pin(async move {
            let waits = |error: &client::Error| {
                let _left = delayed.send(format!("(not delivered yet: {error}; trying again)"));
            };
            let answer = client.give(&session, &command, waits).await;
            (command, answer)
        }));
    }

    fn given(&mut self, (command, answer): Given) -> Result<(), String> {
        self.talk.under_way -= 1;
        if is_words(&command) {
            self.words_flying = false;
            if let Some(next) = self.words.pop_front() {
                self.launch(next);
            }
        }
        match answer {
            Ok(receipt) => self.talk.receipt(&receipt),
            Err(problem) => {
                self.talk.refused(&command);
                self.talk.failed |= is_words(&command);
                self.asked = None;
                let alarm = self.screen.alarm(&format!("({}: {problem})", problem.code));
                self.show([alarm])?;
            }
        }
        Ok(())
    }

    /// Asks what is to be asked, once.
    fn prompt(&mut self) -> Result<(), String> {
        if !self.interactive || !self.live {
            return Ok(());
        }
        let question = self.talk.question().or((self.terminal && self.talk.is_settled()).then_some("> "));
        if question != self.asked {
            self.asked = question;
            if let Some(question) = question {
                let question = self.screen.ask(question);
                self.show([question])?;
            }
        }
        Ok(())
    }

    /// Writes. A reader of ours that has gone ends us.
    fn show(&mut self, outs: impl IntoIterator<Item = Out>) -> Result<(), String> {
        for out in outs {
            match out {
                Out::Answer(text) => {
                    let mut stdout = stdout().lock();
                    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
                    written.map_err(|error| format!("cannot write: {error}"))?;
                }
                // Nobody reads the asides: the answers matter.
                Out::Aside(text) => drop(stderr().write_all(text.as_bytes())),
            }
        }
        Ok(())
    }
}

fn is_words(command: &Command) -> bool {
    matches!(command, Command::Send(_) | Command::Steer(_))
}
