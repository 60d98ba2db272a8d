// The sessions there are: by state, searched, opened, deleted.
import { $, dialog, h, span } from './dom.js';

const PAGE = 50;
/** How often the list is read again while somebody sees it, in milliseconds. */
const LOOK_MS = 5_000;
let reads = () => {};

/** Reads the list again. */
export const refresh = () => reads();

export function mount(root, app) {
  let [list, next, wide] = [[], null, PAGE];
  const title = session => typeof session.metadata.title === 'string' && session.metadata.title || session.session_id;
  const words = session => JSON.stringify([session.session_id, session.model, session.metadata]).toLowerCase();
  const rows = new Map();

  // One reading at a time, and one more if somebody asked meanwhile: an older answer never comes after a newer one.
  let [reading, again] = [false, false];
  reads = async () => {
    if (app.verbs !== null) return;
    if (reading) {
      again = true;
      return;
    }
    [reading, again] = [true, false];
    await look();
    reading = false;
    if (again) reads();
  };

  async function look() {
    const state = $('state-filter').value || undefined;
    try {
      let [found, cursor] = [[], undefined];
      do {
        const page = await app.steerage.sessions({ state, cursor, limit: PAGE });
        found.push(...page.sessions);
        cursor = next = page.next_cursor;
      } while (next !== null && found.length < wide);
      if (state !== ($('state-filter').value || undefined)) return;
      list = found;
      const there = new Set(list.map(session => session.session_id));
      for (const id of rows.keys()) if (!there.has(id)) rows.delete(id);
      draw();
    } catch (error) {
      $('session-note').textContent = `The list cannot be read: ${error.message}`;
    }
  }

  function draw() {
    const wanted = $('search').value.trim().toLowerCase();
    const shown = list.filter(session => !wanted || words(session).includes(wanted));
    const nodes = shown.map(session => {
      const node = rows.get(session.session_id) ?? row(session.session_id);
      rows.set(session.session_id, node);
      node.update(session);
      return node;
    });
    const now = $('session-list').children;
    // Only what has changed place is touched, so that focus stays.
    if (nodes.length !== now.length || nodes.some((node, at) => node !== now[at])) $('session-list').replaceChildren(...nodes);
    $('session-note').textContent = shown.length ? '' : wanted ? 'Nothing found among those that are loaded.' : 'No sessions yet.';
    $('more').hidden = next === null;
  }

  function row(id) {
    const name = h('span.name'), about = h('span.about'), dot = h('span.dot', { 'aria-hidden': 'true' });
    const open = h('button.open', { type: 'button', onclick: () => { app.open(id); app.go('chat'); } }, dot, name, about);
    const node = h('li', {}, open,
      h('button.round.delete', { type: 'button', title: 'Delete', onclick: () => asks(node.session) }, '×'));
    node.update = session => {
      node.session = session;
      const age = span((Date.now() - Date.parse(session.updated_at)) / 1000).replace(/ min .*/, ' min');
      const state = id === app.session?.id && app.state.state || session.state;
      const text = `${state} · ${session.model} · ${age}`;
      if (name.textContent !== title(session)) name.textContent = title(session);
      if (about.textContent !== text) about.textContent = text;
      dot.className = `dot ${state}`;
      node.lastChild.setAttribute('aria-label', `Delete ${title(session)}`);
      open.setAttribute('aria-current', id === app.session?.id);
    };
    return node;
  }

  function asks(session) {
    const { session_id: id } = session;
    const sure = h('button.stop', { type: 'button', id: 'delete-sure', onclick: async () => {
      node.close();
      try {
        await app.steerage.session(id).delete();
        if (app.session?.id === id) app.open(null);
        $('search').focus();
      } catch (error) {
        app.complain(error);
      }
      refresh();
    } }, 'Delete');
    const node = dialog('Delete this session?',
      h('p', {}, `“${title(session)}” is deleted for real: what runs is stopped, and its log is gone for everybody.`),
      h('div.line', {}, h('span.grow'), h('button', { type: 'button', onclick: () => node.close() }, 'Keep it'), sure));
    sure.focus();
  }

  $('search').oninput = draw;
  $('state-filter').onchange = () => { list = []; wide = PAGE; refresh(); };
  $('more').onclick = () => { wide += PAGE; refresh(); };
  $('fresh').onclick = () => { app.open(null); app.go('chat'); $('input').focus(); };
  app.on('session', () => {
    if (app.verbs !== null) return;
    draw();
    refresh();
  });
  app.on('panel', refresh);
  let drawn;
  app.on('state', ({ session_id, state }) => {
    if (drawn === `${session_id} ${state}`) return;
    drawn = `${session_id} ${state}`;
    rows.get(session_id)?.update(rows.get(session_id).session);
  });
  setInterval(() => { if (!document.hidden && root.checkVisibility?.() !== false) refresh(); }, LOOK_MS);
}
