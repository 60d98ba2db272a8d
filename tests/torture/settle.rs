//! The quiet after the storm: everything that runs comes to its end, everyone who reads gets to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    controller::decide,
    evidence::Journal,
    hand::Hand,
    http,
    world::{RESOLVED_MAX, Session, World},
};

/// After this what runs is stopped, so that a cycle is short; it is no violation.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long a reader may take to the tail of a log that no longer grows. Shorter than the time after which a heartbeat
/// or the end of a long-poll would wake one that has slept through the last event.
const ASLEEP_AFTER: Duration = Duration::from_secs(4);

/// Every session's entries in the list.
pub(crate) async fn list(world: &World) -> BTreeMap<String, Vec<Value>> {
    let mut listed: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let server = world.up().await;
        let path = format!("/v1/sessions?limit=200{cursor}");
        let Ok(answer) = http::call(server.port, "GET", &path, None).await else { continue };
        let page = answer.json();
        for session in page["sessions"].as_array().into_iter().flatten() {
            let name = session["session_id"].as_str().unwrap_or_default().to_owned();
            listed.entry(name).or_default().push(session.clone());
        }
        match page["next_cursor"].as_u64() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return listed,
        }
    }
}

/// Waits until nothing runs, answering what waits for a person. The list is asked, which opens no session: who runs
/// after a restart has to come to an end although nobody looks.
pub(crate) async fn come_to_rest(world: &Arc<World>, sessions: &[Arc<Session>], dice: &mut fastrand::Rng) {
    let began = Instant::now();
    let mut hand = Hand { world: world.clone(), dice: dice.fork() };
    loop {
        let listed = list(world).await;
        let state = |session: &Session| {
            let entries = listed.get(&session.name)?;
            entries.first()?["state"].as_str().filter(|state| *state != "idle").map(str::to_owned)
        };
        let busy = sessions.iter().filter(|session| !session.is_deleted());
        let busy: Vec<_> = busy.filter_map(|session| Some((session, state(session)?))).collect();
        if busy.is_empty() {
            return;
        }
        if began.elapsed() > RESOLVED_MAX {
            for (session, state) in busy {
                let detail = format!("{state} {} s after the last kill", RESOLVED_MAX.as_secs());
                world.complain("R12", "zombie", &session.name, detail);
            }
            return;
        }
        let waiting = busy.iter().filter(|(_, state)| state == "waiting");
        for (session, _) in waiting {
            for approval in approvals(world, session).await {
                let (kind, body) = decide(&approval, dice);
                give(&mut hand, session, kind, body).await;
            }
        }
        if began.elapsed() > PATIENCE {
            for (session, _) in busy.iter().filter(|(session, state)| !session.orphan && state == "running") {
                give(&mut hand, session, "cancel", json!({"type": "cancel"})).await;
            }
        }
        sleep(Duration::from_millis(40)).await;
    }
}

async fn give(hand: &mut Hand, session: &Session, kind: &'static str, body: Value) {
    let deed = session.deed(kind, session.next_name("c"), body);
    hand.insist(session, &deed).await;
}

async fn approvals(world: &World, session: &Session) -> Vec<Value> {
    let server = world.up().await;
    let path = format!("/v1/sessions/{}", session.name);
    let Ok(answer) = http::call(server.port, "GET", &path, None).await else { return Vec::new() };
    answer.json()["approvals"].as_array().cloned().unwrap_or_default()
}

/// Waits until every reader has the newest event of its session.
pub(crate) async fn wake_everyone(world: &Arc<World>, sessions: &[Arc<Session>], tails: &BTreeMap<String, u64>) {
    let began = Instant::now();
    let behind = |session: &&Arc<Session>| -> Vec<String> {
        let journals: Vec<Arc<Mutex<Journal>>> = session.journals.lock().expect("no panic while it is held").clone();
        let lagging = |journal: &Arc<Mutex<Journal>>| {
            let journal = journal.lock().expect("no panic while a journal is held");
            let there = match tails.get(&session.name) {
                Some(tail) => journal.tail() >= Some(*tail),
                None => true,
            };
            (!there && !journal.is_closed()).then(|| format!("{} is at {:?}", journal.reader, journal.tail()))
        };
        journals.iter().filter_map(lagging).collect()
    };
    loop {
        let lagging: Vec<_> = sessions.iter().map(|s| (s, behind(&s))).filter(|(_, who)| !who.is_empty()).collect();
        if lagging.is_empty() {
            return;
        }
        if began.elapsed() > ASLEEP_AFTER {
            for (session, who) in lagging {
                let tail = tails.get(&session.name);
                let detail = format!("the log ends at {tail:?}, and after {} s {who:?}", ASLEEP_AFTER.as_secs());
                world.complain("R2", "asleep", &session.name, detail);
            }
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Gives some answered commands again: however old they are, they have the answer that they had.
pub(crate) async fn ask_again(world: &Arc<World>, sessions: &[Arc<Session>], dice: &mut fastrand::Rng, count: usize) {
    let mut hand = Hand { world: world.clone(), dice: dice.fork() };
    let mut chosen = Vec::new();
    for session in sessions.iter().filter(|session| !session.delete_asked.load(Ordering::Relaxed)) {
        let deeds = session.deeds.lock().expect("no panic while it is held").clone();
        chosen.extend(deeds.into_iter().filter_map(|deed| {
            let fits = {
                let deed = deed.lock().expect("not held for long");
                !matches!(deed.kind, "create" | "delete") && deed.answers().next().is_some()
            };
            fits.then(|| (session.clone(), deed))
        }));
    }
    dice.shuffle(&mut chosen);
    for (session, deed) in chosen.into_iter().take(count) {
        hand.insist(&session, &deed).await;
    }
}
