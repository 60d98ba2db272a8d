//! A controller: creates sessions, speaks to them, steers, stops, answers what they ask, deletes some; and gives every
//! command again until it has an answer.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep},
};

use crate::{
    evidence::{Deed, Told},
    hand::Hand,
    oracle::{ACT, ACT_IDEM, say},
    world::{Session, World},
};

/// Runs and commands that wait are enough for one session: more only makes the cycle long.
const SENDS_MAX: usize = 5;

/// One controller's part of a cycle.
pub(crate) struct Controller {
    pub(crate) hand: Hand,
    /// Names of the sessions that it may create.
    pub(crate) names: Vec<String>,
    /// Kills of the server so far.
    pub(crate) kills: u32,
    /// Who is told of each new session.
    pub(crate) created: UnboundedSender<Arc<Session>>,
    /// Sessions of earlier cycles that it may speak to.
    pub(crate) old: Vec<Arc<Session>>,
}

impl Controller {
    fn world(&self) -> &Arc<World> {
        &self.hand.world
    }

    /// Acts until the time is over; a command that has no answer by then is still insisted on.
    pub(crate) async fn act(mut self, until: Instant) {
        let mut mine = self.old.clone();
        while Instant::now() < until {
            let create = !self.names.is_empty() && (mine.is_empty() || self.hand.dice.u32(..4) == 0);
            match create {
                true => mine.extend(self.create().await),
                false if mine.is_empty() => return,
                false => {
                    // Also other controllers' sessions: two people at one session are the interesting case.
                    let all: Vec<_> = self.world().sessions().into_iter().filter(|s| !s.orphan).collect();
                    let from = if self.hand.dice.u32(..3) == 0 { &all } else { &mine };
                    let session = from[self.hand.dice.usize(..from.len())].clone();
                    if !session.is_delete_asked() {
                        self.command(&session).await;
                    }
                }
            }
            sleep(Duration::from_millis(self.hand.dice.u64(1..50))).await;
        }
    }

    async fn create(&mut self) -> Option<Arc<Session>> {
        let (name, oracle) = (self.names.pop()?, self.world().oracle);
        let dice = &mut self.hand.dice;
        let orphan = dice.u32(..8) == 0;
        let session = Session::new(name.clone(), orphan, self.kills);
        let tools: Vec<Value> = [ACT, ACT_IDEM]
            .iter()
            .map(|tool| {
                // Only what may run again may run unasked.
                let never = *tool == ACT_IDEM && dice.bool();
                let mut tool = json!({"name": tool, "executor": "builtin"});
                tool["approval"] = if never { json!("never") } else { json!("always") };
                if dice.u32(..8) == 0 {
                    tool["approval_timeout_s"] = json!(1);
                }
                tool
            })
            .collect();
        let mut body = json!({"id": name, "model": format!("oracle/{}", oracle.model(&name)), "tools": tools, "metadata": {"n": dice.u32(..)}});
        if orphan || dice.u32(..4) > 0 {
            let mut turn = session.next_name("t");
            // Nobody stops an orphan: its answer is one that ends soon.
            while orphan && !oracle.turn(&name, &turn).is_short() {
                turn = session.next_name("t");
            }
            body["input"] = json!(say(&name, &turn));
        }
        let deed = session.deed("create", name, body);
        let told = self.hand.insist(&session, &deed).await;
        if matches!(told, Told::Nothing(_)) {
            return None;
        }
        self.world().add(session.clone());
        let _cycle_is_over = self.created.send(session.clone());
        (!orphan).then_some(session)
    }

    async fn command(&mut self, session: &Arc<Session>) {
        let known = session.known();
        let dice = &mut self.hand.dice;
        if let Some(open) = (!known.approvals.is_empty()).then(|| &known.approvals[dice.usize(..known.approvals.len())])
            && dice.u32(..4) > 0
        {
            let answer = decide(open, dice);
            return self.give(session, answer.0, answer.1).await;
        }
        let text = |session: &Session| say(&session.name, &session.next_name("t"));
        let sent = session.deeds.lock().expect("no panic while it is held").len();
        let choice = dice.u32(..100);
        let (kind, body) = match (known.run.is_some(), choice) {
            (_, 0..2) => return self.delete(session).await,
            (_, 2..5) => match self.any_deed(session, |deed| matches!(deed.kind, "steer" | "send")) {
                Some(target) => ("withdraw", json!({"type": "withdraw", "target": target.id})),
                None => return,
            },
            (_, 5..8) => return self.misuse(session).await,
            (_, 8..14) => return self.again(session).await,
            (false, 14..24) => ("cancel", json!({"type": "cancel"})),
            (false, 24..40) => ("steer", json!({"type": "steer", "content": text(session), "when": "now"})),
            (true, 14..40) => {
                let mut body = json!({"type": "cancel"});
                if dice.u32(..4) == 0 {
                    body["mode"] = json!("rollback");
                }
                if let (Some(run), 0) = (&known.run, dice.u32(..3)) {
                    body["run_id"] = json!(run);
                }
                ("cancel", body)
            }
            (true, 40..75) => {
                let when = ["now", "now", "next_step", "next_run"][dice.usize(..4)];
                ("steer", json!({"type": "steer", "content": text(session), "when": when}))
            }
            _ if known.run.is_some() && sent > SENDS_MAX => return,
            _ => {
                let mut body = json!({"type": "send", "content": text(session)});
                if known.run.is_some() {
                    body["if_running"] = json!(["queue", "steer", "cancel", "reject"][dice.usize(..4)]);
                }
                ("send", body)
            }
        };
        self.give(session, kind, body).await;
    }

    /// Gives a new command, and sometimes gives it again or looks whether its effect is there.
    async fn give(&mut self, session: &Arc<Session>, kind: &'static str, body: Value) {
        let deed = session.deed(kind, session.next_name("c"), body);
        let told = self.hand.insist(session, &deed).await;
        match self.hand.dice.u32(..6) {
            0 => drop(self.hand.insist(session, &deed).await),
            1 | 2 => self.hand.read_own_effect(session, &told).await,
            _ => {}
        }
    }

    fn any_deed(&mut self, session: &Session, fits: impl Fn(&Deed) -> bool) -> Option<Deed> {
        let deeds = session.deeds.lock().expect("no panic while it is held");
        let deeds: Vec<Deed> = deeds.iter().map(|deed| deed.lock().expect("not held for long").clone()).collect();
        let fitting: Vec<&Deed> = deeds.iter().filter(|deed| fits(deed)).collect();
        (!fitting.is_empty()).then(|| fitting[self.hand.dice.usize(..fitting.len())].clone())
    }

    /// Gives a command again that was answered long ago.
    async fn again(&mut self, session: &Arc<Session>) {
        let deeds: Vec<Arc<Mutex<Deed>>> = session.deeds.lock().expect("no panic while it is held").clone();
        let answered: Vec<_> = deeds
            .into_iter()
            .filter(|deed| {
                let deed = deed.lock().expect("not held for long");
                !matches!(deed.kind, "create" | "delete") && deed.answers().next().is_some()
            })
            .collect();
        if !answered.is_empty() {
            let deed = &answered[self.hand.dice.usize(..answered.len())];
            self.hand.insist(session, deed).await;
        }
    }

    /// The id of one command for another one: refused, and without any effect.
    async fn misuse(&mut self, session: &Arc<Session>) {
        let recorded = |deed: &Deed| matches!(deed.kind, "steer" | "send" | "cancel") && deed.receipt().is_some();
        let Some(victim) = self.any_deed(session, recorded) else { return };
        let body = json!({"type": "steer", "content": "this must never be said to the model"});
        let deed = session.deed("misuse", victim.id, body);
        self.hand.insist(session, &deed).await;
    }

    async fn delete(&mut self, session: &Arc<Session>) {
        let deed = session.deed("delete", session.name.clone(), Value::Null);
        if matches!(self.hand.insist(session, &deed).await, Told::Done(_)) {
            session.deleted.store(true, Ordering::Relaxed);
        }
    }
}

/// An answer to an approval request.
pub(crate) fn decide(request: &Value, dice: &mut fastrand::Rng) -> (&'static str, Value) {
    let approval_id = &request["approval_id"];
    match dice.u32(..10) {
        0 | 1 => ("deny", json!({"type": "deny", "approval_id": approval_id, "message": "no 🙅"})),
        2 | 3 => {
            let mut arguments = request["arguments"].clone();
            arguments["n"] = json!(dice.u32(1000..2000));
            ("approve", json!({"type": "approve", "approval_id": approval_id, "arguments": arguments}))
        }
        4 => ("approve", json!({"type": "approve", "approval_id": approval_id, "scope": "session"})),
        _ => ("approve", json!({"type": "approve", "approval_id": approval_id})),
    }
}
