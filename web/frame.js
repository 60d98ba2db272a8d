// The inspector: one event as it is on the wire, its JSON readable beside it, and the facts of its delivery.

import { copy, h } from './dom.js';

/** Frames of a folded row that are shown: more is the log itself, which `curl` prints. */
const FRAMES_MAX = 200;

export const WIRES = { sse: 'SSE', websocket: 'WebSocket', poll: 'Long poll' };

/** An event as bytes of a transport. Text of a WebSocket and an entry of a page are the JSON itself. */
export function onTheWire({ id, type, raw }, transport) {
  return transport === 'sse' ? `id: ${id}\nevent: ${type}\ndata: ${raw}\n\n` : raw;
}

export class Frame {
  #entries = []; #transport = 'sse'; #shown;

  /**
   * `step(by)` shows the row before or after, `facts(row)` is what the timeline knows of it, as pairs, `inUse()` the page's
   * own transport.
   */
  constructor({ step, facts, inUse }) {
    Object.assign(this, { facts, inUse });
    this.title = h('h3', { id: 'frame-title' });
    this.list = h('dl', { class: 'frame-facts' });
    this.wire = h('pre', { class: 'frame-wire', tabindex: 0, 'aria-label': 'On the wire' });
    this.json = h('pre', { class: 'frame-json', tabindex: 0, 'aria-label': 'JSON' });
    this.more = h('p', { class: 'frame-more', hidden: true });
    this.radios = h('fieldset', { class: 'frame-wires' }, h('legend', {}, 'On the wire'));
    for (const [transport, name] of Object.entries(WIRES)) {
      const radio = h('input', { type: 'radio', name: 'frame-wire', value: transport, onchange: () => { this.#transport = transport; this.#draw(); } });
      this.radios.append(h('label', {}, radio, ' ' + name));
    }
    const button = (label, act, more = {}) => h('button', { type: 'button', onclick: act, ...more }, label);
    this.dialog = h('dialog', { class: 'frame', 'aria-labelledby': 'frame-title' },
      h('header', {}, this.title,
        button('↑', () => step(-1), { 'aria-label': 'Previous row', title: 'Previous row (←)' }),
        button('↓', () => step(1), { 'aria-label': 'Next row', title: 'Next row (→)' }),
        button('Close', () => this.dialog.close(), { autofocus: true })),
      this.list,
      h('div', { class: 'frame-panes' },
        h('div', {}, h('div', { class: 'frame-bar' }, this.radios,
          this.copyWire = button('Copy frame', event => copy(this.#text(), event.currentTarget))), this.wire),
        h('div', {}, h('div', { class: 'frame-bar' }, h('span', { class: 'frame-label' }, 'JSON'),
          button('Copy JSON', event => copy(this.json.textContent, event.currentTarget))), this.json)),
      this.more);
    this.dialog.addEventListener('keydown', event => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && event.target.type !== 'radio') { event.preventDefault(); step(by); }
    });
    // A click beside it closes it, as Escape does.
    this.dialog.addEventListener('click', ({ target }) => { if (target === this.dialog) this.dialog.close(); });
  }

  #text() { return this.#entries.slice(0, FRAMES_MAX).map(entry => onTheWire(entry, this.#transport)).join(this.#transport === 'sse' ? '' : '\n'); }

  show(row) {
    this.#shown = row;
    this.#entries = row.as === 'fold' ? row.entries : row.raw ? [row] : [];
    // What was read from a page of the log would have come by the transport in use.
    const transport = this.#entries[0]?.transport ?? this.inUse();
    if (transport in WIRES) this.#transport = transport;
    this.#draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  #draw() {
    const [row, entries] = [this.#shown, this.#entries];
    const [first, last] = [entries[0], entries.at(-1)];
    this.title.textContent = first?.seq === undefined ? row.type
      : entries.length > 1 ? `#${first.seq} – #${last.seq} ${row.type} × ${entries.length}` : `#${first.seq} ${row.type}`;
    this.list.replaceChildren(...this.facts(row).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))]));
    for (const radio of this.radios.querySelectorAll('input')) radio.checked = radio.value === this.#transport;
    this.radios.disabled = this.copyWire.disabled = !first;
    this.wire.textContent = first ? this.#text() : row.as === 'command' ? 'Sent by POST …/control; what came of it is in the log.' : 'Of the connection: not in the log.';
    this.json.textContent = row.as === 'command' ? JSON.stringify({ command: row.command, receipt: row.receipt, error: row.error && { code: row.error.code, message: row.error.message } }, null, 2)
      : row.as === 'fold' ? row.text : first ? JSON.stringify(JSON.parse(first.raw), null, 2) : JSON.stringify(row.notice ?? { type: row.type, text: row.text }, null, 2);
    this.more.hidden = entries.length <= FRAMES_MAX;
    this.more.textContent = `The first ${FRAMES_MAX} of ${entries.length} frames.`;
    for (const pane of [this.wire, this.json]) pane.scrollTop = 0;
  }
}

