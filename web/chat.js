// The conversation and what is said in it: draws the folded log, gives commands.
import { $, h } from './dom.js';
import { drawsMessage } from './message.js';

export function mount(root, app) {
  let [views, running, recovered] = [[], false, new Set()];
  let end = h('div.ending');

  // Following the end, unless the reader has scrolled away from it.
  let follows = true;
  const scroll = $('scroll');
  const toEnd = () => { scroll.scrollTop = scroll.scrollHeight; };
  scroll.onscroll = () => {
    follows = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    $('latest').hidden = follows;
  };
  $('latest').onclick = () => { follows = true; toEnd(); $('latest').hidden = true; scroll.focus({ preventScroll: true }); };

  /** Gives a command; says what went wrong. */
  const give = async (command, button) => {
    if (button) button.disabled = true;
    try { return await command(app.session); } catch (error) { app.complain(error); }
    finally { if (button) button.disabled = false; }
  };

  function draw(state) {
    const { messages } = state;
    // A message is never taken out of the log; another session, or a reset, has others.
    if (views.some((view, at) => view.id !== messages[at]?.message_id)) {
      for (const view of views.splice(0)) view.remove();
    }
    messages.forEach((message, at) => {
      if (message.role === 'system') return views[at] ??= { id: message.message_id, remove() {} };
      views[at] ??= drawsMessage(message, app, $('log'));
      views[at].update?.(message, state, recovered.has(message.message_id));
    });
    if ($('log').lastChild !== end) $('log').append(end);
    ending(state);
    queue(state);
    begins(state);
    $('empty').hidden = app.session !== null;
    if (follows) toEnd();
  }

  /** What became of the last run, where no message says it. */
  function ending({ run, last_run, messages }) {
    const parts = [];
    if (!run && last_run?.outcome === 'failed') {
      parts.push(h('span.bad', {}, `Failed (${last_run.code}): ${last_run.message}`));
    } else if (!run && last_run?.outcome === 'completed' && last_run.finish_reason === 'length') {
      parts.push(h('span', {}, 'The answer reached its length limit.'));
    } else if (!run && last_run?.outcome === 'cancelled' && messages.at(-1)?.role !== 'assistant') {
      parts.push(h('span', {}, '■ Stopped before the first word.'));
    }
    const again = !run && last_run && ['failed', 'cancelled'].includes(last_run.outcome) && app.may('send') && app.may('cancel');
    if (again) parts.push(h('button.small', { type: 'button', onclick: ({ target }) => { $('input').focus(); give(s => s.regenerate(), target); } }, 'Try again'));
    const text = parts.map(part => part.textContent).join();
    if (end.dataset.text !== text) end.replaceChildren(...parts);
    end.dataset.text = text;
    end.hidden = !parts.length;
  }

  function queue({ queue }) {
    const key = queue.map(waiting => waiting.command_id).join();
    if ($('queue').dataset.key === key) return;
    $('queue').dataset.key = key;
    $('queue').replaceChildren(...queue.map(({ command_id, content, when, kind }) => h('div.waits', {},
      h('span.dim', {}, kind === 'steer' && when !== 'next_run' ? 'waits to steer' : 'waits its turn'), h('span.grow', {}, content),
      h('button.small', { type: 'button', onclick: () => { $('input').focus(); give(s => s.withdraw(command_id)); } }, 'Take back'))));
  }

  function begins({ run, last_run, model }) {
    const was = running;
    running = Boolean(run);
    // What is hidden while it has the focus would drop it.
    if (document.activeElement === $('stop') && !running) $('input').focus();
    $('stop').hidden = !running || !app.may('cancel');
    $('when-label').hidden = !running;
    $('model-label').hidden = running;
    $('send').textContent = running ? 'Steer' : 'Send';
    $('input').placeholder = running ? 'Say more while it runs' : app.session ? 'Say something' : 'Ask for something';
    const allowed = running ? app.may('steer') : app.may('send');
    $('form').classList.toggle('closed', !allowed);
    $('input').disabled = $('send').disabled = !allowed;
    if (!allowed) $('input').placeholder = running ? 'This link does not steer' : 'This link only reads';
    if (model && $('model').value !== model) {
      if (![...$('model').options].some(option => option.value === model)) $('model').append(new Option(model, model));
      $('model').value = model;
    }
    $('model').disabled = app.session !== null;
    if (was !== running || last_run) root.setAttribute('aria-busy', running);
  }

  // Those who listen hear whole things, not tokens.
  app.on('event', ({ type, event, live }) => {
    if (type === 'run.recovered') recovered.add(app.state.messages.findLast(message => message.role === 'assistant')?.message_id);
    if (!live) return;
    if (type === 'run.completed') app.announce('The answer is complete. ' + textOf(app.state));
    if (type === 'run.cancelled') app.announce('Stopped.');
    if (type === 'run.failed') app.announce(`Failed: ${event.message}`);
    if (type === 'approval.requested') app.announce(`${event.name} waits for your approval.`);
  });
  app.on('session', () => {
    recovered = new Set();
    follows = true;
    running = false;
    root.removeAttribute('aria-busy');
    $('when').value = 'now';
    for (const view of views.splice(0)) view.remove();
  });
  app.on('state', draw);

  /** What is being made. A second press is none. */
  let creating = false;

  async function submit(content, model = $('model').value) {
    const { session } = app;
    if (!session && creating) return;
    try {
      if (!session) {
        creating = true;
        return await app.create(content, model || undefined);
      }
      follows = true;
      if (running) await session.steer(content, { when: $('when').value });
      else await session.send(content);
    } catch (error) {
      app.complain(error);
      // What could not be said is not lost, and is not said to somebody else.
      if (app.session === session) $('input').value = [content, $('input').value].filter(Boolean).join('\n');
      else app.complain(`${error.message}; it was: ${content}`);
      sizes();
    } finally {
      if (!session) creating = false;
    }
  }

  /** Stops what is seen running, and nothing that begins after it however late the command arrives. */
  async function stop() {
    const run_id = app.state.run?.run_id;
    // Not `disabled`: that would drop the focus.
    if (!run_id || $('stop').ariaBusy === 'true') return;
    $('stop').ariaBusy = 'true';
    try {
      await app.session.cancel({ run_id });
    } catch (error) {
      // It had ended, and another one runs.
      if (error.code !== 'run_mismatch') app.complain(error);
    } finally {
      $('stop').ariaBusy = 'false';
    }
  }

  const sizes = () => {
    $('input').style.height = 'auto';
    $('input').style.height = `${Math.min($('input').scrollHeight + 2, 200)}px`;
  };
  $('input').oninput = sizes;
  $('form').onsubmit = event => {
    event.preventDefault();
    const content = $('input').value;
    if (!content.trim() || creating) return;
    $('input').value = '';
    sizes();
    submit(content);
  };
  $('input').onkeydown = event => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $('form').requestSubmit();
    }
  };
  addEventListener('keydown', event => {
    // In another field it means something else.
    const elsewhere = event.isComposing || event.defaultPrevented || document.querySelector('dialog[open]')
      || event.target !== $('input') && event.target.closest?.('input, select, textarea');
    if (event.key === 'Escape' && running && !elsewhere && !$('stop').hidden) $('stop').click();
  });
  $('stop').onclick = stop;
  $('skip').onclick = () => $('input').focus();
  for (const button of $('starters').children) {
    button.onclick = () => {
      $('model').value = button.dataset.model;
      submit(button.dataset.say, button.dataset.model);
      $('input').focus();
    };
  }
  models(app);
}

const textOf = ({ messages }) => messages.findLast(message => message.role === 'assistant')?.content
  .filter(part => part.type === 'text').map(part => part.text).join('').slice(0, 500) ?? '';

/** Those that there are, by who has them. */
async function models(app) {
  if (app.verbs !== null) return;
  try {
    const groups = new Map();
    for (const { id, owned_by } of await app.steerage.models()) {
      const group = groups.get(owned_by) ?? groups.set(owned_by, h('optgroup', { label: owned_by })).get(owned_by);
      group.append(new Option(id, id, id === 'demo/assistant', id === 'demo/assistant'));
    }
    const chosen = app.state.model;
    $('model').replaceChildren(...groups.values());
    if (chosen) $('model').value = chosen;
  } catch (error) {
    app.complain(`The models cannot be listed: ${error.message}`);
  }
}
