// WorkflowChatTransport reconnects by itself, by the number of chunks it has: wherever it is cut, the text is exact.
import assert from 'node:assert/strict';
import { lastAssistantMessageIsCompleteWithApprovalResponses } from 'ai';
import { WorkflowChatTransport } from '@ai-sdk/workflow/client';
import { ai7, play } from './harness/stage.mjs';
import { runs } from './harness/server.mjs';
import { until } from './harness/tab.mjs';

// It writes every cut to the console.
console.error = () => {};
console.warn = () => {};

const echo = { model: 'demo/echo', params: { tokens_per_second: 2000 } };
const story = { model: 'demo/story', params: { tokens_per_second: 120 } };
const words = 'Надя sailed to 🚢 Göteborg, and “back” again, with a jar of seeds and a clock without hands.';

/** The transport with the chat's id in its requests, which it leaves out by itself. */
const named = (body, options = {}) => settings => new WorkflowChatTransport({ ...settings, ...options,
  prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({ body: { ...body, id, messages, trigger, messageId } }) });

const gets = tab => tab.requests.filter(request => request.method === 'GET');

/** Chunks of a replay by hand, and the headers. */
async function replay(stage, id, query) {
  const answer = await stage.oracle.fetch(ai7.of)(`${stage.server.chat()}/${id}/stream${query}`, {});
  const text = await answer.text();
  const chunks = text.split('\n').filter(line => line.startsWith('data: {')).map(line => JSON.parse(line.slice(6)));
  return { status: answer.status, headers: answer.headers, chunks };
}

play('workflow', {}, scene => {
  scene('as it comes: each request is a session of its own, with the whole history', [ai7], async stage => {
    const sessions = [];
    const onChatSendMessage = response => { sessions.push(response.headers.get('steerage-session')); };
    const tab = stage.tab({ transport: settings => new WorkflowChatTransport({ ...settings, onChatSendMessage }) });
    await tab.say('first words', { body: echo });
    await tab.agrees();
    await tab.say('second words', { body: echo });
    await tab.rests();
    assert.equal(tab.text, 'second words');
    assert.equal(new Set(sessions).size, 2);
    assert.equal(runs(await stage.server.log(sessions[1])).at(-1).text, 'second words');
  });

  scene('a chat under its own id', [ai7], async stage => {
    const ends = [];
    const tab = stage.tab({ transport: named(story, { onChatEnd: end => { ends.push(end); } }) });
    await tab.say('Tell me a story');
    await tab.rests();
    await tab.agrees();
    assert.equal(tab.session(), tab.id);
    assert.equal(gets(tab).length, 0);
    assert.equal(ends[0].chunkIndex, stage.oracle.chunks.length);
  });

  // From the first byte of the body on, through every kind of chunk there is in an answer.
  for (let part = 0; part < 6; part += 1) {
    scene(`cut at many positions (${part + 1} of 6)`, [ai7], async stage => {
      const proxy = await stage.proxy();
      for (let n = 0; n < 20; n += 1) {
        const at = 620 + (n * 6 + part) * 31;
        proxy.limit(at);
        const tab = stage.tab({ url: proxy.url, transport: named(echo) });
        await tab.say(`${words} (${at})`);
        await tab.rests();
        assert.equal(tab.text, `${words} (${at})`, `cut after ${at} bytes`);
        await tab.agrees();
        assert.equal(tab.messages.length, 2);
      }
    });
  }

  scene('cut again and again in one answer', [ai7], async stage => {
    const proxy = await stage.proxy();
    for (const at of [900, 1_500, 3_000]) {
      proxy.limit(at, at, at + 40);
      const tab = stage.tab({ url: proxy.url, transport: named(story) });
      await tab.say(`Tell me a story (${at})`);
      await tab.rests();
      await tab.agrees();
      assert.equal(gets(tab).length, 3);
      assert.equal(new Set(gets(tab).map(({ path }) => path)).size, 3, 'each goes on where the one before was cut');
    }
  });

  scene('a reload replays by the id of the chat', [ai7], async stage => {
    const tab = stage.tab({ transport: named(story) });
    const saying = tab.say('Tell me a story');
    await tab.shows(300);
    const other = stage.tab({ id: tab.id, messages: tab.messages.slice(0, 1), transport: named(story) });
    await other.resume();
    await saying;
    await other.rests();
    assert.equal(gets(other)[0].path, `/v1/ai-sdk/chat/${tab.id}/stream?startIndex=0`);
    await other.agrees();
    assert.equal(other.text, tab.text);
    assert.equal(other.messages.length, 2);
  });

  scene('from the end, as the server counts it', [ai7], async stage => {
    const tab = stage.tab({ transport: named(story) });
    await tab.say('Tell me a story');
    const { chunks } = await replay(stage, tab.id, '');
    for (const count of [1, 5, chunks.length, chunks.length + 10]) {
      const end = await replay(stage, tab.id, `?startIndex=-${count}`);
      assert.equal(end.headers.get('x-workflow-stream-tail-index'), String(chunks.length - 1));
      assert.deepEqual(end.chunks, chunks.slice(-count), `the last ${count}`);
    }
    for (const from of [0, 1, 7, chunks.length - 1]) {
      assert.deepEqual((await replay(stage, tab.id, `?startIndex=${from}`)).chunks, chunks.slice(from), `from ${from}`);
    }
    const id = tab.posts[0].headers.get('x-workflow-run-id');
    assert.deepEqual((await replay(stage, encodeURIComponent(id), '?startIndex=3')).chunks, chunks.slice(3));
  });

  scene('from the end, as the transport takes it', [ai7], async stage => {
    const proxy = await stage.proxy();
    const tab = stage.tab({ transport: named(story) });
    const saying = tab.say('Tell me a story');
    await tab.shows(300);
    const read = async (initialStartIndex, ...limits) => {
      proxy.limit(...limits);
      const tail = stage.tab({ id: tab.id, url: proxy.url, transport: named(story, { initialStartIndex }) });
      await tail.resume();
      await tail.rests();
      return tail;
    };
    // Within a text it drops what lacks its beginning: nothing is shown, and nothing is an error.
    const [within, all] = await Promise.all([read(-8), read(-10_000)]);
    await saying;
    assert.equal(within.text, '');
    assert.ok(Number(gets(within)[0].headers.get('x-workflow-stream-tail-index')) > 8);
    assert.equal(all.text, tab.text);
    // From where the text begins, and cut on the way: it goes on at the right place.
    const { chunks } = await replay(stage, tab.id, '');
    const begin = chunks.length - chunks.findIndex(chunk => chunk.type === 'text-start');
    for (const limits of [[], [1_800], [1_800, 3_000]]) {
      const tail = await read(-begin, ...limits);
      assert.equal(tail.text, tab.text, `cut after ${limits}`);
      assert.equal(gets(tail).length, limits.length + 1);
    }
  });

  scene('a stop ends it, and it does not come back', [ai7], async stage => {
    const tab = stage.tab({ transport: named({ ...story, params: { tokens_per_second: 20 } }) });
    const saying = tab.say('Tell me a story');
    await tab.shows(50);
    await stage.server.stopChat(tab.id);
    await saying;
    await tab.rests();
    await tab.agrees();
    assert.equal(gets(tab).length, 0);
  });

  scene('a run id names its turn, also after another has begun', [ai7], async stage => {
    const tab = stage.tab({ transport: named(echo) });
    await tab.say('the first');
    await tab.say('the second');
    const [first, second] = tab.posts.map(({ headers }) => headers.get('x-workflow-run-id'));
    const deltas = async id => (await replay(stage, id, '?startIndex=0')).chunks.filter(chunk => chunk.type === 'text-delta')
      .map(chunk => chunk.delta).join('');
    assert.equal(await deltas(second), 'the second');
    assert.equal(await deltas(first), 'the first');
  });

  scene('the answer to a decision is cut at many positions', [ai7], async stage => {
    const proxy = await stage.proxy();
    const body = { model: 'demo/tools', params: { tokens_per_second: 2000 } };
    for (let at = 620; at < 5_500; at += 173) {
      const when = lastAssistantMessageIsCompleteWithApprovalResponses;
      const tab = stage.tab({ url: proxy.url, transport: named(body), when });
      await tab.say('What is the weather in Lisbon?');
      await tab.rests();
      proxy.limit(at);
      await tab.decide(true);
      await tab.settles(2);
      assert.match(tab.text, /In Lisbon it is/, `cut after ${at} bytes`);
      assert.equal(tab.tools()[0].state, 'output-available');
      assert.equal(tab.answers.length, 1);
      await tab.agrees();
      assert.equal(tab.posts.length, 2);
    }
  });

  scene('the end of a broken stream is waited for, not polled', [ai7], async stage => {
    const proxy = await stage.proxy();
    const tab = stage.tab({ url: proxy.url, transport: named({ ...story, params: { tokens_per_second: 40 } }) });
    const saying = tab.say('Tell me a story');
    await tab.shows(60);
    proxy.cut();
    await until(() => gets(tab).length === 1, 'it reconnects');
    await tab.shows(200);
    await stage.server.stopChat(tab.id);
    await saying;
    await tab.agrees();
    assert.equal(gets(tab).length, 1);
  });
});
