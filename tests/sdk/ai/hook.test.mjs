// useChat itself, in a React tree: mounted, unmounted, in StrictMode, with the page in the background.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from 'ai';
import { hideAndShow, render } from './harness/hook.mjs';
import { ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { of, runs } from './harness/server.mjs';
import { textOf, until } from './harness/tab.mjs';

const story = { model: 'demo/story', params: { tokens_per_second: 100 } };
const both = [ai7, ai7AsSuch];

/** A page with the hook on it: `chat` is what it returns, `gets` counts its resumes. */
function page(stage, { id = crypto.randomUUID(), body = story, url = stage.server.url, strict = true, ...options } = {}) {
  let rendered;
  const opened = {
    id,
    gets: [],
    posts: [],
    close: () => rendered.unmount(),
    get chat() { return rendered.current; },
    get answers() { return (rendered.current?.messages ?? []).filter(message => message.role === 'assistant'); },
    get text() { const last = this.answers.at(-1); return last ? textOf(last) : ''; },
    shows(least) { return until(() => this.text.length >= least, `${least} characters`); },
    async rests(status = 'ready') {
      // What is rendered may be older than what has happened.
      await sleep(50);
      await until(() => rendered.current?.status === status, `the status ${status}`);
    },
    mounted: () => until(() => opened.gets.length > 0, 'the resume of the mount'),
  };
  const through = stage.oracle.fetch(stage.dialect.of);
  const fetch = async (to, request) => {
    const response = await through(to, request);
    (request.method === 'POST' ? opened.posts : opened.gets).push(response.status);
    return response;
  };
  const transport = new DefaultChatTransport({ api: `${url}/v1/ai-sdk/chat${stage.dialect.query}`, fetch, body });
  rendered = render(() => useChat({ id, transport, resume: true, ...options }), { strict });
  stage.later(() => rendered.unmount());
  return opened;
}

async function agrees(stage, ...pages) {
  for (const each of pages) {
    const run = runs(await stage.server.log(each.id)).at(-1);
    assert.equal(each.answers.at(-1).id, run.id);
    assert.equal(each.text, run.text);
    const ids = each.answers.map(message => message.id);
    assert.deepEqual(ids, [...new Set(ids)]);
  }
}

play('hook', { upstream: true }, scene => {
  for (const strict of [true, false]) {
    const how = strict ? 'in StrictMode' : 'plainly';
    scene(`a new chat, ${how}`, both, async stage => {
      const tab = page(stage, { strict });
      await tab.mounted();
      assert.ok(tab.gets.every(status => status === 204) && tab.gets.length <= 2, String(tab.gets));
      await tab.chat.sendMessage({ text: 'Tell me a story' });
      await tab.rests();
      assert.equal(tab.chat.messages.length, 2);
      await agrees(stage, tab);
    });

    scene(`closed in mid-answer and opened again, ${how}`, both, async stage => {
      const tab = page(stage, { strict });
      await tab.mounted();
      void tab.chat.sendMessage({ text: 'Tell me a story' });
      await tab.shows(100);
      const messages = tab.chat.messages.slice(0, 1);
      const seen = tab.text;
      tab.close();
      const back = page(stage, { id: tab.id, strict, messages });
      await until(() => back.text.length > seen.length, 'it goes on');
      await back.rests();
      await agrees(stage, back);
      assert.ok(back.text.startsWith(seen));
      assert.equal(back.chat.messages.length, 2);
      assert.equal(runs(await stage.server.log(tab.id))[0].end.type, 'run.completed');
    });
  }

  scene('many components mount at once in mid-answer', [ai7], async stage => {
    const tab = page(stage);
    await tab.mounted();
    void tab.chat.sendMessage({ text: 'Tell me a story' });
    await tab.shows(50);
    const others = Array.from({ length: 12 }, () => page(stage, { id: tab.id }));
    await tab.rests();
    for (const other of others) await until(() => other.chat.status === 'ready' && other.text.length === tab.text.length, 'its end');
    await agrees(stage, tab, ...others);
  });

  scene('a network that breaks in the background is mended when the page is seen again', both, async stage => {
    const proxy = await stage.proxy();
    const errors = [];
    const tab = page(stage, { url: proxy.url, onError: error => errors.push(error) });
    await tab.mounted();
    void tab.chat.sendMessage({ text: 'Tell me a story' });
    await tab.shows(150);
    const seen = tab.text;
    proxy.cut();
    // All pages of this file are in one document: another scene may have shown it again already.
    await until(() => errors.length > 0, 'an error');
    hideAndShow();
    await tab.shows(seen.length + 50);
    await tab.rests();
    await agrees(stage, tab);
    assert.ok(tab.text.startsWith(seen));
    assert.equal(tab.chat.messages.length, 2);
  });

  scene('a card, a reload and a yes', both, async stage => {
    const body = { model: 'demo/tools', params: { tokens_per_second: 300 } };
    const sendAutomaticallyWhen = lastAssistantMessageIsCompleteWithApprovalResponses;
    const tab = page(stage, { body, sendAutomaticallyWhen });
    await tab.mounted();
    await tab.chat.sendMessage({ text: 'What is the weather in Lisbon?' });
    await tab.rests();
    tab.close();
    const back = page(stage, { id: tab.id, body, sendAutomaticallyWhen });
    const card = () => back.answers[0]?.parts.find(part => part.state === 'approval-requested');
    await until(card, 'the card');
    await back.rests();
    await back.chat.addToolApprovalResponse({ id: card().approval.id, approved: true });
    await until(() => back.posts.length === 1 && /In Lisbon it is/.test(back.text), 'the answer');
    await back.rests();
    await agrees(stage, back);
    assert.equal(back.answers.length, 1);
    assert.equal(back.posts.length, 1);
    assert.equal(of(await stage.server.log(tab.id), 'tool.started').length, 1);
  });

  scene('a Stop button: the stop door and the hook together', both, async stage => {
    const tab = page(stage, { body: { model: 'mock/x' } });
    await tab.mounted();
    const asked = `hold ${tab.id}`;
    void tab.chat.sendMessage({ text: asked });
    await tab.shows(20);
    const stopped = await stage.server.stopChat(tab.id, { activeStreamId: tab.answers[0].id });
    assert.equal(stopped.json.stopped, true);
    await tab.rests();
    await until(() => stage.upstream.about(asked)[0].closed, 'the model call is closed', 1_000);
    await agrees(stage, tab);
    await tab.chat.sendMessage({ text: 'go on' });
    await tab.rests();
    assert.equal(tab.text, 'You said go on.');
    assert.equal(tab.chat.messages.length, 4);
  });

  scene('a queued message that is sent at once interrupts the answer', [ai7], async stage => {
    const tab = page(stage, { body: { model: 'mock/x' }, experimental_queue: true });
    await tab.mounted();
    const asked = `hold ${tab.id}`;
    void tab.chat.sendMessage({ text: asked });
    await tab.shows(20);
    void tab.chat.sendMessage({ text: `now ${tab.id}` });
    const queued = await until(() => tab.chat.experimental_queuedMessages[0], 'it is queued');
    void tab.chat.experimental_sendQueuedMessageNow(queued.id);
    await until(() => tab.text === `You said now ${tab.id}.`, 'its answer');
    await tab.rests();
    assert.equal(stage.upstream.about(asked)[0].closed, true);
    assert.equal(tab.chat.messages.length, 4);
    await agrees(stage, tab);
  });

  scene('a message that is queued in the client is sent after the answer', [ai7], async stage => {
    const tab = page(stage, { body: { model: 'demo/echo' }, experimental_queue: true });
    await tab.mounted();
    const first = tab.chat.sendMessage({ text: 'one two three four five six' });
    await tab.shows(3);
    void tab.chat.sendMessage({ text: 'and then this' });
    await first;
    await until(() => tab.posts.length === 2 && tab.text === 'and then this', 'the second answer');
    await tab.rests();
    assert.deepEqual(tab.chat.messages.map(textOf),
      ['one two three four five six', 'one two three four five six', 'and then this', 'and then this']);
    await agrees(stage, tab);
  });
});
