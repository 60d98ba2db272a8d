// What the events of a session mean: a pure fold of its log into the shape of the server's own snapshot.
//
// Beside the snapshot the fold knows what is true within a batch of events only. It is kept apart, by state, and found
// again where a state came from elsewhere: from a snapshot, from JSON.

/** @typedef {import('./steerage-state.js').State} State */

const behind = new WeakMap();

/** The state before the first event. */
export function initial() {
  return {
    session_id: '', state: 'idle', model: '', created_at: '', updated_at: '', metadata: {}, durability: 'memory',
    retention_s: 0, last_event_id: '', tools: [], messages: [], run: null, last_run: null, approvals: [], queue: [], receipts: [],
    usage: {},
  };
}

/**
 * Takes one event in: a new state, which shares with the old one whatever did not change. A `snapshot` takes the place of
 * the state. An event that is not known moves `last_event_id` alone.
 */
export function fold(state, event) {
  if (event.type === 'snapshot') return event.snapshot;
  // Notices are about a connection and not about the session.
  if (event.id === undefined) return state;
  const hidden = behind.get(state) ?? shown(state);
  const next = { ...state, last_event_id: event.id };
  // Deltas carry no time: they come too often.
  if (event.at !== undefined) next.updated_at = event.at;
  let kept = hidden;
  const change = EVENTS[event.type];
  if (change) kept = { ...hidden, ...change(next, event, hidden) };
  if (!QUIET.has(event.type)) {
    next.state = doing(next, kept);
    if (next.run && change) {
      const text = growing(next.messages);
      if (text !== next.run.text) next.run = { ...next.run, text };
    }
  }
  behind.set(next, kept);
  return next;
}

/** Those that come often and change neither what a session does nor which message grows. */
const QUIET = new Set(['text.delta', 'reasoning.delta', 'tool_call.delta']);

/** States of a call that has ended. */
const ENDED = new Set(['completed', 'failed']);

/**
 * Behind a snapshot, which stands between whole batches of events: no input waits for its run, and what runs is the model
 * unless it is a tool, of an answer that is whole.
 */
function shown({ state, messages }) {
  const newest = messages.findLast(message => message.role === 'assistant');
  const tools = newest?.status === 'complete' && newest.content.some(part => part.type === 'tool_call' && !ENDED.has(part.state));
  return { stepOpen: state === 'running' && !tools, unanswered: undefined };
}

/** What the session is doing. */
function doing({ run, messages, tools }, { stepOpen }) {
  if (!run) return 'idle';
  if (stepOpen || run.step === 0) return 'running';
  let waits = false;
  for (const part of messages.findLast(message => message.role === 'assistant')?.content ?? []) {
    if (part.type !== 'tool_call') continue;
    if (part.state === 'running') return 'running';
    waits ||= part.state === 'awaiting_approval'
      || part.state === 'ready' && tools.find(tool => tool.name === part.name)?.executor === 'client';
  }
  return waits ? 'waiting' : 'running';
}

/** What the answer that is being written says so far. */
function growing(messages) {
  const message = messages.findLast(({ status }) => status === 'streaming');
  return message ? message.content.map(part => part.type === 'text' ? part.text : '').join('') : '';
}

function plus(a, b) {
  const sum = { ...a };
  for (const [name, tokens] of Object.entries(b)) sum[name] = (sum[name] ?? 0) + tokens;
  return sum;
}

function put(next, at, message) {
  next.messages = next.messages.with(at, message);
}

/** One more message; the first one of a run that had none is where a rollback begins. */
function push(next, message) {
  next.messages = [...next.messages, message];
  if (next.run?.first_message_id === null) next.run = { ...next.run, first_message_id: message.message_id };
}

/** The part of an answer that grows: the message of that name, if it is the last one, else a new message. */
function grow(next, messageId, part) {
  const last = next.messages.at(-1);
  if (last?.message_id === messageId) {
    return put(next, next.messages.length - 1, { ...last, content: [...last.content, part] });
  }
  const message = { message_id: messageId, role: 'assistant' };
  if (next.run) message.run_id = next.run.run_id;
  push(next, { ...message, status: 'streaming', content: [part] });
}

/** Adds to the newest block. */
function append(next, { type, block, text }) {
  const last = next.messages.at(-1), part = last?.content.at(-1);
  if (part?.block !== block || part.type === 'tool_call') return;
  put(next, next.messages.length - 1, { ...last, content: last.content.with(-1, { ...part, text: part.text + text }) });
  if (next.run && type === 'text.delta' && last.status === 'streaming') {
    next.run = { ...next.run, text: next.run.text + text };
  }
}

/** The message that was growing no longer does. */
function endStreaming(next, status) {
  const at = next.messages.findLastIndex(message => message.role === 'assistant');
  if (at >= 0 && next.messages[at].status === 'streaming') put(next, at, { ...next.messages[at], status });
}

function changeCall(next, callId, change) {
  for (let at = next.messages.length - 1; at >= 0; at -= 1) {
    const message = next.messages[at];
    const place = message.content.findLastIndex(part => part.type === 'tool_call' && part.call_id === callId);
    if (place < 0) continue;
    return put(next, at, { ...message, content: message.content.with(place, { ...message.content[place], ...change }) });
  }
}

/** A call that was brought along with a conversation, with its end. */
function brought({ call_id, name, arguments: args, output, error }) {
  const call = { type: 'tool_call', call_id, name, state: error === undefined ? 'completed' : 'failed', arguments: args };
  return error === undefined ? { ...call, output: output ?? null } : { ...call, error: { code: 'error', message: error } };
}

function endRun(next, status, outcome, why) {
  endStreaming(next, status);
  if (!next.run) return;
  next.last_run = { run_id: next.run.run_id, outcome, ...why };
  next.run = null;
}

function settle(next, commandId) {
  const others = ({ command_id }) => command_id !== commandId;
  next.queue = next.queue.filter(others);
  next.receipts = next.receipts.filter(others);
}

/** Each changes the new state; what it gives is what changed behind it. */
const EVENTS = {
  'session.created'(next, e) {
    Object.assign(next, initial(), {
      session_id: e.session_id, model: e.model, created_at: e.at, updated_at: e.at, metadata: e.metadata ?? {},
      durability: e.durability, retention_s: e.retention_s, last_event_id: e.id,
      tools: (e.tools ?? []).map(({ name, executor = 'client' }) => ({ name, executor })),
    });
  },
  'history.rewound'(next, { message_ids }) {
    const gone = new Set(message_ids);
    next.messages = next.messages.map(message => gone.has(message.message_id) ? { ...message, rolled_back: true } : message);
  },
  'input.added'(next, { message_id, role, content, reasoning, calls = [] }, { unanswered }) {
    // An unfinished answer that waited for another attempt, and was steered instead.
    endStreaming(next, 'steered');
    const parts = [{ type: 'text', text: content }, ...calls.map(brought)];
    if (reasoning !== undefined) parts.unshift({ type: 'reasoning', text: reasoning });
    const message = { message_id, role };
    if (next.run) message.run_id = next.run.run_id;
    push(next, { ...message, status: 'complete', content: parts });
    return next.run ? undefined : { unanswered: unanswered ?? next.messages.length - 1 };
  },
  'run.started'(next, { run_id, trigger, at }, { unanswered }) {
    const first_message_id = next.messages[unanswered]?.message_id ?? null;
    next.run = { run_id, trigger, started_at: at, step: 0, attempt: 0, recoveries: 0, first_message_id, text: '', usage: null };
    return { stepOpen: false, unanswered: undefined };
  },
  'run.recovered'(next, { attempt }) {
    if (next.run) next.run = { ...next.run, recoveries: attempt };
  },
  'step.started'(next, { step, attempt }) {
    if (next.run) next.run = { ...next.run, step, attempt };
    return { stepOpen: true };
  },
  'step.ended'(next, { finish_reason, usage }) {
    if (finish_reason === 'steered') endStreaming(next, 'steered');
    else if (finish_reason !== 'error' && finish_reason !== 'cancelled') endStreaming(next, 'complete');
    if (next.run && usage) {
      next.run = { ...next.run, usage: plus(next.run.usage ?? {}, usage) };
      next.usage = plus(next.usage, usage);
    }
    return { stepOpen: false };
  },
  'text.started': (next, { message_id, block }) => grow(next, message_id, { type: 'text', block, text: '' }),
  'text.delta': append,
  'reasoning.started': (next, { message_id, block }) => grow(next, message_id, { type: 'reasoning', block, text: '' }),
  'reasoning.delta': append,
  'tool_call.started'(next, { message_id, block, call_id, name }) {
    grow(next, message_id, { type: 'tool_call', block, call_id, name, state: 'streaming' });
  },
  'tool_call.ready'(next, { call_id, arguments: args }) {
    changeCall(next, call_id, { state: 'ready', arguments: args });
  },
  'approval.requested'(next, { approval_id, call_id, name, arguments: args, digest, expires_at }) {
    next.approvals = [...next.approvals, { approval_id, call_id, name, arguments: args, digest, expires_at }];
    changeCall(next, call_id, { state: 'awaiting_approval' });
  },
  'approval.resolved'(next, { approval_id, outcome, edited_arguments }) {
    const approval = next.approvals.find(open => open.approval_id === approval_id);
    if (!approval) return;
    next.approvals = next.approvals.filter(open => open !== approval);
    if (outcome !== 'approved') return;
    changeCall(next, approval.call_id, { state: 'ready', ...(edited_arguments === undefined ? {} : { edited_arguments }) });
  },
  'tool.started'(next, { call_id }) {
    changeCall(next, call_id, { state: 'running' });
  },
  'tool.completed'(next, { call_id, output }) {
    changeCall(next, call_id, { state: 'completed', output });
  },
  'tool.failed'(next, { call_id, code, message }) {
    changeCall(next, call_id, { state: 'failed', error: { code, message } });
  },
  'command.accepted'(next, { command_id, kind, when, content, by, seq }) {
    next.queue = [...next.queue, { command_id, kind, when, content, by }];
    next.receipts = [...next.receipts, { command_id, kind, status: 'accepted', seq }];
  },
  'command.applied': (next, { command_id }) => settle(next, command_id),
  'command.withdrawn': (next, { command_id }) => settle(next, command_id),
  'run.completed': (next, { finish_reason }) => endRun(next, 'complete', 'completed', { finish_reason }),
  'run.cancelled'(next, { mode }) {
    const first = next.run?.first_message_id;
    if (mode === 'rollback' && first) {
      // The newest of that name: one that has left the context may be said again.
      const from = next.messages.findLastIndex(message => message.message_id === first);
      next.messages = next.messages.map((message, at) => at < from ? message : { ...message, rolled_back: true });
    }
    endRun(next, 'cancelled', 'cancelled', {});
  },
  'run.failed': (next, { code, message }) => endRun(next, 'failed', 'failed', { code, message }),
};
