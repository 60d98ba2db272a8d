// "Connect your app": the snippets for the open session, one at a time, behind tabs.

import { copy, h } from './dom.js';
import { snippets } from './snippets.js';

class Connect {
  #app; #all = []; #chosen = ''; #cursor = '';

  constructor(root, app) {
    this.#app = app;
    this.root = root;
    this.tabs = h('div', { class: 'connect-tabs', role: 'tablist', 'aria-label': 'Ways to connect', 'aria-orientation': 'vertical' });
    this.tabs.addEventListener('keydown', event => this.#key(event));
    this.name = h('h3', { class: 'connect-name' });
    this.about = h('p', { class: 'connect-about' });
    this.code = h('code');
    this.copy = h('button', { type: 'button', onclick: () => copy(this.code.textContent, this.copy) }, 'Copy');
    this.panel = h('div', { class: 'connect-panel', role: 'tabpanel', id: 'connect-panel' },
      h('div', { class: 'connect-bar' }, this.name, this.copy), this.about,
      h('pre', { class: 'connect-code', tabindex: 0, role: 'group', 'aria-label': 'Code' }, this.code));
    this.none = h('p', { class: 'connect-none' }, 'Open a session: its name, model and place in the log will be in the code.');
    this.key = h('p', { class: 'connect-key', hidden: true },
      'This server asks for a key. It belongs to your back end, in STEERAGE_API_KEY; a page gets a token that your back end mints.');
    this.body = h('div', { class: 'connect', hidden: true }, this.tabs, this.panel);
    root.append(h('h2', { class: 'hidden-title' }, 'Connect your app'), this.none, this.key, this.body);
    app.on('session', () => this.#make());
    app.on('state', () => this.#follow());
    app.on('connection', ({ status }) => { if (status === 'live') this.#make(); });
    this.#make();
  }

  /** The cursor moves with every token; the code that names it is made anew when the model rests. */
  #follow() {
    const { state, session } = this.#app;
    if (!session || !this.body.hidden && (state?.run || session.cursor === this.#cursor)) return;
    this.#make();
  }

  #make() {
    const { session, state, steerage } = this.#app;
    this.body.hidden = !session || !state?.model;
    this.none.hidden = !this.body.hidden;
    this.key.hidden = !this.#app.keyed || this.body.hidden;
    if (this.body.hidden) return;
    this.#cursor = session.cursor;
    this.#all = snippets({ base: steerage.url.href, session: session.id, model: state.model, cursor: session.cursor, keyed: this.#app.keyed });
    if (!this.tabs.childElementCount) this.#makeTabs();
    this.#show(this.#chosen || this.#all[0].id);
  }

  #makeTabs() {
    let group;
    for (const snippet of this.#all) {
      if (snippet.group !== group) this.tabs.append(h('span', { class: 'connect-group', role: 'presentation' }, group = snippet.group));
      this.tabs.append(h('button', {
        type: 'button', role: 'tab', id: `connect-${snippet.id}`, 'aria-controls': 'connect-panel', onclick: () => this.#show(snippet.id),
      }, snippet.name));
    }
  }

  #show(id) {
    this.#chosen = id;
    const snippet = this.#all.find(of => of.id === id);
    for (const tab of this.tabs.querySelectorAll('[role=tab]')) {
      const on = tab.id === `connect-${id}`;
      tab.setAttribute('aria-selected', on);
      tab.tabIndex = on ? 0 : -1;
    }
    this.panel.setAttribute('aria-labelledby', `connect-${id}`);
    const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
    set(this.name, snippet.group === 'curl' ? `curl: ${snippet.name}` : snippet.name);
    set(this.about, snippet.about);
    set(this.code, snippet.code);
    this.code.dataset.runs = snippet.runs;
  }

  #key(event) {
    const tabs = [...this.tabs.querySelectorAll('[role=tab]')];
    const at = tabs.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    this.#show(tab.id.slice('connect-'.length));
    tab.focus();
  }
}

export function mount(root, app) {
  return new Connect(root, app);
}
