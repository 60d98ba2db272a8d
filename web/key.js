// What the page shows to the server: nothing, a key that somebody types, or the token of a link. In the memory of this tab
// alone, never in a URL that is sent.
import { dialog, h } from './dom.js';
import { tab } from './kept.js';

const KEY = 'steerage.key';
const tokenOf = id => `steerage.token.${id}`;
let asking;
/** Whoever closes the question is not asked again before a reload: the page asks the server every few seconds. */
let declined = false;
/** Whether a key was typed: one that is typed after it belongs to a page that has failed in part. */
let typed = false;

/** `#/ID?token=…&can=read,send` */
export function parse(hash) {
  const [path, search] = hash.replace(/^#\/?/, '').split('?');
  const query = new URLSearchParams(search);
  let id = '';
  try { id = decodeURIComponent(path); } catch { /* What is no name is nobody's. */ }
  return { id, token: query.get('token'), verbs: query.get('can')?.split(',') };
}

/** Takes what a link brought, or what one brought before a reload. */
export function readsKey(app, id, token, verbs) {
  if (token) tab.set(tokenOf(id), JSON.stringify({ token, verbs: verbs ?? ['read'] }));
  const kept = id && tab.get(tokenOf(id));
  app.guest = kept ? JSON.parse(kept) : null;
  app.verbs = app.guest?.verbs ?? null;
}

/** The token of the link is over: what this tab has else is used from the next load on. */
export function forgets(app, id) {
  if (app.guest) tab.remove(tokenOf(id));
}

/** Whether this page has to show who it is; then an app has to, too. */
export const isKeyed = app => Boolean(app.guest || tab.get(KEY));

/** The credential for a request; asks for a key where the server wants one. */
export function credential(app, { reason }) {
  // The token of a link that is over stays what it is, and the page says so.
  if (app.guest) return app.guest.token;
  if (reason === 'first') return tab.get(KEY) ?? '';
  tab.remove(KEY);
  if (declined) return '';
  return asking ??= ask().finally(() => { asking = undefined; });
}

function ask() {
  return new Promise(resolve => {
    // Printable ASCII: nothing else can stand in a header.
    const input = h('input', { type: 'password', id: 'key', autocomplete: 'off', required: true, pattern: '[!-~]+',
      'aria-describedby': 'key-why', title: 'printable characters without spaces' });
    const form = h('form', { method: 'dialog' },
      h('p', { id: 'key-why' }, 'This server has keys. A key belongs to a back end: what is typed here stays in this tab and ' +
        'is forgotten with it. Pages of your own get a token instead.'),
      h('label', {}, 'Key ', input), h('div.line', {}, h('span.grow'), h('button.main', {}, 'Use it')));
    const node = dialog('A key is needed', form);
    let used = false;
    form.onsubmit = () => { used = true; };
    node.addEventListener('close', () => {
      if (!used) {
        declined = true;
        return resolve('');
      }
      tab.set(KEY, input.value);
      // What was refused with the key before is asked again by a page that begins with this one.
      if (typed) return location.reload();
      typed = true;
      resolve(input.value);
    });
    input.focus();
  });
}
