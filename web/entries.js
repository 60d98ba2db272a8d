// What the timeline holds: events of the log in their order, with marks and this page's commands between them. No DOM.

/** Events, commands and marks that are held. Each is an object and its text of about 1 KB: 50 MB at most. */
export const KEPT_MAX = 50_000;
/** Characters of JSON that are held: a few huge inputs or outputs must not fill the tab's memory. */
export const KEPT_CHARACTERS_MAX = 64 * 1024 * 1024;
/** Part that is let go at a time, so that the list is not moved for every event. */
const SLACK = 1 / 50;
/** Shown of an event in its row, in characters: no row is wider. */
const PREVIEW_MAX = 300;

export const KINDS = { text: 'Text', reasoning: 'Reasoning', tools: 'Tools', commands: 'Commands', runs: 'Runs' };
const KIND_OF = {
  text: 'text', reasoning: 'reasoning', tool_call: 'tools', tool: 'tools', approval: 'tools', command: 'commands', run: 'runs',
  step: 'runs', session: 'runs', history: 'commands', input: 'text',
};
const RUN_ENDS = new Set(['run.completed', 'run.cancelled', 'run.failed']);

/** The kinds that an entry is of. What was said by a command is both. */
export function kindsOf(entry) {
  if (entry.as === 'command') return ['commands'];
  if (entry.as === 'mark') return [];
  const kind = KIND_OF[entry.type.split('.')[0]];
  return entry.event.command_id && kind !== 'commands' ? [kind, 'commands'] : [kind];
}

/** What entries that belong together have in common: a command, an approval, a call. */
function ties(of) {
  const found = [];
  if (of.command_id) found.push('command ' + of.command_id);
  if (of.target) found.push('command ' + of.target);
  if (of.approval_id) found.push('approval ' + of.approval_id);
  // A call's pieces belong together; so do its approval and its run.
  if (of.call_id) found.push('call ' + of.call_id);
  return found;
}

/** A row is one line: line breaks are shown as a sign. */
export const line = text => text.slice(0, PREVIEW_MAX).replace(/\s*\n\s*/g, ' ↵ ');
const short = value => line(typeof value === 'string' ? value : JSON.stringify(value) ?? '');
const words = (...parts) => parts.filter(part => part !== undefined && part !== null && part !== '').map(short).join(' · ');

/** What an event says, in one line. */
export function preview(event) {
  switch (event.type) {
    case 'text.delta': case 'reasoning.delta': return short(event.text);
    case 'tool_call.delta': return short(event.arguments);
    case 'text.started': case 'text.ended': case 'reasoning.started': case 'reasoning.ended': return words(`block ${event.block}`, event.message_id);
    case 'session.created': return words(event.model, event.durability);
    case 'input.added': return words(event.role, event.content);
    case 'run.started': return words(event.trigger, event.model, event.run_id);
    case 'run.completed': return words(event.finish_reason, usage(event.usage), event.warning);
    case 'run.cancelled': return words(event.reason, event.mode, usage(event.usage));
    case 'run.failed': return words(event.code, event.message);
    case 'run.recovered': return words(event.mode, `attempt ${event.attempt}`);
    case 'step.started': return words(`step ${event.step}`, event.attempt > 1 ? `attempt ${event.attempt}` : '');
    case 'step.ended': return words(`step ${event.step}`, event.finish_reason, usage(event.usage));
    case 'tool_call.started': return words(event.name, event.call_id);
    case 'tool_call.ready': case 'approval.requested': return words(event.name, event.arguments);
    case 'approval.resolved': return words(event.outcome, event.by, event.edited_arguments, event.message);
    case 'tool.started': return words(event.call_id);
    case 'tool.completed': return words(event.output);
    case 'tool.failed': return words(event.code, event.message);
    case 'command.accepted': case 'command.withdrawn': return words(event.kind, event.content, event.reason);
    case 'command.applied': return words(event.kind, event.by);
    case 'command.rejected': return words(event.kind, event.reason, event.message);
    default: {
      const { id, seq, at, type, ...rest } = event;
      return Object.keys(rest).length ? short(rest) : '';
    }
  }
}
const usage = given => given && `${given.input_tokens ?? '?'} + ${given.output_tokens ?? '?'} tokens`;

/** Deltas of one block that follow each other, as one row. */
export class Fold {
  constructor(first) {
    this.as = 'fold';
    this.entries = [first];
    this.type = first.type;
    this.kinds = first.kinds;
    this.ties = first.ties;
    this.bytes = first.bytes;
  }
  takes(entry) {
    const first = this.entries[0];
    return entry.as === 'event' && entry.type === first.type && entry.event.block === first.event.block;
  }
  add(entry) {
    this.entries.push(entry);
    this.bytes += entry.bytes;
    this.joined = undefined;
  }
  get text() {
    this.joined ??= this.entries.map(({ event }) => event.text ?? event.arguments ?? '').join('');
    return this.joined;
  }
}

export class Entries {
  constructor() { this.clear(''); }

  /** Forgets everything; what comes next follows `after`. */
  clear(after) {
    this.list = [];
    this.characters = 0;
    this.letGo = 0;
    this.commands = new Map(); // This page's own, by command_id.
    this.before = after; // Cursor of the event before the first one held: '' at the start of the log.
    this.epochs = new Map(); // Each epoch that was seen, with its lowest known seq.
    this.bySeq = new Map();
  }

  get full() { return this.list.length >= KEPT_MAX || this.characters >= KEPT_CHARACTERS_MAX; }
  get firstSeq() { return this.list.find(entry => entry.as === 'event')?.seq; }
  /** Seq of the event before the first one held, 0 at the start of the log. */
  get beforeSeq() { return this.before ? Number(this.before.split('.')[1]) : 0; }

  static #of(record) {
    const { event, type, id, seq, raw, bytes, receivedAt, transport, connection, live } = record;
    const entry = { as: 'event', event, type, id, seq, raw, bytes, receivedAt, transport, connection, live, ties: ties(event) };
    entry.kinds = kindsOf(entry);
    if (event.at) entry.took = receivedAt - Date.parse(event.at);
    if (type === 'run.started') entry.edge = 'begins';
    else if (RUN_ENDS.has(type)) entry.edge = 'ends';
    return entry;
  }

  #learn(id) {
    const [epoch, seq] = [id.slice(0, id.indexOf('.')), Number(id.slice(id.indexOf('.') + 1))];
    this.epochs.set(epoch, Math.min(seq, this.epochs.get(epoch) ?? seq));
  }

  /** A live or replayed event at the end. */
  event(record) {
    const entry = Entries.#of(record);
    this.#learn(entry.id);
    this.bySeq.set(entry.seq, entry);
    return this.#append(entry);
  }

  mark(name, text, more = {}) {
    return this.#append({ as: 'mark', type: name, text, ties: [], kinds: [], bytes: 0, receivedAt: Date.now(), ...more });
  }

  /** A command of this page: once when it is sent and once when it is answered. Returns the entry, and whether it is new. */
  command({ command, sentAt, ms, receipt, error }) {
    const known = this.commands.get(command.command_id);
    const entry = known ?? {
      as: 'command', type: command.type, command, sentAt, ties: ties(command), kinds: ['commands'], bytes: 0,
    };
    Object.assign(entry, { ms, receipt, error });
    if (known) return { entry, isNew: false };
    this.commands.set(command.command_id, entry);
    return { entry: this.#append(entry), isNew: true };
  }

  #append(entry) {
    this.list.push(entry);
    this.characters += entry.raw?.length ?? 0;
    return entry;
  }

  /** Lets the oldest go when there are too many; how many. */
  trim() {
    if (this.list.length <= KEPT_MAX && this.characters <= KEPT_CHARACTERS_MAX) return 0;
    const [count, characters] = [KEPT_MAX * (1 - SLACK), KEPT_CHARACTERS_MAX * (1 - SLACK)];
    let gone = 0;
    while (this.list.length - gone > count || (this.characters > characters && gone < this.list.length - 1)) {
      const entry = this.list[gone++];
      this.characters -= entry.raw?.length ?? 0;
      if (entry.as === 'event') { this.before = entry.id; this.bySeq.delete(entry.seq); this.letGo += 1; }
      if (entry.as === 'command') this.commands.delete(entry.command.command_id);
    }
    this.list.splice(0, gone);
    return gone;
  }

  /** Events from before the first one held, in their order. `cursor` is what they follow. */
  prepend(records, cursor) {
    const entries = records.map(Entries.#of);
    for (const entry of entries) {
      // Read from a page: when they came says nothing about their delivery.
      entry.took = entry.transport = undefined;
      this.#learn(entry.id);
      this.bySeq.set(entry.seq, entry);
      this.characters += entry.raw.length;
    }
    this.list = entries.concat(this.list);
    this.before = cursor;
  }

  /** The command of this page that an event is the effect of. */
  causeOf(entry) { return entry.event?.command_id && this.commands.get(entry.event.command_id); }
}

/** Which entries are rows: a pure rule over them. */
export class Filter {
  constructor() { Object.assign(this, { needle: '', kinds: new Set(), folds: true }); }
  get active() { return this.needle !== '' || this.kinds.size > 0; }

  #passes(row) {
    if (this.kinds.size && !row.kinds.some(kind => this.kinds.has(kind))) return false;
    if (!this.needle) return true;
    const text = row.as === 'fold' ? `${row.type} ${row.text}` : `${row.type} ${row.raw ?? row.text ?? JSON.stringify(row.command)}`;
    return text.toLowerCase().includes(this.needle);
  }

  /** All rows of `list`. */
  rows(list) {
    const rows = [];
    for (const entry of list) this.#fold(rows, entry);
    return this.active ? rows.filter(row => this.#passes(row)) : rows;
  }

  #fold(rows, entry) {
    if (!this.folds || entry.as !== 'event' || !entry.type.endsWith('.delta')) return rows.push(entry);
    const last = rows.at(-1);
    if (last?.as === 'fold' && last.takes(entry)) last.add(entry);
    else rows.push(new Fold(entry));
  }

  /** One more at the end of `rows`; false where the rows have to be made anew. */
  extend(rows, entry) {
    // A phrase may lie across deltas.
    if (this.needle && this.folds && entry.type.endsWith('.delta')) return false;
    if (!this.active) { this.#fold(rows, entry); return true; }
    const alone = [];
    this.#fold(alone, entry);
    if (!this.#passes(alone[0])) return true;
    // Rows that were filtered out in between part two runs of deltas: only what follows at once is one row.
    const last = rows.at(-1);
    if (alone[0].as === 'fold' && last?.as === 'fold' && last.takes(entry) && last.entries.at(-1).seq + 1 === entry.seq) last.add(entry);
    else rows.push(alone[0]);
    return true;
  }
}
