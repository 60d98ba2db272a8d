// A second device: a token for this session alone, in a link.
import { Steerage } from '../steerage-client.js';
import { copy, dialog, h, span } from './dom.js';

const FULL = ['read', 'send', 'steer', 'cancel', 'approve'];

export function offer(app) {
  const { session } = app;
  const full = FULL.filter(verb => app.may(verb));
  const choice = (value, checked, text, more) => h('label.choice', {},
    h('input', { type: 'radio', name: 'verbs', value, checked }), h('span', {}, h('b', {}, text), h('span.dim', {}, more)));
  const result = h('div.minted', { role: 'status' });
  const make = h('button.main', {}, 'Make the link');
  const form = h('form', {},
    choice('read', true, 'Read only', ' follows live'),
    choice('full', false, 'Full', ` ${full.join(', ')}`),
    h('p.dim', {}, 'The link opens this session and nothing else, for at most 15 minutes. Whoever has it can use it: the token ' +
      'is in it, after the #, which browsers send to no server.'),
    h('div.line', {}, h('span.grow'), make));
  const node = dialog('Open on a second device', form, result);
  let ticks;
  node.addEventListener('close', () => clearInterval(ticks));
  form.onsubmit = async event => {
    event.preventDefault();
    const verbs = new FormData(form).get('verbs') === 'full' ? full : ['read'];
    make.disabled = true;
    try {
      clearInterval(ticks);
      ticks = show(app, session, await session.mint({ verbs }), result);
    } catch (error) {
      result.replaceChildren(h('p.bad', {}, error.message));
    }
    make.disabled = false;
  };
}

function show(app, session, { token, token_id, verbs, expires_at }, result) {
  const place = `#/${encodeURIComponent(session.id)}?token=${token}&can=${verbs.join(',')}`;
  const url = location.origin + location.pathname + place;
  const link = h('textarea', { id: 'device-link', readonly: true, rows: 3, 'aria-label': 'Link', onfocus: e => e.target.select() });
  link.value = url;
  const left = h('span.dim.grow');
  const copies = h('button', { type: 'button', onclick: () => copy(url, copies) }, 'Copy');
  const revoke = h('button.stop', { type: 'button', onclick: async () => {
    try {
      // By itself: a token takes back itself, and no other that was minted from it.
      const minted = new Steerage({ url: app.base, token });
      await minted.json(`v1/sessions/${encodeURIComponent(session.id)}/tokens/${token_id}`, { method: 'DELETE' });
      clearInterval(ticks);
      result.replaceChildren(h('p', {}, 'The link has been taken back: what it had open has ended.'));
    } catch (error) {
      left.textContent = error.message;
    }
  } }, 'Take back');
  const opens = h('a.button', { href: url, target: '_blank', rel: 'noopener', id: 'device-open' }, 'Open');
  result.replaceChildren(link, h('div.line', {}, left, revoke, opens, copies));
  const tick = () => {
    const seconds = (Date.parse(expires_at) - Date.now()) / 1000;
    left.textContent = seconds > 0 ? `good for ${span(seconds)}` : 'the link has ended';
  };
  tick();
  const ticks = setInterval(tick, 1000);
  return ticks;
}
