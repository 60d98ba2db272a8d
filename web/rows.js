// A list of very many rows of one height, of which only those in view are in the document. Keyboard and pointer choose one.

import { h } from './dom.js';

/** Rows beyond each edge of the view: a quick scroll shows no gap before the next frame. */
const OVERSCAN = 12;
/** Distance to an end that counts as being there, in pixels. */
const NEAR_PX = 40;
/** Pixels of all rows together: browsers place nothing beyond about 17 million. */
const HEIGHT_MAX_PX = 15_000_000;

export class Rows {
  #nodes = []; #rows = []; #first = 0; #due = false; #height = 28; #active = -1;

  /**
   * `fill(node, row, index)` draws a row into a node that may have shown another one, which `make()` made. `open(index)` is
   * Enter or a click, `chosen(row)` another active or pointed-at row or none, `top()` a scroll to the first row.
   */
  constructor({ label, head, make, fill, open, chosen, top }) {
    Object.assign(this, { make, fill, open, chosen, top, follows: true });
    this.window = h('div', { class: 'rows-window', role: 'rowgroup' });
    this.space = h('div', { class: 'rows-space', role: 'presentation' }, this.window);
    this.grid = h('div', { class: 'rows', role: 'grid', tabindex: 0, 'aria-label': label, 'aria-readonly': 'true' }, head, this.space);
    this.head = head;
    this.grid.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.grid.addEventListener('keydown', event => this.#key(event));
    this.grid.addEventListener('click', ({ target }) => this.#at(target, index => { this.choose(index); this.open(index); }));
    this.grid.addEventListener('pointerover', ({ target }) => this.#at(target, index => this.chosen(this.#rows[index])));
    this.grid.addEventListener('pointerleave', () => this.chosen(this.#rows[this.#active]));
    // One who moves through the list by keyboard begins where the eye is.
    this.grid.addEventListener('focus', () => { if (this.#active < 0 && this.#rows.length) this.choose(this.follows ? this.#rows.length - 1 : this.#top()); });
    new ResizeObserver(() => this.#measure()).observe(this.grid);
  }

  get rows() { return this.#rows; }
  get active() { return this.#active; }

  #at(target, then) {
    const node = target.closest?.('[aria-rowindex]');
    if (node && this.window.contains(node)) then(node.index);
  }

  /** The style says how high a row is, which is another where there is little room. */
  #measure() {
    const height = parseFloat(getComputedStyle(this.grid).getPropertyValue('--row')) || 28;
    const top = this.#top();
    const changed = height !== this.#height;
    this.#height = height;
    if (changed && !this.follows) this.grid.scrollTop = top * height;
    this.draw();
  }

  #top() { return Math.floor(this.grid.scrollTop / this.#height); }
  get #visible() { return Math.max(1, this.grid.clientHeight - this.head.offsetHeight); }

  /** Shows `rows`. `before` rows are new in front of what was shown, or gone from there if below zero. */
  set(rows, before = 0) {
    this.#rows = rows;
    if (before) {
      if (this.#active >= 0) this.#active = Math.max(-1, this.#active + before);
      if (!this.follows) this.#moved = (this.#moved ?? 0) + before;
    }
    if (this.#active >= rows.length) this.#active = rows.length - 1;
    this.draw();
  }
  #moved;

  draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => { this.#due = false; this.#draw(); });
  }

  #draw() {
    if (!this.grid.clientHeight) return;
    const count = this.#rows.length;
    const total = Math.min(count * this.#height, HEIGHT_MAX_PX);
    this.space.style.height = `${total}px`;
    if (this.#moved) {
      this.grid.scrollTop += this.#moved * this.#height;
      this.#moved = 0;
    }
    if (this.follows) this.grid.scrollTop = this.grid.scrollHeight;
    const from = Math.max(0, Math.min(this.#top() - OVERSCAN, count - 1));
    const until = Math.min(count, from + Math.ceil(this.#visible / this.#height) + 2 * OVERSCAN);
    while (this.#nodes.length < until - from) {
      const node = this.make();
      this.#nodes.push(node);
    }
    for (let at = 0; at < this.#nodes.length; at += 1) {
      const [node, index] = [this.#nodes[at], from + at];
      if (index >= until) { node.remove(); continue; }
      if (node.parentNode !== this.window) this.window.append(node);
      node.index = index;
      node.id = `${this.grid.id}-${index}`;
      node.setAttribute('aria-rowindex', index + 2);
      node.classList.toggle('active', index === this.#active);
      this.fill(node, this.#rows[index], index);
    }
    this.window.style.transform = `translateY(${from * this.#height}px)`;
    this.#first = from;
    this.grid.setAttribute('aria-rowcount', count + 1);
    const shown = this.#active >= from && this.#active < until;
    if (shown) this.grid.setAttribute('aria-activedescendant', `${this.grid.id}-${this.#active}`);
    else this.grid.removeAttribute('aria-activedescendant');
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.grid;
    const follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    // Rows that came since the last drawing are not the reader's scrolling.
    if (!follows && this.follows && scrollTop >= (this.lastTop ?? 0)) { /* still at the end that was drawn */ }
    else if (follows !== this.follows) { this.follows = follows; this.followed?.(follows); }
    this.lastTop = scrollTop;
    if (scrollTop < NEAR_PX && !this.follows) this.top();
    this.draw();
  }

  toEnd() {
    this.follows = true;
    this.followed?.(true);
    this.draw();
  }

  /** Makes a row the active one, and brings it into view. */
  choose(index) {
    if (!this.#rows.length) return;
    this.#active = Math.max(0, Math.min(index, this.#rows.length - 1));
    this.chosen(this.#rows[this.#active]);
    const [top, height] = [this.#active * this.#height, this.#height];
    const follows = this.#active === this.#rows.length - 1;
    if (follows !== this.follows) { this.follows = follows; this.followed?.(follows); }
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + height > this.grid.scrollTop + this.#visible) this.grid.scrollTop = top + height - this.#visible;
    this.draw();
  }

  #key(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#visible / this.#height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      const next = Math.max(0, Math.min((this.#active < 0 ? this.#rows.length - 1 : this.#active) + steps[event.key], this.#rows.length - 1));
      if (next === 0 && steps[event.key] < 0) this.top();
      this.choose(next);
    } else if (event.key === 'Enter' && this.#active >= 0) {
      event.preventDefault();
      this.open(this.#active);
    }
  }
}
