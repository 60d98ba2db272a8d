// A client goes away and comes back: a reload, a second tab, a network that breaks. It is shown the whole answer, once.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ai5, ai6, ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { textOf, until } from './harness/tab.mjs';

const story = { model: 'demo/story', params: { tokens_per_second: 120 } };
const slow = { model: 'demo/story', params: { tokens_per_second: 40 } };

play('resume', { store: 'disk', concurrency: 5 }, scene => {
  for (const [what, kept] of [['nothing', 0], ['the question', 1], ['the question and half an answer', 2]]) {
    scene(`a new instance that knows ${what} has the whole answer`, async stage => {
      const tab = stage.tab({ body: story });
      const saying = tab.say(`Tell me a story (${kept})`);
      await tab.shows(200);
      const other = stage.tab({ id: tab.id, messages: structuredClone(tab.messages.slice(0, kept)) });
      await other.resume();
      await saying;
      await other.rests();
      await Promise.all([tab.agrees(), other.agrees()]);
      assert.equal(other.answer.id, tab.answer.id);
      assert.equal(other.messages.length, Math.max(kept, 1) + (kept === 1 ? 1 : 0));
    });
  }

  scene('a network that breaks in mid-answer is an error, and the same instance goes on', [ai7, ai7AsSuch, ai6], async stage => {
    const proxy = await stage.proxy();
    const tab = stage.tab({ body: story, url: proxy.url });
    const saying = tab.say('Tell me a story');
    await tab.shows(200);
    proxy.cut();
    await saying;
    await tab.rests('error');
    assert.ok(tab.finishes[0].isDisconnect, 'the SDK takes it for what it is');
    const before = tab.text;
    await tab.resume();
    await tab.rests();
    await tab.agrees();
    assert.ok(tab.text.startsWith(before) && tab.text.length > before.length);
    assert.equal(tab.messages.length, 2);
  });

  scene('what the SDK does not know for a disconnect is resumed as well', async stage => {
    const proxy = await stage.proxy();
    const tab = stage.tab({ body: slow, url: proxy.url, browser: false });
    const saying = tab.say('Tell me a story');
    for (let n = 0; n < 3; n += 1) {
      await tab.shows(200 * (n + 1));
      proxy.cut();
      await until(() => tab.status === 'error', 'an error');
      if (n === 0) await saying;
      await tab.goesOn();
    }
    await tab.rests();
    await tab.agrees();
    assert.equal(tab.messages.length, 2);
  });

  // What this version does by itself with any full replay after a disconnect that it knows: it has no reset. The whole
  // answer is there, after the half. A new instance, as a reload has it, is not concerned.
  scene('the half answer stays before the replay, in the same message', [ai5], async stage => {
    const proxy = await stage.proxy();
    const tab = stage.tab({ body: story, url: proxy.url });
    const saying = tab.say('Tell me a story');
    await tab.shows(200);
    proxy.cut();
    await saying;
    const before = tab.text;
    await tab.resume();
    await tab.rests();
    assert.equal(tab.messages.length, 2);
    const other = stage.tab({ id: tab.id });
    await other.resume();
    await other.agrees();
    assert.equal(tab.text, before + other.text);
  });

  scene('twenty instances at once have the same answer', async stage => {
    const tab = stage.tab({ body: story });
    const saying = tab.say('Tell me a story');
    await tab.shows(100);
    const others = Array.from({ length: 20 }, () => stage.tab({ id: tab.id, messages: tab.messages.slice(0, 1) }));
    await Promise.all(others.map(other => other.resume()));
    await saying;
    await tab.agrees();
    for (const other of others) {
      assert.equal(other.status, 'ready');
      assert.deepEqual(other.messages.map(textOf), tab.messages.map(textOf));
      assert.equal(other.answer.id, tab.answer.id);
    }
  });

  scene('twenty resumes of one instance leave one answer', async stage => {
    const tab = stage.tab({ body: story });
    const saying = tab.say('Tell me a story');
    await tab.shows(100);
    const other = stage.tab({ id: tab.id, messages: tab.messages.slice(0, 1) });
    await Promise.all(Array.from({ length: 20 }, () => other.resume()));
    await saying;
    await other.rests();
    await other.agrees();
    assert.equal(other.messages.length, 2);
    assert.equal(other.text, tab.text);
  });

  scene('two tabs on one chat take turns', async stage => {
    const body = { model: 'demo/echo', params: { tokens_per_second: 300 } };
    const one = stage.tab({ body });
    await one.say('from the left');
    const two = stage.tab({ id: one.id, body, messages: structuredClone(one.messages) });
    await two.say('from the right');
    await one.resume();
    await Promise.all([one.agrees(), two.agrees()]);
    assert.deepEqual(two.messages.map(textOf), ['from the left', 'from the left', 'from the right', 'from the right']);
    // The SDK has no call that tells a tab of a question that another has asked: it has the answer.
    assert.equal(one.text, 'from the right');
    assert.equal(one.answer.id, two.answer.id);
  });

  scene('two tabs that speak at the same moment are both answered for, and leave one answer at the end', async stage => {
    const body = { model: 'demo/echo', params: { tokens_per_second: 50 } };
    const one = stage.tab({ body });
    await one.say('before');
    const two = stage.tab({ id: one.id, body, messages: structuredClone(one.messages) });
    await Promise.all([one.say('said on the left side of it'), two.say('said on the right side of it')]);
    await Promise.all([one.rests(), two.rests()]);
    const said = await one.agrees();
    await two.agrees();
    assert.equal(said.length, 3);
    assert.ok(said.every(run => run.end) && said[2].end.type === 'run.completed');
    assert.deepEqual(new Set([one.answer.id, two.answer.id]), new Set([said[1].id, said[2].id]));
  });

  scene('three tabs that begin the same chat at the same moment are all answered for', async stage => {
    for (let round = 0; round < 10; round += 1) {
      const id = crypto.randomUUID();
      const tabs = [1, 2, 3].map(() => stage.tab({ id, body: { model: 'demo/echo' } }));
      await Promise.all(tabs.map((tab, n) => tab.say(`said by number ${n}`)));
      for (const tab of tabs) { await tab.rests(); await tab.agrees(); }
      const [last] = (await tabs[0].agrees()).slice(-1);
      assert.equal(last.end.type, 'run.completed');
      assert.equal(tabs.filter(tab => tab.answer.id === last.id).length, 1);
    }
  });

  scene('an unknown chat has nothing to resume', async stage => {
    stage.quiet = true;
    const tab = stage.tab();
    await tab.resume();
    assert.deepEqual(tab.requests.map(request => request.status), [204]);
    assert.equal(tab.status, 'ready');
    assert.equal(tab.messages.length, 0);
    if (stage.dialect.version === 7) assert.equal(tab.finishes.length, 0);
  });

  scene('just after the end an answer can still be had, and is not doubled', async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo' } });
    await tab.say('All of this');
    const kept = stage.tab({ id: tab.id, messages: structuredClone(tab.messages) });
    const bare = stage.tab({ id: tab.id });
    await Promise.all([kept.resume(), bare.resume(), tab.resume()]);
    for (const each of [tab, kept, bare]) {
      await each.agrees();
      assert.equal(each.status, 'ready');
      assert.deepEqual(each.answers.map(textOf), ['All of this']);
      assert.equal(each.answer.id, tab.answer.id);
    }
  });

  scene('a minute after the end there is nothing to resume', [ai7, ai6, ai5], async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo' } });
    await tab.say('All of this');
    await sleep(62_000);
    const other = stage.tab({ id: tab.id, messages: structuredClone(tab.messages) });
    await other.resume();
    assert.deepEqual(other.requests.map(request => request.status), [204]);
    assert.equal(other.status, 'ready');
    await other.agrees();
  });

  scene('who leaves stops nothing', async stage => {
    const tab = stage.tab({ body: story });
    void tab.say('Tell me a story');
    await tab.shows(100);
    await tab.chat.stop();
    const seen = tab.text;
    assert.equal(tab.status, 'ready');
    const other = stage.tab({ id: tab.id, messages: tab.messages.slice(0, 1) });
    await other.resume();
    const [run] = await other.agrees();
    assert.equal(run.end.type, 'run.completed');
    assert.ok(other.text.startsWith(seen) && other.text.length > seen.length + 200);
  });
});
