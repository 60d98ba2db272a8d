// The server is killed in the middle of an answer and another one starts on its store: the answer goes on, and a client
// that resumes has it without a word lost or doubled.
import assert from 'node:assert/strict';
import { WebSocketChatTransport } from 'ai';
import WebSocket from 'ws';
import { ai5, ai6, ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { counts, of, runs } from './harness/server.mjs';
import { textOf } from './harness/tab.mjs';
import { libraries } from './harness/oracle.mjs';

const story = { model: 'demo/story', params: { tokens_per_second: 60 } };
const question = 'Tell me a story';

/** What the model says when nothing happens to it: the demo model says the same to the same question. */
async function undisturbed(stage) {
  const tab = stage.tab({ body: { ...story, params: { tokens_per_second: 2000 } } });
  await tab.say(question);
  return tab.text;
}

play('crash', { store: 'disk', upstream: true, own: true, concurrency: 2 }, scene => {
  for (const same of [true, false]) {
    scene(`killed in mid-answer, resumed in ${same ? 'the same' : 'a new'} instance`, async stage => {
      const whole = await undisturbed(stage);
      // What a browser makes of it is known as a disconnect, and see resume.test.mjs for what ai 5 then does.
      const tab = stage.tab({ body: story, browser: stage.dialect !== ai5 });
      const saying = tab.say(question);
      await tab.shows(250);
      await stage.server.kill();
      await saying;
      await tab.rests('error');
      const before = tab.text;
      await stage.server.again();
      const back = same ? tab : stage.tab({ id: tab.id, messages: structuredClone(tab.messages) });
      await back.resume();
      await back.rests();
      await back.agrees();
      assert.ok(before.length < whole.length && back.text.startsWith(before));
      assert.equal(back.text, whole);
      assert.equal(back.messages.length, 2);
      assert.equal(back.answer.id, tab.answer.id);
      const events = await back.log();
      assert.deepEqual(counts(events, 'run.recovered', 'run.completed', 'run.failed'), [1, 1, 0]);
      // And the chat goes on.
      await back.say('And another one');
      await back.rests();
      assert.equal(back.messages.length, 4);
      await back.agrees();
      assert.equal((await back.log()).filter(event => event.type.startsWith('history.')).length, 0);
    });
  }

  scene('killed while a model server of somebody else answers', async stage => {
    const tab = stage.tab({ body: { model: 'mock/x' }, browser: stage.dialect !== ai5 });
    const saying = tab.say('slow kill');
    await tab.shows(150);
    await stage.server.kill();
    await saying;
    const before = tab.text;
    await stage.server.again();
    await tab.resume();
    await tab.rests();
    await tab.agrees();
    assert.ok(tab.text.startsWith(before) && tab.text.length > before.length);
    assert.equal(tab.messages.length, 2);
    assert.equal(tab.answer.parts.filter(part => part.type === 'text').length, 1, 'it goes on within its text');
    assert.equal(of(await tab.log(), 'run.recovered').length, 1);
  });

  scene('killed under a WebSocket', [ai7, ai7AsSuch], async stage => {
    const whole = await undisturbed(stage);
    const webSocket = stage.oracle.webSocket(WebSocket, stage.dialect.of);
    const url = stage.server.chat(`/ws${stage.dialect.query}`);
    const tab = stage.tab({ transport: () => new WebSocketChatTransport({ url, webSocket, body: story }) });
    stage.later(() => tab.transport.close());
    const saying = tab.say(question);
    await tab.shows(250);
    await stage.server.kill();
    await saying;
    await tab.rests('error');
    await stage.server.again();
    await tab.resume();
    await tab.rests();
    assert.equal(tab.text, whole);
    await tab.agrees();
    assert.equal(tab.messages.length, 2);
  });

  scene('killed three times', [ai7, ai6], async stage => {
    const whole = await undisturbed(stage);
    const tab = stage.tab({ body: story });
    void tab.say(question);
    for (const least of [150, 450, 750]) {
      await tab.shows(least);
      await stage.server.kill();
      await tab.rests('error');
      await stage.server.again();
      await tab.goesOn();
    }
    await tab.rests();
    assert.equal(tab.text, whole);
    await tab.agrees();
  });

  scene('killed while a card waits', [ai7, ai7AsSuch, ai6], async stage => {
    const when = libraries[stage.dialect.version].lastAssistantMessageIsCompleteWithApprovalResponses;
    const body = { model: 'demo/tools', params: { tokens_per_second: 300 } };
    const tab = stage.tab({ body, when });
    await tab.say('What is the weather in Lisbon?');
    await stage.server.kill();
    await stage.server.again();
    const other = stage.tab({ id: tab.id, body, when, messages: tab.messages.slice(0, 1) });
    await other.resume();
    await other.rests();
    assert.equal(other.asked, tab.asked);
    // The tab that has seen nothing of it decides.
    await tab.decide(true);
    await tab.settles(2);
    assert.match(tab.text, /In Lisbon it is/);
    assert.equal(tab.answers.length, 1);
    await tab.agrees();
    assert.equal(of(await tab.log(), 'tool.started').length, 1);
  });

  scene('a server that is told to end never leaves half an answer that looks whole', async stage => {
    const tab = stage.tab({ body: { ...story, params: { tokens_per_second: 8 } }, browser: stage.dialect !== ai5 });
    const saying = tab.say(question);
    await tab.shows(30);
    await stage.server.terminate();
    await saying;
    const cut = tab.text;
    await stage.server.again();
    const whole = tab.status === 'ready';
    if (!whole) {
      assert.equal(tab.status, 'error');
      // It goes on at its slow pace: what was seen is how it goes on, and it is stopped.
      void tab.resume();
      await tab.shows(cut.length + 20);
      await stage.server.stopChat(tab.id);
      await tab.rests();
      assert.ok(tab.text.startsWith(cut));
    }
    await tab.agrees();
    const [run] = runs(await tab.log());
    assert.equal(run.end.type, whole ? 'run.completed' : 'run.cancelled');
    assert.equal(textOf(tab.answer), run.text);
  });
});
