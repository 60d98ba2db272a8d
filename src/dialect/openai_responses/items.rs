//! What a session was given and what it answered, as items.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Chunks, ItemId, ItemKind, ResponseId, Responses,
    brought::{self, Brought},
    item,
    read::{self, place, read},
    shown::reason,
    wire,
};
use crate::{
    command::CancelMode,
    event::fields,
    frame::Frame,
    id::{CallId, EventId, MessageId, SessionId},
    spec::{Executor, SessionSpec},
};

/// What a session was given and what it answered, as items: the fold of its log from the first frame on.
#[derive(Debug)]
pub struct Items {
    session: SessionId,
    created: Option<Frame>,
    /// Tools that the server runs.
    servers: HashSet<String>,
    list: Vec<Item>,
    turns: Vec<Turn>,
    run: Option<Run>,
    /// The first input that no run has taken up.
    unanswered: Option<usize>,
    /// The message of a block, by the event that began it.
    messages: HashMap<EventId, MessageId>,
    /// The message of a call.
    calls: HashMap<CallId, MessageId>,
    /// Calls that the client has and whose results are not there.
    owed: HashSet<CallId>,
    chunks: Chunks,
}

#[derive(Debug)]
struct Item {
    json: Value,
    message: Option<MessageId>,
    /// From the turn with this number in `turns` on it is in the context of none.
    gone: Option<usize>,
}

#[derive(Debug)]
struct Turn {
    id: ResponseId,
    /// How many items there were before its own, once it has one, or is over.
    before: Option<usize>,
    /// How many there were at its end.
    through: Option<usize>,
}

#[derive(Debug)]
struct Run {
    fold: Responses,
    /// Where what it answers begins.
    first: usize,
    /// Items of the current turn so far, and those of them that are done.
    added: usize,
    done: BTreeMap<usize, Item>,
    /// What came in between: behind so many of them.
    inputs: Vec<(usize, Item)>,
}

impl Items {
    /// Before the first frame of this session.
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            created: None,
            servers: HashSet::new(),
            list: Vec::new(),
            turns: Vec::new(),
            run: None,
            unanswered: None,
            messages: HashMap::new(),
            calls: HashMap::new(),
            owed: HashSet::new(),
            chunks: Chunks::new(),
        }
    }

    /// Takes the next frame of the log in.
    pub fn push(&mut self, frame: &Frame) -> serde_json::Result<()> {
        self.chunks.clear();
        let mut earlier = 0;
        if frame.kind() == "run.started" {
            self.begin_run()?;
        }
        if let Some(run) = &mut self.run {
            earlier = run.fold.push(frame, &mut self.chunks)?;
        }
        self.tell(0..earlier)?;
        self.event(frame)?;
        self.tell(earlier..self.chunks.len())?;
        if frame.kind() == "run.cancelled" && read::<read::RunCancelled>(&frame.json())?.mode == CancelMode::Rollback {
            let first = self.run.as_ref().map_or(usize::MAX, |run| run.first);
            let from = self.turns.len();
            self.list.iter_mut().skip(first).for_each(|item| leave(item, from));
        }
        Ok(())
    }

    /// What that response was given: everything before its first output item that had not left the context when it began.
    /// `None` where it has not begun.
    pub fn before(&self, id: &ResponseId) -> Option<Vec<Value>> {
        let at = self.turn(id)?;
        Some(self.up_to(self.turns[at].before.unwrap_or(self.list.len()), at))
    }

    /// All of them, also those that have left the context.
    pub fn every(&self) -> impl Iterator<Item = &Value> {
        let running = self.run.iter().flat_map(|run| run.done.values().chain(run.inputs.iter().map(|(_, item)| item)));
        self.list.iter().chain(running).map(|item| &item.json)
    }

    /// The same and what the response consists of: what is before one that goes on with it. `None` where it has not ended.
    pub fn through(&self, id: &ResponseId) -> Option<Vec<Value>> {
        let at = self.turn(id)?;
        Some(self.up_to(self.turns[at].through?, at))
    }

    fn turn(&self, id: &ResponseId) -> Option<usize> {
        self.turns.iter().rposition(|turn| turn.id == *id)
    }

    fn up_to(&self, end: usize, turn: usize) -> Vec<Value> {
        let stays = |item: &&Item| item.gone.is_none_or(|from| from > turn);
        self.list[..end].iter().filter(stays).map(|item| item.json.clone()).collect()
    }

    fn begin_run(&mut self) -> serde_json::Result<()> {
        let mut fold = Responses::new(self.session.clone());
        if let Some(created) = &self.created {
            fold.push(created, &mut self.chunks)?;
        }
        let first = self.unanswered.take().unwrap_or(self.list.len());
        self.run = Some(Run { fold, first, added: 0, done: BTreeMap::new(), inputs: Vec::new() });
        Ok(())
    }

    /// What the events of a response say of its items.
    fn tell(&mut self, which: std::ops::Range<usize>) -> serde_json::Result<()> {
        #[derive(Deserialize)]
        struct Done {
            output_index: usize,
            item: Value,
        }
        let (list, turns) = (&mut self.list, &mut self.turns);
        let Some(run) = &mut self.run else { return Ok(()) };
        for chunk in self.chunks.iter().skip(which.start).take(which.len()) {
            match wire::kind(chunk) {
                "response.created" => {
                    let id: Option<ResponseId> = read::<read::Created>(chunk.as_bytes())?.response.id.parse().ok();
                    turns.extend(id.map(|id| Turn { id, before: None, through: None }));
                }
                "response.output_item.added" => {
                    run.added += 1;
                    let so_far = list.len();
                    turns.last_mut().into_iter().for_each(|turn| turn.before = turn.before.or(Some(so_far)));
                }
                "response.output_item.done" => {
                    let Done { output_index, item: json } = read(chunk.as_bytes())?;
                    if json["type"] == "function_call" {
                        // Of one that was cut no result can come.
                        if json["status"] != "completed" {
                            continue;
                        }
                        self.owed.extend(json["call_id"].as_str().and_then(|id| id.parse::<CallId>().ok()));
                    }
                    let id: Option<ItemId> = json["id"].as_str().and_then(|id| id.parse().ok());
                    let message = id.and_then(|id| self.messages.get(&id.event).cloned());
                    run.done.insert(output_index, Item { json, message, gone: None });
                }
                "response.completed" | "response.incomplete" | "response.failed" => {
                    let before = list.len();
                    let mut inputs = std::mem::take(&mut run.inputs).into_iter().peekable();
                    for (index, item) in std::mem::take(&mut run.done) {
                        while let Some((_, input)) = inputs.next_if(|(behind, _)| *behind <= index) {
                            list.push(input);
                        }
                        list.push(item);
                    }
                    list.extend(inputs.map(|(_, input)| input));
                    run.added = 0;
                    if let Some(turn) = turns.last_mut() {
                        turn.before = turn.before.or(Some(before));
                        turn.through = Some(list.len());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What the event itself gives, or takes.
    fn event(&mut self, frame: &Frame) -> serde_json::Result<()> {
        let kind = frame.kind();
        if kind.ends_with(".delta") {
            return Ok(());
        }
        let json = frame.json();
        match kind {
            "session.created" => {
                let spec: SessionSpec = read(&json)?;
                let servers = spec.tools.into_iter().filter(|tool| tool.executor != Executor::Client);
                self.servers = servers.map(|tool| tool.name).collect();
                self.created = Some(frame.clone());
            }
            "text.started" | "reasoning.started" => {
                self.messages.insert(place(frame), read::<read::OfMessage>(&json)?.message_id);
            }
            "tool_call.started" => {
                let (message, called): (read::OfMessage, read::Called<'_>) = (read(&json)?, read(&json)?);
                self.messages.insert(place(frame), message.message_id.clone());
                self.calls.insert(called.call_id, message.message_id);
            }
            "approval.requested" => {
                let message = self.calls.get(&read::<read::Requested<'_>>(&json)?.call_id);
                self.messages.extend(message.cloned().map(|message| (place(frame), message)));
            }
            "tool.completed" => {
                let fields::Completed { call_id, output } = read(&json)?;
                let output = item::output_literal(&serde_json::from_str(output.get())?);
                self.answer(call_id, &output, frame)?;
            }
            "tool.failed" => {
                let fields::Failed { call_id, code, message } = read(&json)?;
                self.answer(call_id, &item::literal(reason(code, &message)), frame)?;
            }
            "input.added" => {
                let input: read::Input = read(&json)?;
                if self.run.as_ref().is_none_or(|run| run.fold.run_is_over()) {
                    self.unanswered.get_or_insert(self.list.len());
                }
                let brought = Brought { session: &self.session, event: place(frame), servers: &self.servers };
                for json in brought::items(&brought, &input) {
                    self.add(Some(input.message_id.clone()), &json)?;
                }
            }
            "history.rewound" => {
                let rewound: HashSet<_> = read::<read::Rewound>(&json)?.message_ids.into_iter().collect();
                let from = self.turns.len();
                let is_meant = |item: &&mut Item| item.message.as_ref().is_some_and(|id| rewound.contains(id));
                self.list.iter_mut().filter(is_meant).for_each(|item| leave(item, from));
            }
            _ => {}
        }
        Ok(())
    }

    /// A call of the client's has its result.
    fn answer(&mut self, call_id: CallId, output: &str, frame: &Frame) -> serde_json::Result<()> {
        if !self.owed.remove(&call_id) {
            return Ok(());
        }
        let id = ItemId { kind: ItemKind::FunctionOutput, session: self.session.clone(), event: place(frame) };
        let json = item::function_call_output(&id, call_id.as_str(), output);
        self.add(self.calls.get(&call_id).cloned(), &json)
    }

    /// An item that no response consists of: behind what there is of the current one.
    fn add(&mut self, message: Option<MessageId>, json: &str) -> serde_json::Result<()> {
        let item = Item { json: serde_json::from_str(json)?, message, gone: None };
        match &mut self.run {
            Some(run) if run.added > 0 => run.inputs.push((run.added, item)),
            _ => self.list.push(item),
        }
        Ok(())
    }
}

fn leave(item: &mut Item, from: usize) {
    item.gone.get_or_insert(from);
}
