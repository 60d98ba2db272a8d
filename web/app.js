// The playground: which session is open, what is known of it, and who is told. Panels draw it; nothing here draws.
import { Steerage } from '../steerage-client.js';
import { fold, initial } from '../steerage-state.js';
import * as chat from './chat.js';
import { credential, isKeyed, parse, readsKey } from './key.js';
import * as link from './link.js';
import * as sessions from './sessions.js';
import { $ } from './dom.js';

const listeners = new Map();
/** A place of this page. An address that begins with # would be one of the base's: they differ where the page is nested. */
const at = place => location.pathname + location.search + place;
const steerage = new Steerage({ url: document.baseURI, token: why => credential(app, why) });

export const app = {
  base: steerage.url.href,
  steerage,
  /** The open session, or null. */
  session: null,
  /** Its folded log, in the shape of the server's snapshot. */
  state: initial(),
  /** What the credential may do; null is everything. */
  verbs: null,
  get keyed() { return isKeyed(app); },
  may: verb => app.verbs === null || app.verbs.includes(verb),

  on(type, heard) {
    const of = listeners.get(type) ?? listeners.set(type, new Set()).get(type);
    of.add(heard);
    return () => of.delete(heard);
  },

  /** Opens a session, or none. `from` is `start` for one that has just been made. */
  open(id, from = 'snapshot') {
    if (id === (app.session?.id ?? null)) return;
    app.session?.close();
    for (const off of heard.splice(0)) off();
    app.state = initial();
    app.session = id ? steerage.session(id, { transport: $('transport').value, from }) : null;
    const place = id ? `#/${encodeURIComponent(id)}` : '#/';
    if (location.hash.split('?')[0] !== place && (id || location.hash)) history.pushState(null, '', at(place));
    if (app.session) follow(app.session);
    emit('session', app.session);
    emit('state', app.state);
    app.session?.open();
  },

  /** Makes a session of what is said first, and opens it. */
  async create(input, model) {
    // By characters: half of one is no text.
    const words = [...input];
    const title = words.length > 60 ? words.slice(0, 59).join('') + '…' : input;
    const { session_id } = await steerage.create({ input, model, metadata: { title } });
    // Whoever has opened another one meanwhile stays there.
    if (!app.session) app.open(session_id, 'start');
    sessions.refresh();
  },

  /** Shows a panel: `sessions`, `chat`, `timeline` or `connect`. */
  go(panel) {
    document.body.dataset.panel = panel;
    if (panel === 'timeline' || panel === 'connect') document.body.dataset.side = panel;
    for (const tab of document.querySelectorAll('[data-go]')) {
      const chosen = tab.role === 'tab' ? tab.dataset.go === document.body.dataset.side : tab.dataset.go === panel;
      tab.setAttribute(tab.role === 'tab' ? 'aria-selected' : 'aria-pressed', chosen);
      if (tab.role === 'tab') tab.tabIndex = chosen ? 0 : -1;
    }
    emit('panel', panel);
  },

  /** Tells what went wrong, for a while. */
  complain(error) {
    $('toast').textContent = error?.message ?? String(error);
    clearTimeout(app.told);
    app.told = setTimeout(() => { $('toast').textContent = ''; }, 8_000);
  },

  /** For those who do not see the page. */
  announce(text) {
    $('announce').textContent = text;
  },
};

function emit(type, value) {
  for (const heard of [...listeners.get(type) ?? []]) heard(value);
}

const heard = [];
/** Takes back the drawing that is due. */
let undo;

/** Draws at most once a frame; a page that nobody sees draws four times a second. */
function draws() {
  if (undo) return;
  const draw = () => { undo = undefined; emit('state', app.state); };
  const due = document.hidden ? setTimeout(draw, 250) : requestAnimationFrame(draw);
  undo = document.hidden ? () => clearTimeout(due) : () => cancelAnimationFrame(due);
}

document.addEventListener('visibilitychange', () => {
  if (!undo) return;
  undo();
  undo = undefined;
  draws();
});

function follow(session) {
  heard.push(
    session.on('event', record => {
      app.state = fold(app.state, record.event);
      emit('event', record);
      draws();
    }),
    session.on('notice', notice => emit('notice', notice)),
    session.on('connection', connection => emit('connection', connection)),
    session.on('command', command => emit('command', command)),
  );
}

/** Which session the URL names, and what its link brings. */
function read() {
  const { id, token, verbs } = parse(location.hash);
  // A token is not left where it is seen, kept in a history, or copied with the address.
  if (token) history.replaceState(null, '', at(`#/${encodeURIComponent(id)}`));
  readsKey(app, id, token, verbs);
  document.body.classList.toggle('guest', app.verbs !== null);
  return id || null;
}

/** The URL is the session: a reload, a bookmark and the browser's Back come to it. */
function arrive() {
  const before = app.guest?.token;
  const id = read();
  // Another credential is another page: nothing that was asked with the one stays with the other.
  if (app.guest?.token !== before) return location.reload();
  app.open(id);
}

for (const tab of document.querySelectorAll('[data-go]')) tab.onclick = () => app.go(tab.dataset.go);
$('side-tabs').onkeydown = event => {
  if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
  const other = event.target.nextElementSibling ?? event.target.previousElementSibling;
  other.focus();
  other.click();
};

// Before anything is asked: whoever comes by a link may not ask for everything.
read();
link.mount(app);
chat.mount($('chat'), app);
sessions.mount($('sessions'), app);
// Each for itself: the chat is there also where one of the others is not.
for (const panel of ['timeline', 'connect']) {
  import(`./${panel}.js`).then(({ mount }) => mount($(panel), app), error => console.warn(`no ${panel}`, error));
}
document.body.dataset.side = 'timeline';
app.go('chat');
addEventListener('popstate', arrive);
addEventListener('hashchange', arrive);
arrive();
