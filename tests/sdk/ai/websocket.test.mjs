// WebSocketChatTransport: one socket for any number of chats. Its abort is a cancel, its loss is none.
import assert from 'node:assert/strict';
import { WebSocketChatTransport } from 'ai';
import WebSocket from 'ws';
import { ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { until } from './harness/tab.mjs';
import { libraries } from './harness/oracle.mjs';

const story = { model: 'demo/story', params: { tokens_per_second: 120 } };
const both = [ai7, ai7AsSuch];
const unique = what => `${what} ${crypto.randomUUID().slice(0, 8)}`;

/** A transport with what came over it (`frames`) and its sockets so far (`sockets`). */
function transport(stage, { body = story, url = stage.server.url } = {}) {
  const [frames, sockets] = [[], []];
  const Base = stage.oracle.webSocket(WebSocket, stage.dialect.of, frames);
  const webSocket = class extends Base { constructor(...args) { super(...args); sockets.push(this); } };
  const made = new WebSocketChatTransport({ url: `${url}/v1/ai-sdk/chat/ws${stage.dialect.query}`, webSocket, body });
  stage.later(() => made.close());
  return Object.assign(made, { frames, sockets });
}

const over = (stage, options = {}) => {
  const made = options.transport ?? transport(stage, options);
  return stage.tab({ ...options, transport: () => made });
};

/** Every request has its chunks numbered from 0, without a gap, and one end. */
function ordered({ frames }) {
  for (const requestId of new Set(frames.map(frame => frame.requestId))) {
    const own = frames.filter(frame => frame.requestId === requestId);
    const numbers = own.filter(frame => frame.type === 'chunk').map(frame => frame.sequence);
    assert.deepEqual(numbers, numbers.map((_, n) => n));
    assert.ok(own.filter(frame => ['end', 'no-active', 'error'].includes(frame.type)).length <= 1);
  }
}

play('websocket', { upstream: true }, scene => {
  scene('an answer, and the next one', both, async stage => {
    const tab = over(stage);
    await tab.say('Tell me a story');
    await tab.say('And another one');
    await tab.rests();
    assert.equal((await tab.agrees()).length, 2);
    ordered(tab.transport);
    assert.equal(tab.transport.sockets.length, 1);
    assert.equal(tab.transport.frames.filter(frame => frame.type === 'end').length, 2);
    assert.equal(of(await tab.log(), 'input.added')[0].message_id, tab.messages[0].id);
  });

  scene('resumed in mid-answer, over either transport', both, async stage => {
    const tab = over(stage);
    const saying = tab.say('Tell me a story');
    await tab.shows(200);
    const other = over(stage, { id: tab.id });
    const http = stage.tab({ id: tab.id });
    await Promise.all([other.resume(), http.resume()]);
    await saying;
    for (const each of [tab, other, http]) {
      await each.rests();
      await each.agrees();
      assert.equal(each.text, tab.text);
    }
    assert.equal(other.transport.frames[0].type, 'start');
    ordered(other.transport);
  });

  scene('nothing to resume', both, async stage => {
    stage.quiet = true;
    const tab = over(stage);
    await tab.resume();
    assert.equal(tab.status, 'ready');
    assert.deepEqual(tab.transport.frames.map(frame => frame.type), ['no-active']);
  });

  scene('a stop closes the model call', both, async stage => {
    const tab = over(stage, { body: { model: 'mock/x' } });
    const asked = unique('hold');
    const saying = tab.say(asked);
    await tab.shows(20);
    await tab.chat.stop();
    await saying;
    assert.equal(tab.status, 'ready');
    const [request] = stage.upstream.about(asked);
    await until(() => request.closed, 'the model call is closed', 2_000);
    await until(async () => of(await tab.log(), 'run.cancelled').length === 1, 'the end is in the log');
    const first = tab.answer.id;
    const next = unique('next');
    await tab.say(next);
    assert.equal(tab.text, `You said ${next}.`);
    await tab.agrees({ partial: [first] });
    assert.equal(tab.transport.sockets.length, 1);
  });

  scene('who has resumed can stop as well, and everybody sees the end', both, async stage => {
    const tab = over(stage, { body: { model: 'mock/x' } });
    const asked = unique('hold');
    const saying = tab.say(asked);
    await tab.shows(20);
    const other = over(stage, { id: tab.id, body: { model: 'mock/x' } });
    void other.resume();
    await other.shows(20);
    await other.chat.stop();
    await until(() => stage.upstream.about(asked)[0].closed, 'the model call is closed', 2_000);
    await saying;
    await tab.rests();
    await tab.agrees();
  });

  scene('many chats on one socket, and one of them is stopped', both, async stage => {
    const shared = transport(stage, { body: { ...story, model: 'demo/story' } });
    const tabs = Array.from({ length: 8 }, () => over(stage, { transport: shared }));
    const saying = tabs.map((tab, n) => tab.say(`Tell me story ${n}`));
    await Promise.all(tabs.map(tab => tab.shows(100)));
    await tabs[3].chat.stop();
    await Promise.all(saying);
    for (const [n, tab] of tabs.entries()) {
      await tab.rests();
      const [run] = await tab.agrees({ partial: n === 3 ? [tab.answer.id] : [] });
      assert.equal(run.end.type, n === 3 ? 'run.cancelled' : 'run.completed');
    }
    assert.equal(shared.sockets.length, 1);
    ordered(shared);
  });

  scene('the loss of the socket stops nothing', both, async stage => {
    const proxy = await stage.proxy();
    const tab = over(stage, { url: proxy.url });
    const saying = tab.say('Tell me a story');
    await tab.shows(200);
    proxy.cut();
    await saying;
    await tab.rests('error');
    const before = tab.text;
    await tab.resume();
    await tab.rests();
    const [run] = await tab.agrees();
    assert.equal(run.end.type, 'run.completed');
    assert.ok(tab.text.startsWith(before));
    assert.equal(tab.messages.length, 2);
    assert.equal(tab.transport.sockets.length, 2);
  });

  scene('a socket that is closed with three answers on it stops none of them', both, async stage => {
    const shared = transport(stage);
    const tabs = [0, 1, 2].map(() => over(stage, { transport: shared }));
    const saying = tabs.map((tab, n) => tab.say(`Tell me story ${n}`));
    await Promise.all(tabs.map(tab => tab.shows(100)));
    shared.close();
    await Promise.all(saying);
    const back = tabs.map(tab => stage.tab({ id: tab.id }));
    await Promise.all(back.map(tab => tab.resume()));
    for (const tab of back) assert.equal((await tab.agrees())[0].end.type, 'run.completed');
  });

  scene('what cannot be begun is an error of that request alone', both, async stage => {
    const shared = transport(stage);
    const good = over(stage, { transport: shared });
    const bad = over(stage, { transport: shared });
    const saying = good.say('Tell me a story');
    await good.shows(50);
    await bad.say('hello', { body: { model: 'nobody/has-this' } });
    assert.equal(bad.status, 'error');
    assert.ok(bad.error.message.length < 200 && /nobody|model/.test(bad.error.message), bad.error.message);
    await saying;
    await good.agrees();
    assert.equal(shared.sockets.length, 1);
  });

  scene('a card is decided over the socket', both, async stage => {
    const when = libraries[7].lastAssistantMessageIsCompleteWithApprovalResponses;
    const body = { model: 'demo/tools', params: { tokens_per_second: 300 } };
    for (const approved of [true, false]) {
      const tab = over(stage, { body, when });
      await tab.say('What is the weather in Lisbon?');
      await tab.rests();
      const other = over(stage, { body, when, id: tab.id });
      await other.resume();
      assert.equal(other.asked, tab.asked);
      await tab.decide(approved);
      const ended = () => tab.transport.frames.filter(frame => frame.type === 'end').length === 2 && tab.status === 'ready';
      await until(ended, 'the answer to the decision');
      assert.equal(tab.tools()[0].state, approved ? 'output-available' : 'output-denied');
      assert.equal(tab.answers.length, 1);
      await tab.agrees();
    }
  });

  scene('a frame that is none closes the socket, and the server lives', [ai7], async stage => {
    stage.quiet = true;
    for (const text of ['', 'no json', '[]', '{}', '{"type":"send"}', '{"type":"abort"}', '{"type":"other","requestId":"r"}']) {
      const socket = new WebSocket(`${stage.server.url.replace('http', 'ws')}/v1/ai-sdk/chat/ws`);
      await new Promise((resolve, reject) => { socket.on('open', resolve); socket.on('error', reject); });
      const answered = new Promise(resolve => { socket.on('message', resolve); socket.on('close', resolve); });
      socket.send(text);
      await answered;
      socket.terminate();
    }
    assert.equal((await fetch(`${stage.server.url}/healthz`)).status, 200);
  });
});
