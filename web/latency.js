// How long events took from the server's clock to ours. The two may differ: a difference that cannot be a delivery is taken off.

/** Above this, in milliseconds, the quickest delivery is rather a clock that is wrong. */
const SLOW_MS = 2_000;

export class Latency {
  #least = Infinity;

  /** What one event took by the two clocks, in milliseconds. */
  add(took) { this.#least = Math.min(this.#least, took); }

  /** What is taken off, in milliseconds: the quickest delivery then counts as none. */
  get correction() { return this.#least < 0 || this.#least > SLOW_MS ? (Number.isFinite(this.#least) ? this.#least : 0) : 0; }

  of(took) { return took - this.correction; }

  /** Of the correction, in words; empty where there is none. */
  get remark() {
    const { correction } = this;
    return correction ? `The clocks differ: ${Math.abs(correction).toFixed(0)} ms were ${correction < 0 ? 'added' : 'taken off'}` : '';
  }
}

export const inMs = ms => ms === undefined ? '' : ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 9_999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(0)} s`;
