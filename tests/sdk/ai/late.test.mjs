// A client that gives a request up may have sent it already: it can be handled after the next one, which knows of it.
// Then it is late, and changes nothing.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ai7, play } from './harness/stage.mjs';
import { of, runs } from './harness/server.mjs';
import { until, user } from './harness/tab.mjs';

const unique = what => `${what} ${crypto.randomUUID().slice(0, 8)}`;

/** The newer request is answered without end while the late one comes. */
async function overtaken(stage, newer, late) {
  const id = crypto.randomUUID();
  const send = body => stage.oracle.fetch(ai7.of)(stage.server.chat(), { method: 'POST',
    body: JSON.stringify({ id, model: 'mock/x', trigger: 'submit-message', ...body }) }).then(answer => answer.text());
  const asked = newer.messages.at(-1).parts[0].text;
  const answers = [send(newer)];
  await until(() => stage.upstream.about(asked).length > 0, 'the newer one is asked');
  await until(async () => runs(await stage.server.log(id))[0]?.text, 'its first words');
  answers.push(send(late));
  await sleep(500);
  const events = await stage.server.log(id);
  assert.equal(stage.upstream.about(asked)[0].closed, false, 'the newer answer goes on');
  assert.deepEqual(of(events, 'history.rewound'), []);
  assert.equal(runs(events).length, 1);
  await stage.server.stopChat(id);
  await Promise.all(answers);
  return stage.server.log(id);
}

play('late', { upstream: true }, scene => {
  scene('a given-up question that comes after the next one does not win', [ai7], async stage => {
    const [one, two] = [user(unique('one')), user(unique('hold'))];
    const events = await overtaken(stage, { messages: [one, two] }, { messages: [one] });
    assert.deepEqual(of(events, 'input.added').map(event => event.message_id), [one.id, two.id]);
  });

  scene('a given-up question that comes after its edit does not undo it', [ai7], async stage => {
    const edited = user(unique('hold'));
    const events = await overtaken(stage, { messages: [edited], messageId: edited.id },
      { messages: [user(unique('the old words'), edited.id)] });
    assert.equal(of(events, 'input.added').length, 1);
  });

  scene('the same request twice is one question', [ai7], async stage => {
    const one = user(unique('hold'));
    const events = await overtaken(stage, { messages: [one] }, { messages: [one] });
    assert.equal(of(events, 'input.added').length, 1);
  });

  scene('a regeneration that comes twice gives one answer', [ai7], async stage => {
    const tab = stage.tab({ body: { model: 'demo/story', params: { tokens_per_second: 100 } } });
    await tab.say('Tell me a story');
    // A double click: the second takes the place of the first, and the chat shows one answer.
    const other = stage.tab({ id: tab.id, messages: structuredClone(tab.messages) });
    await Promise.all([tab.chat.regenerate(), other.chat.regenerate()]);
    await tab.rests();
    const said = runs(await tab.log());
    assert.ok(said.length === 2 || said.length === 3, String(said.length));
    assert.equal(said.at(-1).end.type, 'run.completed');
    await tab.agrees();
  });
});
