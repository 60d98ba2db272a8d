//! What is measured: which servers, how many streams, for how long.

use crate::server::{Door, Kind, Store};

/// One table.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) streams: usize,
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
    pub(crate) workers: Vec<usize>,
    pub(crate) kinds: Vec<Kind>,
    /// The others' cost is told as a multiple of its cost.
    pub(crate) base: Kind,
    /// Whether the way without any server is measured first.
    pub(crate) with_direct: bool,
    /// Whether every server is warmed up, one answer is resumed, and all answers are read to their ends.
    pub(crate) thorough: bool,
}

const MEMORY: Kind = Kind::Steerage(Store::Memory, Door::Sessions);
const DISK_OS: Kind = Kind::Steerage(Store::DiskOs, Door::Sessions);
const DISK_FSYNC: Kind = Kind::Steerage(Store::DiskFsync, Door::Sessions);
const CHAT_MEMORY: Kind = Kind::Steerage(Store::Memory, Door::Chat);
const CHAT_DISK_OS: Kind = Kind::Steerage(Store::DiskOs, Door::Chat);
const OPENAI_CHAT: Kind = Kind::Steerage(Store::DiskOs, Door::OpenAiChat);
const RESPONSES: Kind = Kind::Steerage(Store::DiskOs, Door::Responses);

impl Plan {
    /// The tables that the arguments ask for.
    pub(crate) fn from_args(args: &[String]) -> Result<Vec<Self>, String> {
        let has = |name: &str| args.iter().any(|arg| arg == name);
        // `cargo bench` says --bench; without it, as in `cargo test --benches`, only whether it works is of interest.
        let quick = has("--quick") || !has("--bench");
        let mut plans = match has("--peers") {
            true => Self::peers(quick),
            false => vec![Self::nginx(quick)],
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let mut number =
                || value()?.parse::<usize>().map_err(|_| format!("{arg} needs a number")).map(|number| number.max(1));
            match arg.as_str() {
                "--bench" | "--quick" | "--peers" => {}
                "--streams" => {
                    // Who names a number wants one table with it.
                    plans.truncate(1);
                    plans[0].streams = number()?;
                }
                "--seconds" => {
                    let seconds = number()? as u64;
                    plans.iter_mut().for_each(|plan| plan.seconds = seconds);
                }
                "--rounds" => {
                    let rounds = number()?;
                    plans.iter_mut().for_each(|plan| plan.rounds = rounds);
                }
                "--workers" => {
                    let workers = number()?;
                    plans.iter_mut().for_each(|plan| plan.workers = vec![workers]);
                }
                "--only" => {
                    let word = value()?;
                    plans.iter_mut().for_each(|plan| plan.kinds.retain(|kind| kind.name().contains(word)));
                }
                "--only-steerage" => plans.iter_mut().for_each(|plan| plan.kinds.retain(|kind| *kind != Kind::Nginx)),
                "--only-disk" => plans.iter_mut().for_each(|plan| plan.kinds = vec![DISK_OS]),
                "--only-nginx" => plans.iter_mut().for_each(|plan| plan.kinds = vec![Kind::Nginx]),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        plans.retain(|plan| !plan.kinds.is_empty());
        Ok(plans)
    }

    fn nginx(quick: bool) -> Self {
        let (base, thorough) = (Kind::Nginx, false);
        match quick {
            true => Self {
                streams: 100,
                seconds: 3,
                rounds: 1,
                workers: vec![1],
                kinds: vec![Kind::Nginx, MEMORY, DISK_OS],
                base,
                with_direct: false,
                thorough,
            },
            false => Self {
                streams: 500,
                seconds: 10,
                rounds: 3,
                workers: vec![1, 2],
                kinds: vec![Kind::Nginx, MEMORY, DISK_OS, DISK_FSYNC],
                base,
                with_direct: true,
                thorough,
            },
        }
    }

    /// As many streams as one Node process can hold; then without it as many as in the other table.
    fn peers(quick: bool) -> Vec<Self> {
        let few = Self {
            streams: if quick { 8 } else { 60 },
            seconds: if quick { 2 } else { 10 },
            rounds: if quick { 1 } else { 3 },
            workers: vec![1],
            kinds: match quick {
                true => vec![DISK_OS, CHAT_DISK_OS, OPENAI_CHAT, RESPONSES, Kind::Stack],
                false => {
                    vec![
                        MEMORY,
                        DISK_OS,
                        CHAT_MEMORY,
                        CHAT_DISK_OS,
                        OPENAI_CHAT,
                        RESPONSES,
                        Kind::Stack,
                        Kind::BareStack,
                    ]
                }
            },
            base: CHAT_DISK_OS,
            with_direct: !quick,
            thorough: true,
        };
        if quick {
            return vec![few];
        }
        let kinds = vec![Kind::Nginx, MEMORY, DISK_OS, CHAT_MEMORY, CHAT_DISK_OS, OPENAI_CHAT, RESPONSES];
        let many = Self { streams: 500, kinds, base: Kind::Nginx, ..few.clone() };
        vec![few, many]
    }
}
