// What goes wrong is said in words that a person can read, and what was shown stays.
import assert from 'node:assert/strict';
import { ai7, play } from './harness/stage.mjs';
import { of, post } from './harness/server.mjs';
import { libraries } from './harness/oracle.mjs';
import { user } from './harness/tab.mjs';

const chaos = { model: 'demo/chaos', params: { tokens_per_second: 300 } };
const png = { type: 'file', mediaType: 'image/png', url: 'data:image/png;base64,iVBORw0KGgo=' };

/** One line that could stand in a UI. */
function readable(message) {
  assert.ok(message.length > 5 && message.length < 200, message);
  assert.doesNotMatch(message, /[{}<>\n]|problem\+json/, message);
}

play('failures', {}, scene => {
  for (const [word, code] of [['error', 'upstream_error'], ['reject', 'upstream_rejected'], ['truncate', 'upstream_truncated'],
    ['overloaded', 'upstream_overloaded']]) {
    scene(`a run that fails is an error of the chat (${word})`, async stage => {
      const tab = stage.tab({ body: chaos });
      await tab.say(word);
      await tab.rests('error');
      readable(tab.error.message);
      const [run] = await tab.agrees();
      assert.equal(run.end.code, code);
      assert.ok(tab.error.message.includes(run.end.message) || run.end.message.includes(tab.error.message), tab.error.message);
      assert.equal(tab.finishes.length, 1);
      assert.equal(tab.finishes[0].isError, true);
      assert.equal(tab.text.length > 0, word === 'error' || word === 'truncate');
      // A reload is told the same, and the chat goes on.
      const other = stage.tab({ id: tab.id, messages: structuredClone(tab.messages) });
      await other.resume();
      assert.equal(other.error?.message, tab.error.message);
      await tab.say('and now something else');
      await tab.rests();
      await tab.agrees();
    });
  }

  scene('an empty answer is an answer', async stage => {
    const tab = stage.tab({ body: chaos });
    await tab.say('empty');
    await tab.rests();
    assert.equal(tab.text, '');
    await tab.agrees();
  });

  scene('a huge line is one part', [ai7], async stage => {
    const tab = stage.tab({ body: chaos });
    await tab.say('huge');
    await tab.rests();
    await tab.agrees();
    assert.equal(tab.text.length, 1 << 20);
  });

  scene('a call that cannot be made ends as an error, and the answer goes on', async stage => {
    for (const word of ['bad_tool', 'unknown_tool']) {
      const when = libraries[stage.dialect.version].lastAssistantMessageIsCompleteWithToolCalls;
      const tab = stage.tab({ body: chaos, when });
      await tab.say(word);
      await tab.rests();
      assert.deepEqual(tab.tools().map(part => part.state), ['output-error'], word);
      readable(tab.tools()[0].errorText);
      await tab.agrees();
      assert.equal(of(await tab.log(), 'run.completed').length, 1, word);
      assert.equal(tab.posts.length, 1, `${word}: there is nothing to send`);
    }
  });

  scene('what cannot be begun is refused in words', async stage => {
    stage.quiet = true;
    const refused = [
      ['an unknown model', { parts: [{ type: 'text', text: 'hi' }] }, { model: 'nobody/has-this' }, [400, 404, 422]],
      ['an empty message', { parts: [] }, {}, [400, 422]],
      ['an empty text', { parts: [{ type: 'text', text: '' }] }, {}, [400, 422]],
      ['a file', { parts: [{ type: 'text', text: 'what is this?' }, png] }, {}, [400, 415, 422]],
    ];
    for (const [what, message, body, statuses] of refused) {
      const tab = stage.tab({ body });
      await tab.chat.sendMessage(message);
      assert.equal(tab.status, 'error', what);
      assert.ok(statuses.includes(tab.posts[0].status), `${what}: ${tab.posts[0].status}`);
      assert.match(tab.posts[0].headers.get('content-type'), /^text\/plain/);
      readable(tab.error.message);
      // Nothing was begun.
      const log = await fetch(`${stage.server.url}/v1/sessions/${tab.id}/events`, { headers: { accept: 'application/json' } });
      if (log.ok) assert.equal(of((await log.json()).events, 'run.started').length, 0, what);
      // The same chat can be used.
      stage.quiet = false;
      tab.chat.messages = [];
      await tab.say('hello', { body: { model: 'demo/echo' } });
      await tab.rests();
      await tab.agrees();
    }
  });

  scene('requests that are none are refused in words', [ai7], async stage => {
    stage.quiet = true;
    const id = crypto.randomUUID();
    const bad = [
      ['no JSON', 'nonsense', 400],
      ['no object', '[]', 400],
      ['no messages', JSON.stringify({ id }), 400],
      ['no list', JSON.stringify({ id, messages: 'hi' }), 400],
      ['an empty list', JSON.stringify({ id, messages: [] }), 400],
      ['a message without parts', JSON.stringify({ id, messages: [{ id: 'm', role: 'user', content: 'hi' }] }), 400],
      ['an unknown trigger', JSON.stringify({ id, messages: [user('hi')], trigger: 'dance' }), 400],
      ['nothing that could go on', JSON.stringify({ id, messages: [user('hi'), { id: 'a', role: 'assistant', parts: [] }] }), 404],
    ];
    for (const [what, text, status] of bad) {
      const answer = await fetch(stage.server.chat(), { method: 'POST', body: text });
      const said = await answer.text();
      assert.ok(answer.status === status || (status === 400 && answer.status === 422), `${what}: ${answer.status} ${said}`);
      assert.match(answer.headers.get('content-type'), /^text\/plain/, what);
      readable(said);
    }
    const tab = stage.tab({ body: { model: 'demo/echo' } });
    await tab.say('hello');
    const idle = await post(stage.server.chat(),
      { id: tab.id, messages: tab.messages, trigger: 'submit-message', messageId: tab.answer.id });
    assert.equal(idle.status, 409, 'nothing waits');
    readable(idle.text);
    const stop = await post(`${stage.server.chat()}/${id}/stop`, {});
    assert.equal(stop.json.stopped, false);
  });
});
