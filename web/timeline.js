// The timeline: the open session's log as it comes, with receipts beside their commands, marks of the connection, and charts.

import { Charts } from './chart.js';
import { Entries, Filter, KEPT_MAX, KINDS, line, preview } from './entries.js';
import { h } from './dom.js';
import { Frame, WIRES } from './frame.js';
import { earlier } from './history.js';
import { Latency, inMs } from './latency.js';
import { Rows } from './rows.js';

/** Rows that hold a searched phrase are made anew at most so often, in milliseconds: it looks through everything. */
const SEARCH_MS = 250;
const number = value => value.toLocaleString('en');
const size = bytes => bytes < 10_000 ? `${number(bytes)} B` : bytes < 10_000_000 ? `${(bytes / 1e3).toFixed(bytes < 100_000 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

/** What a notice says, in words. */
function said(notice) {
  switch (notice.type) {
    case 'caught_up': return `everything up to #${notice.seq} was replayed; live from here`;
    case 'reset': return `the cursor was not honoured (${notice.reason}): from a snapshot`;
    case 'reconnect': return `the server asks to come back in ${inMs(notice.after_ms)}`;
    case 'overloaded': return `no room (${notice.limit}, at most ${notice.max}): again in ${inMs(notice.after_ms)}`;
    case 'auth_expiring': return `the token ends in ${inMs(notice.after_ms)}`;
    case 'auth_expired': return 'the token has ended';
    case 'store_failed': return notice.message;
    default: return '';
  }
}

class Timeline {
  #entries = new Entries(); #filter = new Filter(); #latency = new Latency(); #charts; #rows; #frame;
  #lit = new Set(); #stale = false; #due; #loading; #told = ''; #searched = 0; #eventCount = 0; #bytes = 0; #begins = false;

  constructor(root, app) {
    this.app = app;
    this.root = root;
    this.#charts = new Charts(this.#latency);
    const head = h('div', { class: 'entry entry-head', role: 'row', 'aria-rowindex': 1 },
      ...['Seq', 'Type', 'Event', 'Size', 'Latency'].map(name => h('span', { role: 'columnheader' }, name)));
    this.#rows = new Rows({
      label: 'Events', head, make: () => this.#make(), fill: (node, row) => this.#fill(node, row),
      open: index => this.#open(index), chosen: row => this.#light(row), top: () => this.#earlier(),
    });
    this.#rows.grid.id = 'timeline-rows';
    this.#rows.followed = follows => { this.end.hidden = follows; };
    this.#frame = new Frame({ step: by => this.#step(by), facts: row => this.#facts(row), inUse: () => app.session?.connection.transport });
    // Focus comes back to the list.
    this.#frame.dialog.addEventListener('close', () => this.#rows.grid.focus());
    this.#tools();
    root.append(h('h2', { class: 'hidden-title' }, 'Timeline'), this.#charts.node, this.tools, this.bar, this.#rows.grid, this.end, this.#frame.dialog);
    app.on('session', () => this.#session());
    app.on('event', record => this.#event(record));
    app.on('notice', notice => this.#notice(notice));
    app.on('connection', connection => this.#connection(connection));
    app.on('command', told => this.#command(told));
    this.#session();
    // What is not looked at is not loaded.
    new IntersectionObserver(([{ isIntersecting }]) => { this.seen = isIntersecting; this.#begin(); }).observe(this.#rows.grid);
  }

  #tools() {
    this.search = h('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter events by text', spellcheck: 'false', autocomplete: 'off' });
    this.search.addEventListener('input', () => { this.#filter.needle = this.search.value.trim().toLowerCase(); this.#remake(); });
    const chips = Object.entries(KINDS).map(([kind, name]) => h('button', {
      type: 'button', class: 'chip', 'aria-pressed': 'false', 'data-kind': kind,
      onclick: ({ currentTarget }) => {
        const on = !this.#filter.kinds.delete(kind);
        if (on) this.#filter.kinds.add(kind);
        currentTarget.setAttribute('aria-pressed', on);
        this.#remake();
      },
    }, name));
    const fold = h('button', {
      type: 'button', class: 'chip fold', 'aria-pressed': 'true', title: 'Deltas of one block as one row',
      onclick: () => {
        this.#filter.folds = !this.#filter.folds;
        fold.setAttribute('aria-pressed', this.#filter.folds);
        this.#remake();
      },
    }, 'Fold');
    this.tools = h('div', { class: 'timeline-tools' }, this.search,
      h('div', { class: 'chips', role: 'group', 'aria-label': 'Kinds of events' }, ...chips), fold);
    this.more = h('button', { type: 'button', class: 'earlier', hidden: true, onclick: () => this.#earlier() }, 'Load earlier');
    this.status = h('span', { class: 'timeline-status' });
    this.bar = h('div', { class: 'timeline-bar' }, this.status, this.more);
    this.end = h('button', { type: 'button', class: 'to-end', hidden: true, onclick: () => { this.#rows.toEnd(); this.#rows.grid.focus(); } }, 'Follow the end ↓');
  }

  // What comes.

  #session() {
    this.#loading?.abort();
    this.#loading = undefined;
    if (this.#frame.dialog.open) this.#frame.dialog.close();
    this.#entries.clear(this.app.session?.cursor ?? '');
    this.#charts.clear();
    this.#told = this.problem = '';
    [this.#eventCount, this.#bytes] = [0, 0];
    this.#lit.clear();
    this.#remake();
    this.#rows.toEnd();
    this.#begins = true;
    // One that was open before this panel was here.
    if (this.app.session) this.#connection(this.app.session.connection);
    this.#begin();
  }

  /** Loads the page before what comes live, once it is looked at. */
  #begin() {
    if (!this.seen || !this.#begins || this.#entries.beforeSeq === 0) return;
    this.#begins = false;
    this.#earlier();
  }

  #event(record) {
    if (record.type === 'snapshot') {
      // It stands for what is before it. After a reset that is another history: what is here is of none.
      this.#loading?.abort();
      this.#loading = undefined;
      const marks = this.#entries.list.filter(({ as }) => as !== 'event');
      this.#entries.clear(record.id);
      this.#entries.list = marks;
      for (const entry of marks) if (entry.as === 'command') this.#entries.commands.set(entry.command.command_id, entry);
      [this.#eventCount, this.#bytes] = [0, 0];
      const { raw, bytes, transport, id, event } = record;
      this.#entries.mark('snapshot', `the session as of #${record.seq}; what made it is in the log`, { raw, bytes, transport, id, event });
      this.#remake();
      this.#begins = true;
      return this.#begin();
    }
    const entry = this.#entries.event(record);
    if (entry.live) {
      if (entry.took !== undefined) this.#latency.add(entry.took);
      this.#charts.event(entry);
    }
    this.#eventCount += 1;
    this.#bytes += entry.bytes;
    this.#added(entry);
  }

  #notice(notice) {
    if (notice.type !== 'heartbeat') this.#added(this.#entries.mark(notice.type, said(notice), { notice }));
  }

  #connection({ status, transport, resumedFrom, retryAt, reason }) {
    // Status after status may say the same of the same connection.
    const now = `${status} ${transport} ${resumedFrom} ${retryAt ?? ''}`;
    if (now === this.#told) return;
    this.#told = now;
    const name = WIRES[transport] ?? transport;
    const words = {
      live: ['connected', resumedFrom ? `by ${name}, resumed after ${resumedFrom}` : `by ${name}`],
      waiting: ['disconnected', `${reason ?? 'lost'}${retryAt ? `: again in ${inMs(Math.max(0, retryAt - Date.now()))}` : ''}`],
      closed: ['disconnected', reason === 'disconnected' ? 'by this page' : reason],
    }[status];
    if (words) this.#added(this.#entries.mark(...words));
  }

  #command(told) {
    const { entry, isNew } = this.#entries.command(told);
    if (isNew) this.#added(entry);
    else this.#rows.draw();
  }

  #added(entry) {
    if (!this.#filter.extend(this.#rows.rows, entry)) this.#stale = true;
    // A page that nobody sees has no frames, and its rows would keep what was let go.
    if (this.#entries.trim()) document.hidden ? this.#remake(true) : this.#stale = true;
    this.#schedule();
  }

  /** Once for all that comes within a frame. */
  #schedule() {
    this.#due ??= requestAnimationFrame(() => {
      this.#due = undefined;
      if (this.#stale && performance.now() - this.#searched < SEARCH_MS) return this.#schedule();
      if (this.#stale) this.#remake(true);
      else this.#rows.set(this.#rows.rows);
      this.#say();
    });
  }

  /** Makes all rows anew. `stays`: only the front is other, so one who reads in the middle keeps the place. */
  #remake(stays = false) {
    const old = this.#rows.rows;
    this.#stale = false;
    this.#searched = performance.now();
    const rows = this.#filter.rows(this.#entries.list);
    this.#rows.set(rows, stays ? rows.length - old.length : 0);
    this.#say();
  }

  #say() {
    const { list, beforeSeq, letGo, full, firstSeq } = this.#entries;
    const events = this.#eventCount - letGo;
    const parts = [];
    if (!this.app.session) parts.push('No session is open.');
    else {
      parts.push(`${number(events)} event${events === 1 ? '' : 's'}`, size(this.#bytes));
      if (firstSeq) parts.push(`from #${number(firstSeq)}`);
      if (this.#filter.active) parts.push(`${number(this.#rows.rows.length)} row${this.#rows.rows.length === 1 ? '' : 's'} match`);
      if (letGo) parts.push(`${number(letGo)} older ones were let go: ${number(KEPT_MAX)} are kept here, all are in the log`);
      if (this.problem) parts.push(this.problem);
    }
    const text = parts.join(' · ');
    if (this.status.textContent !== text) this.status.textContent = text;
    this.more.hidden = !this.app.session || beforeSeq === 0 || full || letGo > 0;
    this.more.disabled = Boolean(this.#loading);
    this.root.classList.toggle('quiet', list.length === 0);
  }

  async #earlier() {
    const { app } = this;
    if (this.#loading || this.more.hidden && this.#entries.list.some(({ as }) => as === 'event')) return;
    if (!app.session || this.#entries.beforeSeq === 0 || this.#entries.full || this.#entries.letGo) return;
    const loading = this.#loading = new AbortController();
    this.#say();
    try {
      const { records, cursor } = await earlier({ steerage: app.steerage, id: app.session.id, entries: this.#entries, signal: loading.signal });
      if (loading !== this.#loading) return;
      this.#entries.prepend(records, cursor);
      this.#eventCount += records.length;
      for (const { bytes } of records) this.#bytes += bytes;
      this.problem = '';
      this.#remake(true);
    } catch (error) {
      if (loading === this.#loading) this.problem = error.message;
    } finally {
      if (loading === this.#loading) this.#loading = undefined;
      this.#say();
    }
  }

  // What is seen.

  #make() {
    const cell = name => h('span', { role: 'gridcell', class: name });
    const node = h('div', { class: 'entry', role: 'row' }, cell('e-seq'), cell('e-type'), cell('e-text'), cell('e-size'), cell('e-took'));
    [node.seq, node.type, node.text, node.size, node.took] = node.children;
    node.chip = h('span', { class: 'e-cause', hidden: true });
    node.preview = h('span', { class: 'e-preview' });
    node.text.append(node.chip, node.preview);
    return node;
  }

  #fill(node, row) {
    const set = (on, text) => { if (on.textContent !== text) on.textContent = text; };
    const first = firstOf(row);
    const tone = row.as === 'mark' ? `is-mark mark-${row.type}` : row.as === 'command' ? 'is-own' : `kind-${row.kinds[0]}`;
    node.className = `entry ${tone}${row.edge ? ' edge-' + row.edge : ''}${/failed|rejected/.test(row.type) || row.error ? ' is-bad' : ''}`
      + `${this.#lit.size && row.ties.some(tie => this.#lit.has(tie)) ? ' lit' : ''}${node.index === this.#rows.active ? ' active' : ''}`;
    const [seq, text, took] = this.#cells(row, first);
    set(node.seq, seq);
    set(node.type, row.as === 'fold' ? `${row.type} ×${row.entries.length}` : row.type);
    set(node.preview, text);
    set(node.size, row.bytes ? size(row.bytes) : '');
    set(node.took, took);
    node.took.title = took && row.as === 'event' ? this.#latency.remark : '';
    const cause = this.#entries.causeOf(row);
    const by = cause ? `↩ ${cause.type}${cause.ms === undefined ? '' : ' ' + inMs(cause.ms)}` : row.event?.command_id ? '↩ elsewhere' : '';
    set(node.chip, by);
    node.chip.hidden = !by;
    node.chip.title = cause ? `The effect of this page's ${cause.type}; answered after ${inMs(cause.ms) || '…'}` : '';
  }

  /** Seq, text and time of a row. */
  #cells(row, first) {
    if (row.as === 'mark') return ['', row.text, ''];
    if (row.as === 'command') {
      const { command, receipt, error, ms } = row;
      const what = command.content ?? command.approval_id ?? command.target ?? command.call_id ?? command.mode ?? '';
      const came = error ? error.code ?? error.message : receipt ? `${receipt.status}${receipt.reason ? ` (${receipt.reason})` : ''} · #${receipt.seq ?? '–'}${receipt.replayed ? ' · replayed' : ''}` : 'sent…';
      return ['→', [came, typeof what === 'string' ? what : JSON.stringify(what)].filter(Boolean).join(' · '), inMs(ms)];
    }
    if (row.as === 'fold') return [row.entries.length > 1 ? `${first.seq}–${row.entries.at(-1).seq}` : String(first.seq), line(row.text), ''];
    row.preview ??= preview(row.event);
    return [String(row.seq), row.preview, row.live && row.took !== undefined ? inMs(this.#latency.of(row.took)) : ''];
  }

  #light(row) {
    const ties = row?.ties ?? [];
    if (ties.length === this.#lit.size && ties.every(tie => this.#lit.has(tie))) return;
    this.#lit = new Set(ties);
    this.#rows.draw();
  }

  #open(index) {
    const row = this.#rows.rows[index];
    if (row) this.#frame.show(row);
  }

  #step(by) {
    this.#rows.choose(this.#rows.active + by);
    this.#open(this.#rows.active);
  }

  /** What is known of a row beyond its frame. */
  #facts(row) {
    const first = firstOf(row);
    const facts = [];
    if (first.id) facts.push(['id', row.as === 'fold' && row.entries.length > 1 ? `${first.id} … ${row.entries.at(-1).id}` : first.id]);
    if (row.bytes) facts.push(['bytes of JSON', number(row.bytes)]);
    if (row.text && row.as === 'mark') facts.push(['says', row.text]);
    if (first.event?.at) facts.push(['at', first.event.at]);
    if (first.live) facts.push(['received', new Date(first.receivedAt).toISOString()]);
    if (first.live && first.took !== undefined) facts.push(['latency', inMs(this.#latency.of(first.took)) + (this.#latency.remark && ` (${this.#latency.remark})`)]);
    if (first.as === 'event') facts.push(['came by', first.transport === undefined ? 'a page of the log' : `${WIRES[first.transport]}, connection ${first.connection}${first.live ? '' : ', replayed'}`]);
    if (row.as === 'command') facts.push(['round trip', inMs(row.ms) || '…']);
    const cause = this.#entries.causeOf(row);
    if (cause) facts.push(['caused by', `this page's ${cause.type} (${cause.command.command_id}), answered after ${inMs(cause.ms) || '…'}`]);
    else if (row.event?.command_id) facts.push(['caused by', `command ${row.event.command_id}, not of this page`]);
    return facts;
  }
}

const firstOf = row => row.as === 'fold' ? row.entries[0] : row;

export function mount(root, app) {
  return new Timeline(root, app);
}
