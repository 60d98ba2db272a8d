//! One cycle: load, kills, restarts, quiet, and the check of everything that was seen.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    check::check,
    collect::{Lines, Outside, gather, tail},
    controller::Controller,
    evidence::{Case, Violation},
    hand::Hand,
    host::{Death, Host},
    options::Options,
    reader::Reader,
    report::Report,
    settle,
    world::{Session, World},
};

const CONTROLLERS: usize = 6;
/// Sessions that each of them may create in a cycle.
const CREATES: usize = 3;
/// Sessions of earlier cycles that are spoken to again.
const OLD: usize = 4;
/// Sessions beyond those that are checked again in a cycle.
const RECHECKED: usize = 8;
/// Sessions whose evidence is gathered side by side.
const GATHERED_AT_ONCE: usize = 6;
/// Commands that are given again when everything rests.
const ASKED_AGAIN: usize = 30;
/// How long after the load a point may still be reached.
const POINT_GRACE: Duration = Duration::from_millis(300);

/// What stays from cycle to cycle on one directory.
pub(crate) struct Stage<'a> {
    pub(crate) host: Host,
    pub(crate) outside: Outside,
    pub(crate) complaints: Lines,
    pub(crate) upstream_journal: &'a Path,
    pub(crate) options: &'a Options,
}

impl Stage<'_> {
    /// The error is one of the harness: it could not go on.
    pub(crate) async fn cycle(
        &mut self,
        number: u32,
        last_here: bool,
        dice: &mut fastrand::Rng,
        report: &mut Report,
    ) -> Result<Vec<Violation>, String> {
        let world = self.host.world.clone();
        let deaths = self.deaths(dice);
        if let Some(death @ Death::Point(..)) = deaths.first() {
            self.host.restart(Some(*death), Duration::ZERO).await?;
        }
        let stop = CancellationToken::new();
        let mut readers = JoinSet::new();
        let old = self.old_sessions(dice);
        for session in &old {
            for reader in 0..2 {
                let (world, session) = (world.clone(), session.clone());
                let reader = match (reader, known_cursor(&session, dice)) {
                    (0, Some(cursor)) => Reader::back(world, session, cursor, dice.fork()),
                    _ => Reader::new(world, session, dice.fork()),
                };
                readers.spawn(reader.follow(stop.clone()));
            }
        }
        let mut active = old.clone();
        self.load(number, deaths, old, &mut active, &mut readers, &stop, dice).await?;

        // Controllers speak to sessions of any age: all of them have to come to rest.
        settle::come_to_rest(&world, &world.sessions(), dice).await;
        let mut tails = BTreeMap::new();
        for session in &active {
            tails.extend(tail(&world, session).await.map(|tail| (session.name.clone(), tail)));
        }
        settle::wake_everyone(&world, &active, &tails).await;
        settle::ask_again(&world, &world.sessions(), dice, ASKED_AGAIN).await;
        stop.cancel();
        while let Some(ended) = readers.join_next().await {
            note_panic(&world, ended);
        }
        Ok(self.judge(active, last_here, dice, report).await)
    }

    /// How the server dies in this cycle; the last life sees the cycle's end.
    fn deaths(&self, dice: &mut fastrand::Rng) -> Vec<Death> {
        if !self.options.kills {
            return Vec::new();
        }
        if self.options.term {
            return vec![Death::term(dice, self.options.load)];
        }
        let count = [1, 1, 1, 2, 2, 3][dice.usize(..6)];
        let mut deaths: Vec<Death> = (0..count).map(|_| Death::choose(dice, self.options)).collect();
        if let Some(Death::Point(name, _)) = deaths.first()
            && name.starts_with("recover")
        {
            // Only who died at work has something to recover.
            deaths.insert(0, Death::at_work(dice, self.options.load));
        }
        deaths
    }

    fn old_sessions(&self, dice: &mut fastrand::Rng) -> Vec<Arc<Session>> {
        let mut old: Vec<_> = self.host.world.sessions();
        old.retain(|session| !session.orphan && !session.is_delete_asked());
        dice.shuffle(&mut old);
        old.truncate(OLD);
        old
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one cycle, taken apart for length only")]
    async fn load(
        &mut self,
        number: u32,
        deaths: Vec<Death>,
        old: Vec<Arc<Session>>,
        active: &mut Vec<Arc<Session>>,
        readers: &mut JoinSet<()>,
        stop: &CancellationToken,
        dice: &mut fastrand::Rng,
    ) -> Result<(), String> {
        let world = self.host.world.clone();
        let end = Instant::now() + self.options.load;
        let (sender, mut created) = mpsc::unbounded_channel();
        let mut controllers = JoinSet::new();
        for n in 0..CONTROLLERS {
            let controller = Controller {
                hand: Hand { world: world.clone(), dice: dice.fork() },
                names: (0..CREATES).map(|k| format!("c{number}-{n}{k}")).collect(),
                kills: self.host.kills,
                created: sender.clone(),
                old: old.clone(),
            };
            controllers.spawn(controller.act(end));
        }
        drop(sender);
        let mut pauses = dice.fork();
        let host = &mut self.host;
        let nemesis = async {
            for (n, death) in deaths.iter().enumerate() {
                host.die(*death, end + POINT_GRACE).await;
                sleep(Duration::from_millis(pauses.u64(..60))).await;
                host.start(deaths.get(n + 1).copied()).await?;
            }
            Ok::<(), String>(())
        };
        let mut nemesis = std::pin::pin!(nemesis);
        let mut at_work = true;
        while at_work || !controllers.is_empty() {
            tokio::select! {
                result = nemesis.as_mut(), if at_work => {
                    at_work = false;
                    result?;
                }
                Some(ended) = controllers.join_next(), if !controllers.is_empty() => note_panic(&world, ended),
                Some(session) = created.recv() => {
                    let count = if session.orphan { 0 } else { dice.u32(1..4) };
                    for _ in 0..count {
                        let reader = Reader::new(world.clone(), session.clone(), dice.fork());
                        readers.spawn(reader.follow(stop.clone()));
                    }
                    active.push(session);
                }
            }
        }
        while let Ok(session) = created.try_recv() {
            active.push(session);
        }
        Ok(())
    }

    /// The check of what was active, of some of what was not, and at the end of a directory of everything.
    async fn judge(
        &mut self,
        mut sessions: Vec<Arc<Session>>,
        last_here: bool,
        dice: &mut fastrand::Rng,
        report: &mut Report,
    ) -> Vec<Violation> {
        let world = self.host.world.clone();
        let mut others = world.sessions();
        others.retain(|session| !sessions.iter().any(|active| active.name == session.name));
        dice.shuffle(&mut others);
        if !last_here {
            others.truncate(RECHECKED);
        }
        sessions.extend(others);
        self.outside.read(&self.host.tools(), self.upstream_journal);
        let listed = settle::list(&world).await;
        let mut violations = Vec::new();
        let mut gathered = Vec::new();
        for some in sessions.chunks(GATHERED_AT_ONCE) {
            let cases = some.iter().map(|session| gather(&world, session, &self.outside, &listed, self.host.kills));
            gathered.extend(some.iter().zip(join_all(cases).await));
        }
        for (session, case) in gathered {
            match case {
                Ok(case) => {
                    report.checked_sessions += 1;
                    report.checked_events += case.views.first().map_or(0, |(_, view)| view.len() as u64);
                    let found = check(&case);
                    if !found.is_empty() {
                        self.keep(&case);
                    }
                    violations.extend(found);
                }
                Err(error) => world.complain("R2", "unreadable", &session.name, error.to_string()),
            }
        }
        report.executions += self.outside.take_new_executions();
        for stray in self.outside.strays() {
            world.complain("R6", "false history", "-", stray);
        }
        for line in self.complaints.texts(&self.host.log()) {
            if line.contains("panicked at") || line.contains("ERROR") {
                world.complain("R18", "broke", "-", line);
            }
        }
        violations.extend(world.take_complaints());
        violations
    }

    /// Writes down what a violation was found in.
    fn keep(&self, case: &Case) {
        let path = self.host.directory.join(format!("{}.evidence", case.session));
        let log = case.views.first().map(|(_, view)| view.as_slice()).unwrap_or_default();
        let mut text: String = log.iter().map(|record| format!("{}\n", record.json)).collect();
        for journal in &case.journals {
            text += &format!("\n{}\n", journal.reader);
            text.extend(journal.entries.iter().map(|entry| format!("  {entry:?}\n")));
        }
        text.extend(case.deeds.iter().map(|deed| format!("\n{deed:?}")));
        text.extend(case.executions.iter().map(|execution| format!("\n{execution:?}")));
        text.extend(case.exchanges.iter().map(|exchange| format!("\n{exchange:?}")));
        text += &format!("\n\n{}\n{:?}\n", case.snapshot, case.listed);
        if let Err(error) = std::fs::write(&path, text) {
            println!("{}: {error}", path.display());
        }
    }
}

/// A cursor from the middle of what somebody has read before.
fn known_cursor(session: &Session, dice: &mut fastrand::Rng) -> Option<String> {
    let journals = session.journals.lock().expect("no panic while it is held");
    let ids: Vec<String> = journals
        .iter()
        .flat_map(|journal| journal.lock().expect("not held for long").entries.clone())
        .filter_map(|entry| match entry {
            crate::evidence::Entry::Event { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    (!ids.is_empty()).then(|| ids[dice.usize(..ids.len())].clone())
}

/// An actor that panics has seen something that cannot be.
fn note_panic(world: &World, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        world.complain("R2", "nonsense", "-", error.to_string());
    }
}
