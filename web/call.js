// One call of a tool: its arguments, its approval, its end. What a client has to answer is answered here.
import { $, h, pretty, span } from './dom.js';

const STATES = {
  streaming: 'writing arguments', ready: 'ready', awaiting_approval: 'waits for your approval', running: 'running',
  completed: 'done', failed: 'failed',
};

export function drawsCall({ call_id, name }, app) {
  const state = h('span.state'), args = h('pre.args'), out = h('pre.out'), asks = h('div.asks');
  const node = h('div.card', { role: 'group', 'aria-label': `Call of ${name}` }, h('div.title', {}, h('b', {}, name), state), args, asks, out);
  let shown = '';

  function ask(key, make) {
    if (shown === key) return;
    shown = key;
    // Who has answered by keyboard goes on where things are said.
    const held = asks.contains(document.activeElement);
    asks.replaceChildren(...make ? [make()] : []);
    if (held) $('input').focus();
  }

  return {
    node,
    update(call, session) {
      const approval = session.approvals.find(open => open.call_id === call_id);
      const given = call.edited_arguments ?? call.arguments;
      const text = given === undefined ? '' : pretty(given) + (call.edited_arguments ? '   (edited)' : '');
      if (args.textContent !== text) args.textContent = text;
      args.hidden = Boolean(approval) || !text;
      // Whom a call waits for that is ready and that nobody is asked for: the client.
      const ours = call.state === 'ready' && session.state === 'waiting' && !approval;
      const why = call.error && call.error.code.replaceAll('_', ' ');
      state.textContent = ours ? 'waits for its output' : why ?? STATES[call.state] ?? call.state;
      node.className = `card ${approval || ours ? 'waiting' : call.state}`;
      const end = call.error ? call.error.message : call.output === undefined ? ''
        : typeof call.output === 'string' ? call.output : pretty(call.output);
      if (out.textContent !== end) out.textContent = end;
      out.hidden = !end;
      if (approval) ask(approval.approval_id, () => approves(approval, app));
      else if (ours && app.may('send')) ask('output', () => answers(call_id, app));
      else ask('');
    },
  };
}

/** What a form says of what was wrong, and the buttons while something is on its way. */
function gives(app, says, form) {
  return async command => {
    says.textContent = '';
    for (const button of form.querySelectorAll('button')) button.disabled = true;
    try {
      await command(app.session);
    } catch (error) {
      says.textContent = error.message;
    }
    for (const button of form.querySelectorAll('button')) button.disabled = false;
  };
}

function json(text) {
  try { return { value: JSON.parse(text) }; } catch (error) { return { error }; }
}

/** What a person wrote, whether or not as a JSON string. */
function words(text) {
  const { value } = json(text);
  return typeof value === 'string' ? value : text.trim();
}

/** Whether a number in it is not what was said: JavaScript has no larger integers. */
const isRounded = value => typeof value === 'number' ? Number.isInteger(value) && !Number.isSafeInteger(value)
  : value !== null && typeof value === 'object' && Object.values(value).some(isRounded);

function editor(label, value) {
  const edit = h('textarea.json', { 'aria-label': label, spellcheck: 'false', rows: Math.min(12, value.split('\n').length) });
  edit.value = value;
  return edit;
}

function approves({ approval_id, arguments: args, expires_at }, app) {
  const edit = editor('Arguments, editable', pretty(args));
  const says = h('div.bad', { role: 'alert' }), left = h('span.dim.grow');
  const message = h('input', { 'aria-label': 'Why not (for the model, optional)', placeholder: 'Why not (optional)' });
  const form = h('form', {}, edit, says);
  const give = gives(app, says, form);
  const approve = scope => {
    const { value, error } = json(edit.value);
    if (error) { says.textContent = `The arguments are not JSON: ${error.message}`; return; }
    const edited = JSON.stringify(value) === JSON.stringify(args) ? {} : { arguments: value };
    give(session => session.approve(approval_id, { ...edited, ...(scope && { scope }) }));
  };
  const tick = () => {
    if (!form.isConnected && ticks) return clearInterval(ticks);
    const seconds = (Date.parse(expires_at) - Date.now()) / 1000;
    left.textContent = seconds > 0 ? `${span(seconds)} left` : 'the time is over';
  };
  let ticks;
  tick();
  ticks = setInterval(tick, 1000);
  if (isRounded(args)) {
    edit.readOnly = true;
    form.append(h('p.bad', {}, 'A number here is larger than this page can show: it is rounded above, and approved as the model said it.'));
  }
  if (!app.may('approve')) {
    edit.readOnly = true;
    form.append(h('div.line', {}, left, h('span.dim', {}, 'This link does not approve.')));
    return form;
  }
  form.onsubmit = event => { event.preventDefault(); approve(); };
  edit.onkeydown = event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit(); };
  form.append(h('div.line', {}, h('button.main.approve', {}, 'Approve'),
    h('button.always', { type: 'button', onclick: () => approve('session') }, 'For the session'), left),
  h('div.line', {}, h('button.deny', { type: 'button', onclick: () => give(session =>
    session.deny(approval_id, message.value ? { message: message.value } : {})) }, 'Deny'), message));
  return form;
}

/** A tool of the client's: this page is one. */
function answers(call_id, app) {
  const edit = editor('Output of the tool, as JSON', '""');
  const says = h('div.bad', { role: 'alert' });
  const form = h('form', {}, edit, says);
  const give = gives(app, says, form);
  form.onsubmit = event => {
    event.preventDefault();
    const { value, error } = json(edit.value);
    if (error) { says.textContent = `The output is not JSON: ${error.message}`; return; }
    give(session => session.toolResult(call_id, { output: value }));
  };
  form.append(h('div.line', {}, h('button.main', {}, 'Give the output'), h('button', { type: 'button', onclick: () =>
    give(session => session.toolResult(call_id, { error: words(edit.value) || 'the tool failed' })) }, 'It failed')));
  return form;
}
