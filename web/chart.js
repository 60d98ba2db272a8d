// Two small charts of what comes now: tokens per second, and how long events took to get here. Drawn as SVG by the DOM.

import { inMs } from './latency.js';
import { h } from './dom.js';

/** The time that is shown, in seconds, and the width of one step. */
const SPAN_S = 30;
const STEP_MS = 500;
/** Steps that the rate in figures is taken over: two seconds. */
const RATE_STEPS = 4;
/** Deliveries that are shown: one bar of 5 units each. */
const BARS = 60;
/** At most four pictures a second: a person reads no more. */
const DRAW_MS = 250;
/** Units of the picture; the style stretches it. */
const [WIDTH, HEIGHT] = [300, 48];
const STEPS = SPAN_S * 1000 / STEP_MS;
const NS = 'http://www.w3.org/2000/svg';

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const middle = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

/** A picture with its figure and its words. */
function figure(name, title) {
  const value = h('output', { class: 'chart-value', 'aria-live': 'off' }, '–');
  const caption = h('figcaption', {}, h('span', { class: 'chart-title' }, title), value);
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}: nothing yet` });
  const node = h('figure', { class: `chart chart-${name}` }, caption, picture);
  const say = (short, long) => {
    if (value.textContent !== short) value.textContent = short;
    picture.setAttribute('aria-label', `${title}: ${long}`);
    node.title = long;
  };
  return { node, picture, say };
}

export class Charts {
  #counts = new Float64Array(STEPS); #now = 0; #last = 0; #took = []; #timer; #drawn = 0; #changed = false;

  constructor(latency) {
    this.latency = latency;
    this.rate = figure('rate', 'Tokens per second');
    this.delay = figure('latency', 'Delivery');
    this.area = svg('path', { class: 'chart-area' });
    this.line = svg('path', { class: 'chart-line', 'vector-effect': 'non-scaling-stroke' });
    this.rate.picture.append(this.area, this.line);
    this.bars = svg('g', { class: 'chart-bars' });
    this.delay.picture.append(this.bars);
    this.node = h('div', { class: 'charts' }, this.rate.node, this.delay.node);
    document.addEventListener('visibilitychange', () => this.#wake());
    new IntersectionObserver(([{ isIntersecting }]) => { this.seen = isIntersecting; this.#wake(); }).observe(this.node);
  }

  clear() {
    this.#counts.fill(0);
    [this.#took, this.#last] = [[], 0];
    this.#changed = true;
    this.#wake();
  }

  /** A live event. */
  event({ type, receivedAt, took }) {
    if (took !== undefined) {
      this.#took.push(took);
      if (this.#took.length > BARS) this.#took.shift();
    }
    // A delta is a token, as far as anybody but the model's server can tell.
    if (type === 'text.delta' || type === 'reasoning.delta') {
      this.#advance(receivedAt);
      const ago = this.#now - Math.floor(receivedAt / STEP_MS);
      if (ago >= 0 && ago < STEPS) this.#counts[(this.#now - ago) % STEPS] += 1;
      this.#last = Math.max(this.#last, receivedAt);
    }
    this.#changed = true;
    this.#wake();
  }

  #advance(at) {
    const now = Math.floor(at / STEP_MS);
    for (let step = Math.max(this.#now + 1, now - STEPS + 1); step <= now; step += 1) this.#counts[step % STEPS] = 0;
    this.#now = Math.max(this.#now, now);
  }

  /** Draws while there is something to see and somebody to see it. */
  #wake() {
    const moves = this.#changed || Date.now() - this.#last < SPAN_S * 1000 + 2 * STEP_MS;
    if (this.#timer || !moves || document.hidden || !this.seen) return;
    this.#timer = setTimeout(() => { this.#timer = undefined; this.#draw(); this.#wake(); }, DRAW_MS);
  }

  #draw() {
    this.#changed = false;
    this.#drawn += 1;
    this.node.dataset.drawn = this.#drawn;
    this.#advance(performance.timeOrigin + performance.now());
    // The step that goes on is not whole yet: it would look like a drop.
    const perSecond = Array.from({ length: STEPS - 1 }, (_, at) => this.#counts[(this.#now + 1 + at) % STEPS] * 1000 / STEP_MS);
    const top = Math.max(10, ...perSecond);
    const points = perSecond.map((rate, at) => `${(at * WIDTH / (STEPS - 2)).toFixed(1)},${(HEIGHT - rate / top * (HEIGHT - 2)).toFixed(1)}`);
    this.line.setAttribute('d', 'M' + points.join('L'));
    this.area.setAttribute('d', `M0,${HEIGHT}L${points.join('L')}L${WIDTH},${HEIGHT}Z`);
    const now = perSecond.slice(-RATE_STEPS).reduce((sum, rate) => sum + rate, 0) / RATE_STEPS;
    const most = Math.max(...perSecond);
    this.rate.say(now.toFixed(now > 0 && now < 10 ? 1 : 0), `${now.toFixed(1)} now, at most ${most.toFixed(0)} in the last ${SPAN_S} seconds`);
    this.#drawLatency();
  }

  #drawLatency() {
    const took = this.#took.map(ms => this.latency.of(ms));
    const top = Math.max(5, ...took);
    const width = WIDTH / BARS;
    while (this.bars.childElementCount < took.length) this.bars.append(svg('rect', { width: (width - 1).toFixed(1) }));
    while (this.bars.childElementCount > took.length) this.bars.lastChild.remove();
    [...this.bars.children].forEach((bar, at) => {
      const height = Math.max(1, took[at] / top * (HEIGHT - 2));
      bar.setAttribute('x', ((BARS - took.length + at) * width).toFixed(1));
      bar.setAttribute('y', (HEIGHT - height).toFixed(1));
      bar.setAttribute('height', height.toFixed(1));
    });
    if (!took.length) return this.delay.say('–', 'no event with a time has come live yet');
    const sorted = took.toSorted((a, b) => a - b);
    const [half, most] = [middle(sorted, 0.5), middle(sorted, 0.95)];
    const { remark } = this.latency;
    this.delay.say(`${inMs(half)}${remark ? ' *' : ''}`, `of the last ${took.length} events with a time, half within ${inMs(half)}, 95 % within ${inMs(most)}. ${remark}`);
  }
}
