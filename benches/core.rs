//! What the core costs in one process, without sockets: encoding, appending and publishing, replay, fan-out.
//!
//! `scripts/bench` runs it; with `--quick`, or without cargo's `--bench`, it only shows that it works.
#![expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own clock")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use http_body_util::BodyExt as _;
use steerage::{
    Config, Server,
    dialect::{
        ai_sdk::{Chunks, Options, Turn, wire},
        openai_chat,
        openai_responses::{self, Responses},
    },
    env::Millis,
    event::{Event, FinishReason, Trigger},
    frame::{Encoder, Frame},
    id::{EventId, Seq, SessionKey, Tenant},
    log::SessionLog,
    provider::{Delta, Deltas, Model, Prompt, Provider, ProviderError},
    store::{Append, Store as _, memory::MemoryStore},
};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

fn main() {
    let quick = !std::env::args().any(|arg| arg == "--bench") || std::env::args().any(|arg| arg == "--quick");
    let (events, tokens, readers) = if quick { (10_000, 1_000, 50) } else { (1_000_000, 20_000, 2_000) };
    println!("| what | µs |");
    println!("| --- | --- |");
    row("encode a text delta", encode(events));
    let mut turn = Turn::new(Options::default());
    let tell_turn = |frame: &Frame, chunks: &mut Chunks| turn.push(frame, chunks).expect("our own frame");
    row("tell a text delta as a chunk of the AI SDK, to SSE", tell(events, wire::sse, tell_turn));
    let mut completion = openai_chat::Completion::new("a".parse().expect("an id"), Default::default());
    let tell_chat = |frame: &Frame, chunks: &mut Chunks| completion.push(frame, chunks).expect("our own frame");
    row("tell a text delta as a chunk of Chat Completions, to SSE", tell(events, wire::sse, tell_chat));
    let mut responses = Responses::new("a".parse().expect("an id"));
    let tell_responses = |frame: &Frame, chunks: &mut Chunks| {
        responses.push(frame, chunks).expect("our own frame");
    };
    let what = "tell a text delta as an event of the Responses API, to SSE";
    row(what, tell(events, openai_responses::wire::sse, tell_responses));
    row("append a frame to the memory store and publish it", append_and_publish(events));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    row("a token through a session, no reader", runtime.block_on(session(tokens)));
    row("replay of a finished session, an event", runtime.block_on(replay(tokens)));
    let what = format!("fan-out of one session to {readers} readers, a delivery");
    row(&what, runtime.block_on(fan_out(if quick { 20 } else { 500 }, readers)));
}

fn row(what: &str, us: f64) {
    println!("| {what} | {us:.3} |");
}

fn per(began: Instant, count: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / count as f64
}

fn frames(count: usize) -> Vec<Frame> {
    let epoch = "k7q2mx".parse().expect("an epoch");
    let event = Event::TextDelta { block: 1, text: " token".into(), lossy: false };
    let mut encoder = Encoder::default();
    (1..=count as u64).map(|n| encoder.encode(EventId { epoch, seq: Seq(n) }, Millis(0), &event)).collect()
}

fn encode(count: usize) -> f64 {
    let began = Instant::now();
    black_box(frames(count));
    per(began, count)
}

/// What a reader of the dialect costs beyond one of the native stream, which is sent the frame as it is.
fn tell(count: usize, frame_it: fn(&str, &mut Vec<u8>), mut fold: impl FnMut(&Frame, &mut Chunks)) -> f64 {
    let mut events = vec![Event::RunStarted {
        run_id: "run_k7q2mx_1".parse().expect("an id"),
        model: "a/b".into(),
        trigger: Trigger::Send,
        provider: "a".into(),
        demo: false,
        metadata: Default::default(),
    }];
    events.push(Event::TextStarted { block: 1, message_id: "msg_k7q2mx_2".parse().expect("an id") });
    let epoch = "k7q2mx".parse().expect("an epoch");
    let mut encoder = Encoder::default();
    let head = (1..).zip(&events).map(|(n, event)| encoder.encode(EventId { epoch, seq: Seq(n) }, Millis(0), event));
    let (head, deltas): (Vec<_>, _) = (head.collect(), frames(count));
    let (mut chunks, mut sse) = (Chunks::new(), Vec::new());
    let began = Instant::now();
    for frame in head.iter().chain(&deltas) {
        fold(frame, &mut chunks);
        chunks.iter().for_each(|chunk| frame_it(chunk, &mut sse));
        chunks.clear();
        black_box(&sse);
        sse.clear();
    }
    per(began, count)
}

fn append_and_publish(count: usize) -> f64 {
    let store = MemoryStore::default();
    let key = SessionKey { tenant: Tenant::default(), session: "a".parse().expect("an id") };
    store.create(&key).now_or_never().expect("at once").expect("a new session");
    let log = SessionLog::new(vec![("k7q2mx".parse().expect("an epoch"), Seq(1))], Seq::ZERO);
    let frames = frames(count);
    let began = Instant::now();
    for (expected, frame) in (0..).zip(frames) {
        let frames = vec![frame.clone()];
        let append = Append {
            key: key.clone(),
            term: 1,
            expected: Seq(expected),
            frames,
            note: None,
            binding: false,
            rests: false,
        };
        store.append(append).now_or_never().expect("at once").expect("no conflict");
        log.publish([frame], false);
    }
    per(began, count)
}

/// Says so many tokens, each when it is allowed to.
struct Teller {
    tokens: usize,
    allowed: Arc<Semaphore>,
}

impl Provider for Teller {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, ProviderError>> {
        async { Ok(vec![Model { name: "teller".into(), created: 0 }]) }.boxed()
    }

    fn stream(&self, _: Prompt) -> Deltas {
        let (tokens, allowed) = (self.tokens, self.allowed.clone());
        let text = move |n: usize| {
            let allowed = allowed.clone();
            async move {
                allowed.acquire().await.expect("never closed").forget();
                // Deltas that are ready together become one event: each comes in a turn of its own.
                tokio::task::yield_now().await;
                Ok(match n < tokens {
                    true => Delta::Text { text: " token".into(), lossy: false },
                    false => Delta::End { finish_reason: FinishReason::Stop, usage: None, warning: None },
                })
            }
        };
        stream::iter(0..=tokens).then(text).boxed()
    }
}

/// A server with one session that is ready to tell, and what allows it to.
async fn teller(tokens: usize) -> (Router, Arc<Semaphore>) {
    let allowed = Arc::new(Semaphore::new(0));
    let provider = Teller { tokens, allowed: allowed.clone() };
    // Thousands read one session here, which is what is measured.
    let mut config = Config::in_memory();
    (config.limits.readers_per_session_max, config.tenant_limits.readers_max) = (0, 0);
    let server = Server::new(config).expect("a valid configuration").provider("bench", provider);
    let router = server.start().expect("it starts").router;
    let body = r#"{"id":"a","model":"bench/teller","input":"go"}"#;
    let create = Request::post("/v1/sessions").header("content-type", "application/json").body(Body::from(body));
    let created = router.clone().oneshot(create.expect("a request")).await.expect("infallible");
    assert_eq!(created.status(), 201);
    (router, allowed)
}

/// Follows the session to its end; gives the number of its events.
async fn follow(router: &Router) -> usize {
    let request = Request::get("/v1/sessions/a/events?until=idle").body(Body::empty()).expect("a request");
    let mut body = router.clone().oneshot(request).await.expect("infallible").into_body();
    let mut events = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.expect("infallible").into_data().expect("no trailers");
        events += memchr::memmem::find_iter(&data, b"\nid: ").count() + usize::from(data.starts_with(b"id: "));
    }
    events
}

async fn session(tokens: usize) -> f64 {
    let (router, allowed) = teller(tokens).await;
    let began = Instant::now();
    allowed.add_permits(tokens + 1);
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let request = Request::get("/v1/sessions?state=idle").body(Body::empty()).expect("a request");
        let listed = router.clone().oneshot(request).await.expect("infallible").into_body().collect().await;
        if memchr::memmem::find(&listed.expect("infallible").to_bytes(), br#""session_id":"a""#).is_some() {
            return per(began, tokens);
        }
    }
}

async fn replay(tokens: usize) -> f64 {
    let (router, allowed) = teller(tokens).await;
    allowed.add_permits(tokens + 1);
    let events = follow(&router).await;
    assert!(events > tokens, "{events} events");
    let rounds = 20;
    let began = Instant::now();
    for _ in 0..rounds {
        assert_eq!(follow(&router).await, events);
    }
    per(began, events * rounds)
}

async fn fan_out(tokens: usize, readers: usize) -> f64 {
    let (router, allowed) = teller(tokens).await;
    let tell = async {
        // One token at a time: every reader has the last one before the next is said.
        for _ in 0..=tokens {
            allowed.add_permits(1);
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
    };
    let tasks: Vec<_> = (0..readers)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { follow(&router).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let (counts, ()) = tokio::join!(join_all(tasks), tell);
    let deliveries: usize = counts.into_iter().map(|count| count.expect("no reader breaks")).sum();
    assert!(deliveries > tokens * readers);
    per(began, deliveries)
}
