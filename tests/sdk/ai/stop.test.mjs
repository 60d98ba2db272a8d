// Stop stops: by the door, whatever the client does next. A stop that only the client knows of stops nothing, and the
// next message wins over what still runs.
import assert from 'node:assert/strict';
import { ai7, play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { until } from './harness/tab.mjs';

const body = { model: 'mock/x' };
const unique = () => crypto.randomUUID().slice(0, 8);

/** A tab in the middle of an answer that does not end by itself, and the model's side of it. */
async function midway(stage, word = 'hold') {
  const tab = stage.tab({ body });
  const asked = `${word} ${unique()}`;
  const saying = tab.say(asked);
  if (word === 'wait') await until(() => stage.upstream.about(asked).length > 0, 'a request to the model');
  else await tab.shows(20);
  const [request] = stage.upstream.about(asked);
  assert.equal(request.closed, false);
  return { tab, saying, request, asked };
}

const closed = request => until(() => request.closed, 'the model call is closed', 1_000);

play('stop', { upstream: true }, scene => {
  for (const word of ['hold', 'slow', 'wait']) {
    scene(`the door closes the model call and ends the answer (${word})`, async stage => {
      const { tab, saying, request } = await midway(stage, word);
      const answer = await stage.server.stopChat(tab.id);
      assert.equal(answer.status, 200);
      assert.deepEqual(Object.keys(answer.json).sort(), ['run_id', 'stopped']);
      assert.equal(answer.json.stopped, true);
      await closed(request);
      await saying;
      await tab.rests();
      const [run] = await tab.agrees();
      assert.equal(run.end.type, 'run.cancelled');
      assert.equal(answer.json.run_id, run.id);
      assert.equal(tab.text.length > 0, word !== 'wait');
      assert.equal(tab.finishes.length, 1);
      const types = stage.oracle.chunks.map(chunk => chunk.type).filter(type => !type.startsWith('data-'));
      assert.deepEqual(types.slice(-3), ['finish-step', 'abort', 'finish']);
      assert.equal(stage.oracle.chunks.at(-1).finishReason, 'other');
      const again = await stage.server.stopChat(tab.id);
      assert.deepEqual([again.status, again.json], [200, { stopped: false, run_id: null }]);
    });
  }

  scene('a stop may name the answer that it means', async stage => {
    const { tab, saying, request } = await midway(stage);
    const older = await stage.server.stopChat(tab.id, { activeStreamId: 'run_zzzzzz_1' });
    assert.deepEqual([older.status, older.json.stopped], [200, false]);
    assert.equal(request.closed, false);
    const assistantMessage = structuredClone(tab.answer);
    const byMessage = await stage.server.stopChat(tab.id, { activeStreamId: tab.answer.id, assistantMessage });
    assert.equal(byMessage.json.stopped, true);
    await Promise.all([saying, closed(request)]);
    const next = tab.say(`hold ${unique()}`);
    await until(() => tab.posts.length === 2 && tab.posts[1].headers && tab.status === 'streaming', 'the next answer');
    const stale = await stage.server.stopChat(tab.id, { activeStreamId: tab.posts[0].headers.get('x-workflow-run-id') });
    assert.equal(stale.json.stopped, false, 'it names the turn before');
    const byRun = await stage.server.stopChat(tab.id, { activeStreamId: tab.posts[1].headers.get('x-workflow-run-id') });
    assert.equal(byRun.json.stopped, true);
    await next;
    await tab.agrees();
  });

  scene('nothing to stop is no error', [ai7], async stage => {
    stage.quiet = true;
    for (const id of [crypto.randomUUID(), 'any / id']) {
      const answer = await stage.server.stopChat(id);
      assert.deepEqual([answer.status, answer.json], [200, { stopped: false, run_id: null }]);
    }
  });

  scene('every tab sees the end', async stage => {
    const { tab, saying } = await midway(stage);
    const others = [1, 2, 3].map(() => stage.tab({ id: tab.id, messages: tab.messages.slice(0, 1) }));
    const resuming = others.map(other => other.resume());
    for (const other of others) await other.shows(20);
    await stage.server.stopChat(tab.id);
    await Promise.all([saying, ...resuming]);
    for (const each of [tab, ...others]) { await each.rests(); await each.agrees(); }
  });

  scene('after a stop that only the client knows of, the next message wins', async stage => {
    const { tab, saying, request, asked } = await midway(stage);
    await tab.chat.stop();
    await saying;
    assert.equal(tab.status, 'ready');
    assert.equal(request.closed, false, 'the server goes on');
    const first = tab.answer.id;
    const next = `next ${unique()}`;
    await tab.say(next);
    await tab.rests();
    await closed(request);
    const [old, won] = await tab.agrees({ partial: [first] });
    assert.deepEqual([old.end.type, won.end.type], ['run.cancelled', 'run.completed']);
    assert.equal(tab.text, `You said ${next}.`);
    assert.deepEqual(stage.upstream.about(next)[0].messages.map(({ role, content }) => [role, content.trim()]),
      [['user', asked], ['assistant', old.text.trim()], ['user', next]]);
    assert.equal(tab.messages.length, 4);
  });

  scene('it wins as well when nothing of the old answer had come', async stage => {
    const { tab, saying, request } = await midway(stage, 'wait');
    await tab.chat.stop();
    await saying;
    const next = `next ${unique()}`;
    await tab.say(next);
    await tab.rests();
    await closed(request);
    assert.equal(tab.text, `You said ${next}.`);
    assert.equal(of(await tab.log(), 'run.cancelled').length, 1);
  });

  scene('an answer that was stopped before its first word leaves no quarrel about the history', async stage => {
    const { tab, saying } = await midway(stage, 'wait');
    await stage.server.stopChat(tab.id);
    await saying;
    await tab.say(`next ${unique()}`);
    await tab.say(`next ${unique()}`);
    await tab.agrees();
    assert.deepEqual((await tab.log()).filter(event => event.type.startsWith('history.')), []);
  });

  scene('after a stop by the door the next turn is a usual one', async stage => {
    const { tab, saying, asked } = await midway(stage);
    await Promise.all([stage.server.stopChat(tab.id), tab.chat.stop()]);
    await saying;
    const first = tab.answer.id;
    const next = `next ${unique()}`;
    await tab.say(next);
    const said = await tab.agrees({ partial: [first] });
    assert.equal(tab.text, `You said ${next}.`);
    assert.deepEqual(stage.upstream.about(next)[0].messages.map(({ content }) => content.trim()),
      [asked, said[0].text.trim(), next]);
  });

  scene('a chat may ask to be stopped when nobody reads it any more', [ai7], async stage => {
    const tab = stage.tab({ body: { ...body, on_disconnect: { cancel_after_s: 1 } } });
    const asked = `hold ${unique()}`;
    const saying = tab.say(asked);
    await tab.shows(20);
    await tab.chat.stop();
    await saying;
    await until(() => stage.upstream.about(asked)[0].closed, 'the model call is closed', 5_000);
    assert.equal(of(await tab.log(), 'run.cancelled').length, 1);
  });

  scene('a regeneration wins as well', async stage => {
    const { tab, saying, request } = await midway(stage);
    await tab.chat.stop();
    await saying;
    const regenerating = tab.chat.regenerate();
    await closed(request);
    await tab.shows(20);
    await stage.server.stopChat(tab.id);
    await regenerating;
    await tab.rests();
    const said = await tab.agrees();
    assert.deepEqual(said.map(run => run.end.type), ['run.cancelled', 'run.cancelled']);
    assert.equal(tab.messages.length, 2);
    assert.equal(tab.answer.id, said[1].id);
  });
});
