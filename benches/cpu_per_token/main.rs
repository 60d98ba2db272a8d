//! CPU per delivered token: Steerage beside nginx, and with `--peers` beside the AI SDK's stack, in the same run.
//!
//! A mock upstream sends 40 tokens a second on every stream; a client holds the streams and checks that each token
//! comes once and in order. Between the two stands Steerage (OpenAI-compatible provider, SSE, each of its stores), or nginx
//! that passes bytes through (`proxy_buffering off`), or the stack of `benches/peers`. Mock, client and server are
//! processes of their own; the CPU is the server's alone, user and kernel, from `/proc/PID/stat`, its children's
//! included. The rounds alternate, and the medians are printed.
//!
//! `scripts/bench` runs it; everything is on loopback and ends by itself.
#![expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own clocks and sleep")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

mod client;
mod door;
mod mock;
mod plan;
mod process;
mod server;

use door::Door;
use plan::Plan;
use process::Cpu;
use server::{Kind, Server};

/// Tokens a second of every stream.
const RATE: u64 = 40;

/// Streams that warm a server up: few, for the memory that they leave behind is used again by those that are measured.
const WARM_UP: usize = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("mock") => mock::run(),
        Some("client") => client::run(&args[1..]),
        _ => Plan::from_args(&args).and_then(|plans| plans.iter().try_for_each(measure)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cpu_per_token: {message}");
            ExitCode::FAILURE
        }
    }
}

/// One round's figures.
struct Round {
    user_us: f64,
    system_us: f64,
    /// What of it the server's children took.
    children_us: f64,
    tokens_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// Memory before the streams.
    idle_kib: f64,
    /// Memory when the window begins: a few seconds after the first token.
    kib_per_stream: f64,
    /// Memory that each further token took.
    bytes_per_token: f64,
    /// All tokens, from the first to the last words of every stream: each has come.
    delivered: u64,
}

impl Round {
    fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

fn measure(plan: &Plan) -> Result<(), String> {
    let Plan { streams, seconds, rounds, .. } = plan;
    println!(
        "{streams} streams × {RATE} tokens/s, {rounds} × {seconds} s each, medians; CPU of the server process(es)\n"
    );
    let kinds: Vec<Kind> = plan.kinds.iter().copied().filter(|kind| kind.is_available()).collect();
    let mock = mock::start()?;
    if plan.with_direct {
        let direct = round(plan, None, &mock)?;
        println!(
            "without a server between: latency p50 {:.2} ms, p99 {:.2} ms\n",
            direct.p50_us / 1e3,
            direct.p99_us / 1e3
        );
    }
    let (titles, rule) = if plan.thorough { (" MiB idle | tokens, all |", " --- | --- |") } else { ("", "") };
    println!(
        "| server | workers | µs/token | user | system | ratio | tokens/s | p50 ms | p99 ms | KiB/stream | B/token kept |{titles}"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |{rule}");
    for &workers in &plan.workers {
        let mut found: Vec<(Kind, Vec<Round>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        for _ in 0..*rounds {
            for (kind, rounds) in &mut found {
                rounds.push(round(plan, Some((*kind, workers)), &mock)?);
            }
        }
        let base = found.iter().find(|(kind, _)| *kind == plan.base).map(|(_, rounds)| median(rounds, Round::cpu_us));
        let mut notes = Vec::new();
        for (kind, rounds) in &found {
            let of = |figure: fn(&Round) -> f64| median(rounds, figure);
            let ratio = base.map_or("–".to_owned(), |base| format!("{:.2}", of(Round::cpu_us) / base));
            print!(
                "| {} | {workers} | {:.1} | {:.1} | {:.1} | {ratio} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} |",
                kind.name(),
                of(Round::cpu_us),
                of(|r| r.user_us),
                of(|r| r.system_us),
                of(|r| r.tokens_per_s),
                of(|r| r.p50_us) / 1e3,
                of(|r| r.p99_us) / 1e3,
                of(|r| r.kib_per_stream),
                of(|r| r.bytes_per_token),
            );
            match plan.thorough {
                true => {
                    let all: u64 = rounds.iter().map(|round| round.delivered).sum();
                    println!(" {:.1} | {all} |", of(|r| r.idle_kib) / 1024.0);
                }
                false => println!(),
            }
            if *kind == Kind::Stack {
                notes.push(format!("of the stack's CPU, Redis took {:.1} µs/token", of(|r| r.children_us)));
            }
            let due = (RATE * *streams as u64) as f64;
            if plan.thorough && of(|r| r.tokens_per_s) < 0.98 * due {
                notes.push(format!("{} did not keep up: {due} tokens/s were due", kind.name()));
            }
        }
        notes.iter().for_each(|note| println!("\n{note}"));
    }
    println!();
    Ok(())
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A fresh server, a fresh client, one window.
fn round(plan: &Plan, server: Option<(Kind, usize)>, mock: &mock::Mock) -> Result<Round, String> {
    let server = server.map(|(kind, workers)| server::start(kind, workers, mock.port)).transpose()?;
    let name = server.as_ref().map_or("no server".to_owned(), |server| server.kind.name());
    one_window(plan, server.as_ref(), mock).map_err(|problem| format!("{name}: {problem}"))
}

fn one_window(plan: &Plan, server: Option<&Server>, mock: &mock::Mock) -> Result<Round, String> {
    let (door, port) = server.map_or((Door::Completions, mock.port), |server| (server.kind.door(), server.port));
    let usage = || server.map_or(Ok(Cpu::default()), |server| process::usage(server.pid()));
    if plan.thorough {
        // What a server needs once, compiled code above all, is no part of what a stream costs.
        let tokens = RATE * if plan.seconds < 5 { 1 } else { 3 };
        let mut client = client::start(door, port, WARM_UP, tokens)?;
        check(&client.ask("whole")?, WARM_UP as u64 * tokens)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let before = usage()?;
    let settle = match (plan.seconds < 5, plan.thorough) {
        (true, _) => 1,
        (false, false) => 2,
        (false, true) => 5,
    };
    // Long enough for the ramp and the window even on a busy machine; what is left then is cut, or waited for.
    let tokens = RATE * (plan.seconds + if plan.thorough { settle + 5 } else { 30 });
    let mut client = client::start(door, port, plan.streams, tokens)?;
    client.ask("flowing")?;
    std::thread::sleep(Duration::from_secs(settle));
    client.ask("begin")?;
    let (begun, began) = (usage()?, Instant::now());
    std::thread::sleep(Duration::from_secs(plan.seconds));
    let (ended, took) = (usage()?, began.elapsed());
    let seen = client::Seen::parse(&client.ask("end")?)?;
    if seen.tokens == 0 {
        return Err("no token came".into());
    }
    if let Some(problem) = seen.problem {
        return Err(problem);
    }
    let mut delivered = seen.tokens;
    if plan.thorough {
        if server.is_some_and(|server| server.kind.resumes()) {
            let resumed = client.ask("resume")?;
            if resumed != "resumed" {
                return Err(format!("an answer was asked for again: {resumed}"));
            }
        }
        delivered = tokens * plan.streams as u64;
        check(&client.ask("whole")?, delivered)?;
    }
    let tokens = seen.tokens as f64;
    Ok(Round {
        user_us: (ended.user - begun.user).as_secs_f64() * 1e6 / tokens,
        system_us: (ended.system - begun.system).as_secs_f64() * 1e6 / tokens,
        children_us: (ended.children - begun.children).as_secs_f64() * 1e6 / tokens,
        tokens_per_s: tokens / took.as_secs_f64(),
        p50_us: seen.p50_us as f64,
        p99_us: seen.p99_us as f64,
        idle_kib: before.rss_kib as f64,
        kib_per_stream: begun.rss_kib.saturating_sub(before.rss_kib) as f64 / plan.streams as f64,
        bytes_per_token: ended.rss_kib.saturating_sub(begun.rss_kib) as f64 * 1024.0 / tokens,
        delivered,
    })
}

/// Every stream has had all of its tokens and its last words.
fn check(whole: &str, tokens: u64) -> Result<(), String> {
    let seen = client::Seen::parse(whole)?;
    match seen.problem {
        Some(problem) => Err(problem),
        None if seen.tokens == tokens => Ok(()),
        None => Err(format!("{} tokens came, {tokens} were due", seen.tokens)),
    }
}
