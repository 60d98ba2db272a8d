// One message on the page. Its text is appended to, never drawn again: an answer has thousands of tokens.
import { drawsCall } from './call.js';
import { h } from './dom.js';

const ENDS = { steered: '↳ steered here', cancelled: '■ stopped here', failed: '✕ broke off here' };

/** Draws a message at the end of `log`: `update` brings it to what it is now. */
export function drawsMessage({ message_id, role }, app, log) {
  const node = h(`article.${role}`, { 'aria-label': role === 'user' ? 'You' : 'Model' });
  const note = h('div.note');
  node.append(note);
  log.append(node);
  const parts = [];
  let drawn;

  function part(at, message, state) {
    const { type } = message.content[at];
    parts[at] ??= type === 'tool_call' ? drawsCall(message.content[at], app) : type === 'reasoning' ? reasoning() : plain();
    if (!parts[at].node.isConnected) note.before(parts[at].node);
    parts[at].update(message.content[at], state, message.status === 'streaming' && at === message.content.length - 1);
  }

  return {
    id: message_id,
    remove: () => node.remove(),
    update(message, state, recovered) {
      // What has not changed is the same object; calls also hang on who waits for whom.
      const waits = message.content.some(({ type }) => type === 'tool_call') && `${state.state} ${state.approvals.length}`;
      if (drawn?.message === message && drawn.waits === waits && drawn.recovered === recovered) return;
      drawn = { message, waits, recovered };
      message.content.forEach((_, at) => part(at, message, state));
      node.classList.toggle('rolled-back', Boolean(message.rolled_back));
      node.classList.toggle('streaming', message.status === 'streaming');
      const said = [
        recovered && '⟳ the server was restarted in this answer, and it went on',
        message.rolled_back && '↶ taken back', role === 'assistant' && ENDS[message.status],
      ].filter(Boolean).join(' · ');
      if (note.textContent !== said) note.textContent = said;
      note.hidden = !said;
    },
  };
}

/** Appends what is new of a text that only grows. */
function growing(text) {
  return now => {
    if (now.length > text.data.length && now.startsWith(text.data.slice(-64), Math.max(0, text.data.length - 64))) {
      text.appendData(now.slice(text.data.length));
    } else if (now !== text.data) {
      text.data = now;
    }
  };
}

function plain() {
  const text = document.createTextNode('');
  const node = h('div.text', {}, text), grow = growing(text);
  return { node, update({ text }, _, open) { grow(text); node.classList.toggle('open', open); } };
}

/** Folded away: a person wants the answer. */
function reasoning() {
  const text = document.createTextNode('');
  const size = h('span.dim'), grow = growing(text);
  const summary = h('summary', {}, h('span.what', {}, 'Reasoning'), ' ', size);
  const node = h('details.reasoning', {}, summary, h('div.text', {}, text));
  return {
    node,
    update({ text }, _, open) {
      grow(text);
      node.classList.toggle('thinking', open);
      summary.firstChild.textContent = open ? 'Thinking' : 'Thought';
      size.textContent = `${text.split(/\s+/).length} words`;
    },
  };
}
