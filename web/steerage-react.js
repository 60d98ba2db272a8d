// A session as a React hook. `react` is whatever the importer has (18 or later).

import { useMemo, useRef, useSyncExternalStore } from 'react';
import { Steerage } from './steerage-client.js';
import { fold, initial } from './steerage-state.js';

/** Longest that a change waits for an animation frame, in milliseconds: a hidden page has none. */
const FRAME_MAX_MS = 100;

/**
 * Follows a session while the component is mounted. `options` is what `Steerage` takes, or `steerage` itself, with
 * `transport` and `from` of a session. Without an id there is none yet.
 */
export function useSession(id, options = {}) {
  const { url, token, steerage, transport = 'auto', from = 'snapshot' } = options;
  // A function may be another one at each render; the newest is asked.
  const latest = useRef(options);
  latest.current = options;
  const key = typeof token === 'function' ? '' : token;
  const client = useMemo(() => steerage ?? new Steerage({
    url, token: typeof token === 'function' ? reason => latest.current.token(reason) : token,
    fetch: latest.current.fetch, WebSocket: latest.current.WebSocket, limits: latest.current.limits,
  }), [steerage, url && String(url), typeof token, key]);
  const store = useMemo(() => new Store(client, id, { transport, from }), [client, id, transport, from]);
  const { state, connection } = useSyncExternalStore(store.subscribe, store.view, store.view);
  const messages = useMemo(() => state.messages.filter(message => !message.rolled_back), [state.messages]);
  return { state, messages, running: state.run !== null, connection, session: store.session, ...store.commands };
}

const NONE = Object.freeze({
  status: 'idle', transport: undefined, requested: 'auto', resumedFrom: '', opened: 0, retryAt: undefined,
  reason: undefined, fellBack: [],
});

/** The folded state of one session, for as many as look at it. It is read while somebody does. */
class Store {
  #listeners = new Set();
  #state = initial();
  #view;
  #due;

  constructor(steerage, id, options) {
    this.session = id ? steerage.session(id, options) : null;
    this.#view = { state: this.#state, connection: this.session?.connection ?? NONE };
    this.session?.on('event', ({ event }) => { this.#state = fold(this.#state, event); this.#soon(); });
    this.session?.on('connection', () => this.#soon());
    const give = kind => async (...args) => {
      if (!this.session) throw new Error('there is no session yet');
      return this.session[kind](...args);
    };
    this.commands = {
      send: give('send'), steer: give('steer'), // What is seen running, and nothing that begins after it.
      stop: options => give('cancel')({ run_id: this.#state.run?.run_id, ...options }).catch(error => {
        if (error.code !== 'run_mismatch') throw error;
      }), approve: give('approve'), deny: give('deny'),
      toolResult: give('toolResult'), withdraw: give('withdraw'), regenerate: give('regenerate'),
    };
  }

  view = () => this.#view;

  subscribe = listener => {
    if (this.#listeners.size === 0) this.session?.open();
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      // Who comes back (StrictMode mounts twice) goes on after the cursor.
      if (this.#listeners.size === 0) this.session?.close();
    };
  };

  /** Tokens come faster than anybody looks: one rendering for all of a frame. */
  #soon() {
    if (this.#due) return;
    const show = () => {
      globalThis.cancelAnimationFrame?.(frame);
      clearTimeout(timer);
      this.#due = false;
      this.#view = { state: this.#state, connection: this.session.connection };
      for (const listener of [...this.#listeners]) listener();
    };
    this.#due = true;
    const frame = globalThis.requestAnimationFrame?.(show);
    const timer = setTimeout(show, FRAME_MAX_MS);
  }
}
