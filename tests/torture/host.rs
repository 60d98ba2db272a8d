//! The server's lives: started on its directory, killed, started again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    options::Options,
    points::{BUILT_IN, POINTS, Tally},
    process::{Fault, Role},
    server::GRACE_S,
    world::{Incarnation, World},
};

/// Longest that a server may take from SIGTERM to its end (R17): the drain's grace, and 5 s for connections to close.
const STOP_MAX: Duration = Duration::from_secs(GRACE_S + 5);

/// When the server dies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// After so long.
    After(Duration),
    /// When readers have got so many bytes.
    Bytes(i64),
    /// At the so-manieth passing of a point.
    Point(&'static str, u32),
    /// It is asked to, after so long, and drains.
    Term(Duration),
}

impl Death {
    /// One of the three; most at a point, where there are points: at any, or at the one that is wished for.
    pub(crate) fn choose(dice: &mut fastrand::Rng, options: &Options) -> Self {
        let wished = options.point.and_then(|wish| POINTS.iter().find(|(name, _)| *name == wish));
        match dice.u32(..6) {
            0..4 if BUILT_IN => {
                let (name, passes) = *wished.unwrap_or(&POINTS[dice.usize(..POINTS.len())]);
                // Early passings are as interesting as late ones, and more surely reached.
                let most = if dice.bool() { passes } else { passes.div_ceil(8) };
                Self::Point(name, dice.u32(1..=most))
            }
            4 => Self::Bytes(dice.i64(1_000..300_000)),
            _ => Self::at_work(dice, options.load),
        }
    }

    /// In the middle of the load, when there is something to lose.
    pub(crate) fn at_work(dice: &mut fastrand::Rng, load: Duration) -> Self {
        Self::After(load.mul_f32(0.2 + 0.8 * dice.f32()))
    }

    /// The same, planned.
    pub(crate) fn term(dice: &mut fastrand::Rng, load: Duration) -> Self {
        Self::Term(load.mul_f32(0.2 + 0.6 * dice.f32()))
    }

    fn point(self) -> Option<(&'static str, String)> {
        match self {
            Self::Point(name, passes) => Some((name, format!("{name}:{passes}"))),
            _ => None,
        }
    }
}

/// The server of one directory.
pub(crate) struct Host {
    pub(crate) world: Arc<World>,
    pub(crate) directory: PathBuf,
    store: String,
    upstream: u16,
    role: Option<Role>,
    /// The point at which the present life is to end.
    armed: Option<&'static str>,
    number: u32,
    pub(crate) kills: u32,
    /// How long each planned stop took.
    pub(crate) stops: Vec<Duration>,
    pub(crate) tally: Tally,
}

impl Host {
    /// `store` is `memory` or `disk`; the disk is below `directory`.
    pub(crate) fn new(world: Arc<World>, directory: PathBuf, store: &str, upstream: u16) -> Self {
        let store = match store {
            "disk" => format!("disk:{}", directory.join("store").display()),
            other => other.to_owned(),
        };
        let (role, armed, tally) = (None, None, Tally::default());
        Self { world, directory, store, upstream, role, armed, number: 0, kills: 0, stops: Vec::new(), tally }
    }

    /// Where the server's complaints are.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Where its tools write down what they did.
    pub(crate) fn tools(&self) -> PathBuf {
        self.directory.join("tools.jsonl")
    }

    /// Starts the next life. One that ends at its point while it starts is followed by one without.
    pub(crate) async fn start(&mut self, death: Option<Death>) -> Result<(), String> {
        let mut point = death.and_then(Death::point);
        loop {
            let on_crash = if self.world.fails_on_crash { "fail" } else { "continue" };
            let (upstream, tools) = (self.upstream.to_string(), self.tools().display().to_string());
            let args = ["server", &self.store, on_crash, &upstream, &tools].map(str::to_owned);
            self.world.note_start();
            if let Some((name, _)) = &point {
                self.tally.armed(name);
            }
            match Role::start(&args, point.as_ref().map(|(_, text)| text.as_str()), &self.log()).await {
                Ok(role) => {
                    self.number += 1;
                    self.world.moved(Some(Incarnation { port: role.port, number: self.number }));
                    self.role = Some(role);
                    self.armed = point.map(|(name, _)| name);
                    return Ok(());
                }
                Err(Fault::Ended(_)) if point.is_some() => {
                    self.kills += 1;
                    self.tally.reached(point.take().map_or("", |(name, _)| name));
                }
                Err(fault) => return Err(format!("the server {fault}; see {}", self.log().display())),
            }
        }
    }

    /// Lives until its death is due, at the latest until `end`, and dies.
    pub(crate) async fn die(&mut self, death: Death, end: Instant) {
        let Some(mut role) = self.role.take() else { return };
        if let Death::Term(after) = death {
            return self.drain(role, after).await;
        }
        let by_itself = match death {
            Death::After(after) => tokio::time::timeout(after, role.ended()).await.is_ok(),
            Death::Bytes(bytes) => {
                self.world.light_fuse(bytes);
                let burnt = self.world.fuse_burnt.notified();
                tokio::select! {
                    _ = role.ended() => true,
                    () = burnt => false,
                    () = tokio::time::sleep_until(end) => false,
                }
            }
            Death::Point(..) | Death::Term(_) => tokio::time::timeout_at(end, role.ended()).await.is_ok(),
        };
        self.world.moved(None);
        role.kill().await;
        self.world.note_kill();
        self.kills += 1;
        match (self.armed.take(), by_itself) {
            (Some(point), true) => self.tally.reached(point),
            (None, true) => self.world.complain("R18", "died by itself", "-", "see the server's log".into()),
            (_, false) => {}
        }
    }

    /// Is asked to stop after so long, while everyone goes on. What ran is handed over, with exit code 0 and in time.
    async fn drain(&mut self, mut role: Role, after: Duration) {
        sleep(after).await;
        let began = Instant::now();
        role.terminate().await;
        match tokio::time::timeout(STOP_MAX, role.ended()).await {
            Ok(Some(status)) if status.success() => {}
            Ok(status) => self.world.complain("R17", "bad exit", "-", format!("{status:?} after SIGTERM")),
            Err(_) => {
                self.world.complain("R17", "late exit", "-", format!("still there {STOP_MAX:?} after SIGTERM"));
                role.kill().await;
            }
        }
        self.stops.push(began.elapsed());
        self.world.moved(None);
        self.world.note_kill();
        self.kills += 1;
    }

    /// Dies now, and lives again after a moment.
    pub(crate) async fn restart(&mut self, death: Option<Death>, pause: Duration) -> Result<(), String> {
        if self.role.is_some() {
            self.die(Death::After(Duration::ZERO), Instant::now()).await;
        }
        sleep(pause).await;
        self.start(death).await
    }

    /// Ends for good.
    pub(crate) async fn stop(&mut self) {
        self.world.moved(None);
        if let Some(mut role) = self.role.take() {
            role.kill().await;
        }
    }
}
