// The bar: how the page is connected, the plug, the transport, the second device.
import { $, dialog, h } from './dom.js';
import { offer } from './device.js';
import { browser } from './kept.js';
import { forgets } from './key.js';

const NAMES = { sse: 'SSE', websocket: 'WebSocket', poll: 'long poll' };
const WHY = {
  disconnected: 'unplugged', session_not_found: 'there is no such session', unauthorized: 'this link or key is no longer good',
  session_closed: 'this session has ended', deleted: 'this session was deleted', verb_not_allowed: 'this link does not open it',
};

export function mount(app) {
  let replayed = 0;
  let told = '';
  const say = (name, text) => {
    // Once for each change: who listens does not want a countdown.
    const plain = text.replace(/,? (resumed )?after .*|, trying again.*/, '');
    if (told && plain !== told) app.announce(`Connection: ${plain}`);
    told = plain;
    $('link').className = name;
    if ($('status').textContent !== text) $('status').textContent = text;
  };

  function show() {
    const connection = app.session?.connection;
    $('plug').disabled = $('device').disabled = !app.session;
    if (!connection) {
      $('cursor').textContent = '';
      return say('', 'no session');
    }
    const { status, transport, resumedFrom, reason, retryAt, fellBack } = connection;
    const unplugged = status === 'closed' && reason === 'disconnected';
    $('plug').textContent = unplugged ? 'Plug back in' : status === 'closed' ? 'Try again' : 'Pull the plug';
    $('plug').setAttribute('aria-pressed', unplugged);
    const after = id => id ? ` after ${id}` : '';
    const fell = fellBack.map(({ transport, reason }) =>
      `; ${NAMES[transport]} ${reason === 'buffered' ? 'is held back on the way' : 'does not get through'}`).join('');
    if (status === 'live') {
      const resumed = resumedFrom ? `, resumed after ${resumedFrom}` : '';
      say('live', `${NAMES[transport]}${resumed}${resumed && replayed ? `, ${replayed} events caught up` : ''}${fell}`);
    } else if (status === 'connecting') {
      say('lost', `connecting by ${NAMES[transport]}${after(resumedFrom)}${fell}`);
    } else if (status === 'waiting') {
      const seconds = Math.ceil((retryAt - Date.now()) / 1000);
      say('lost', `connection lost${after(app.session.cursor)}${seconds > 0 ? `, trying again in ${seconds} s` : ''}`);
    } else if (status === 'closed') {
      say('lost', (WHY[reason] ?? `closed: ${String(reason).replaceAll('_', ' ')}`) + (unplugged ? after(app.session.cursor) : ''));
    } else {
      say('', 'not connected');
    }
  }

  app.on('session', () => { replayed = 0; $('cursor').textContent = ''; show(); });
  app.on('connection', connection => {
    if (connection.status === 'connecting') replayed = 0;
    if (connection.reason === 'unauthorized') forgets(app, app.session.id);
    show();
  });
  app.on('event', record => { if (!record.live && record.type !== 'snapshot') replayed += 1; });
  app.on('state', () => { $('cursor').textContent = app.session?.cursor ?? ''; });
  app.on('notice', ({ type, reason, message }) => {
    if (type === 'caught_up') show();
    if (type === 'reset') app.complain(`The last id was not honoured (${reason}): starting from a snapshot.`);
    if (type === 'store_failed') app.complain(`The server's store has failed (${message}): nothing more is kept until a restart.`);
  });
  // A wait is counted down.
  setInterval(() => app.session?.connection.status === 'waiting' && show(), 1000);

  $('plug').onclick = () => {
    if (app.session.connection.status === 'closed') app.session.open();
    else app.session.close();
  };
  const kept = browser.get('steerage.transport');
  if (kept && kept in { auto: 1, ...NAMES }) $('transport').value = kept;
  $('transport').onchange = () => {
    browser.set('steerage.transport', $('transport').value);
    app.session?.use($('transport').value);
  };
  $('device').onclick = () => offer(app);
  $('help').onclick = shortcuts;
  addEventListener('keydown', event => {
    const typing = event.target.closest('input, textarea, select, dialog');
    if (event.altKey && event.code === 'KeyP' && app.session) $('plug').click();
    else if (event.altKey && event.code === 'KeyN' && app.verbs === null) $('fresh').click();
    else if (event.altKey && event.code === 'KeyA') document.querySelector('.asks .main')?.focus();
    else if (!typing && event.key === '/') $('input').focus();
    else if (!typing && event.key === '?') shortcuts();
    else return;
    event.preventDefault();
  });
}

function shortcuts() {
  const rows = [
    ['Enter', 'send, or steer while an answer streams'], ['Shift Enter', 'a new line'], ['Escape', 'stop the answer'],
    ['/', 'to the message'], ['Alt N', 'a new session'], ['Alt A', 'to what waits for you: Enter approves, Tab goes on'], ['Alt P', 'pull the plug, plug back in'], ['?', 'this'],
  ];
  dialog('Keyboard', h('dl.keys', {}, ...rows.flatMap(([key, what]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, what)])));
}
