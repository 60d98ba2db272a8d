// Tools that the client runs: the server waits for their results, and takes each of them once.
import assert from 'node:assert/strict';
import { play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { libraries } from './harness/oracle.mjs';

const tool = name => ({ name, description: 'Looks a thing up', parameters: { type: 'object' }, executor: 'client' });
const body = { model: 'mock/x', tools: [tool('lookup')] };
const when = stage => libraries[stage.dialect.version].lastAssistantMessageIsCompleteWithToolCalls;
const give = (tab, part, rest) => tab.chat.addToolOutput({ tool: 'lookup', toolCallId: part.toolCallId, ...rest });
const ask = 'call lookup {"key":"x"}';

/** A tab whose call waits for its result. */
async function waiting(stage, asked = ask, options = {}) {
  const tab = stage.tab({ body, when: when(stage), ...options });
  await tab.say(asked);
  await tab.rests();
  return tab;
}

play('client tools', { upstream: true }, scene => {
  scene('onToolCall answers, and the same message goes on', async stage => {
    const calls = [];
    const onToolCall = ({ toolCall }, tab) => {
      calls.push(toolCall);
      // Not awaited: the SDK would wait for itself.
      void give(tab, toolCall, { output: { found: 'a thing' } });
    };
    const tab = stage.tab({ body, when: when(stage), onToolCall });
    await tab.say(ask);
    await tab.settles(2);
    assert.deepEqual(calls.map(({ toolName, input }) => [toolName, input]), [['lookup', { key: 'x' }]]);
    const events = await tab.log();
    assert.deepEqual(of(events, 'tool.completed').map(event => event.output), [{ found: 'a thing' }]);
    assert.equal(tab.text, 'The tools gave {"found":"a thing"}.');
    assert.equal(tab.answers.length, 1);
    assert.equal(tab.tools()[0].state, 'output-available');
    assert.deepEqual(tab.answer.parts.filter(part => part.type === 'step-start').length, 2);
    await tab.agrees();
    assert.equal(tab.posts.length, 2);
  });

  scene('a result can be given later, and be an error', async stage => {
    const tab = await waiting(stage);
    assert.equal(tab.tools()[0].state, 'input-available');
    await give(tab, tab.tools()[0], { state: 'output-error', errorText: 'there is no such key' });
    await tab.settles(2);
    const [failed] = of(await tab.log(), 'tool.failed');
    assert.deepEqual([failed.code, failed.message], ['error', 'there is no such key']);
    assert.match(tab.text, /there is no such key/);
    assert.equal(tab.tools()[0].state, 'output-error');
    assert.equal(tab.answers.length, 1);
    await tab.agrees();
  });

  scene('two calls of one step are both answered', async stage => {
    const tab = await waiting(stage, 'twice lookup');
    const [first, second] = tab.tools();
    await give(tab, second, { output: 'second' });
    await give(tab, first, { output: 'first' });
    await tab.settles(2);
    assert.match(tab.text, /first and .*second/);
    assert.deepEqual(tab.tools().map(part => part.output), ['first', 'second']);
    await tab.agrees();
    assert.equal(tab.answers.length, 1);
  });

  scene('a reload in the middle is asked again, and answers', async stage => {
    const tab = await waiting(stage);
    for (const kept of [[], tab.messages.slice(0, 1)]) {
      const looked = stage.tab({ id: tab.id, messages: kept, body });
      await looked.resume();
      assert.equal(looked.tools('input-available').length, 1);
    }
    const onToolCall = ({ toolCall }, other) => void give(other, toolCall, { output: 'after a reload' });
    const other = stage.tab({ id: tab.id, body, when: when(stage), messages: tab.messages.slice(0, 1), onToolCall });
    await other.resume();
    await other.settles(1);
    assert.match(other.text, /after a reload/);
    assert.equal(other.answers.length, 1);
    await other.agrees();
  });

  scene('the first result counts, and a second tab is shown it', async stage => {
    const tab = await waiting(stage);
    const other = stage.tab({ id: tab.id, body, when: when(stage), messages: structuredClone(tab.messages) });
    await give(tab, tab.tools()[0], { output: 'the first' });
    await tab.settles(2);
    await give(other, other.tools()[0], { output: 'the second' });
    await other.settles(1);
    assert.deepEqual(of(await tab.log(), 'tool.completed').map(event => event.output), ['the first']);
    for (const each of [tab, other]) {
      assert.equal(each.tools()[0].output, 'the first');
      assert.match(each.text, /the first/);
      await each.agrees();
    }
  });

  scene('a call in every turn, and no quarrel about the history', async stage => {
    const said = [];
    const tab = stage.tab({ body, when: when(stage),
      onToolCall: ({ toolCall }, me) => void give(me, toolCall, { output: `result ${said.push(toolCall)}` }) });
    await tab.say(ask);
    await tab.settles(2);
    await tab.say(ask);
    await tab.settles(4);
    assert.equal(tab.answers.length, 2);
    assert.deepEqual(tab.answers.map(answer => answer.parts.find(part => part.toolCallId).output), ['result 1', 'result 2']);
    const events = await tab.log();
    assert.equal(events.filter(event => event.type.startsWith('history.')).length, 0);
    await tab.agrees();
  });
});
