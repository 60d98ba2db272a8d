// Tools that the client runs: the server waits for their results, and takes each of them once.
import assert from 'node:assert/strict';
import { ai6, ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { libraries } from './harness/oracle.mjs';
import { until } from './harness/tab.mjs';

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

  scene('a card and a call of the client in one step, answered together or one by one', [ai7, ai7AsSuch, ai6], async stage => {
    const tools = [tool('lookup'), { ...tool('get_weather'), executor: 'builtin' }];
    for (const first of ['both', 'output', 'approval']) {
      const tab = stage.tab({ body: { ...body, tools } });
      await tab.say('both');
      await tab.rests();
      const [call] = tab.tools('input-available');
      if (first !== 'approval') await give(tab, call, { output: 'found' });
      if (first !== 'output') await tab.decide(true);
      await tab.chat.sendMessage();
      await tab.rests();
      assert.equal(tab.answers.length, 1);
      if (first !== 'both') {
        assert.equal(tab.text, '', 'the model is not asked before both are there');
        if (first === 'approval') await give(tab, call, { output: 'found' });
        else await tab.decide(true);
        await tab.chat.sendMessage();
        await tab.rests();
      }
      assert.deepEqual(tab.tools().map(part => part.state), ['output-available', 'output-available'], first);
      assert.match(tab.text, /^The tools gave .*found/);
      assert.equal(tab.answers.length, 1);
      await tab.agrees();
    }
  });

  scene('a call of the client that needs a yes is asked for it, then for its result', [ai7, ai7AsSuch, ai6], async stage => {
    const approvals = libraries[stage.dialect.version].lastAssistantMessageIsCompleteWithApprovalResponses;
    const called = [];
    const onToolCall = ({ toolCall }, me) => {
      called.push(toolCall);
      // As an application does that asks first: the result is given once there was a yes.
      if (called.length > 1) void give(me, toolCall, { output: 'found' });
    };
    const tab = stage.tab({ body: { ...body, tools: [{ ...tool('lookup'), approval: 'always' }] }, onToolCall,
      when: options => approvals(options) || when(stage)(options) });
    await tab.say(ask);
    await tab.rests();
    await tab.decide(true);
    await until(() => /^The tools gave/.test(tab.text), 'the answer');
    await tab.rests();
    assert.ok(tab.posts.length <= 3, `${tab.posts.length} posts: a continuation that closes nothing is sent again and again`);
    assert.equal(tab.tools()[0].state, 'output-available');
    assert.equal(tab.answers.length, 1);
    await tab.agrees();
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
