// The history belongs to the client only as far as it goes back: what it leaves out leaves the model's context, and what
// it changes in an answer does not change what was said. All of that is in the log, as events of its own.
import assert from 'node:assert/strict';
import { play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { textOf, user } from './harness/tab.mjs';

const body = { model: 'mock/x' };
const history = events => events.filter(event => event.type.startsWith('history.')).map(event => event.type);
const unique = what => `${what} ${crypto.randomUUID().slice(0, 8)}`;

/** A tab that has said these things, and what the model is told when the newest of them is asked. */
async function talked(stage, ...words) {
  const tab = stage.tab({ body });
  for (const word of words) await tab.say(word);
  await tab.agrees();
  return { tab, told: word => stage.upstream.told(stage.upstream.about(word).at(-1)) };
}
const said = word => [`user: ${word}`, `assistant: You said ${word}.`];

play('turns', { upstream: true }, scene => {
  scene('an answer is given again', async stage => {
    const one = unique('one');
    const { tab, told } = await talked(stage, one);
    const old = tab.answer.id;
    await tab.chat.regenerate();
    await tab.rests();
    assert.deepEqual(told(one), [`user: ${one}`], 'the old answer is not in the context');
    assert.notEqual(tab.answer.id, old);
    assert.equal(tab.messages.length, 2);
    const runs = await tab.agrees();
    assert.deepEqual(runs.map(run => run.trigger), ['send', 'regenerate']);
    assert.equal(tab.answer.id, runs[1].id);
    assert.equal(of(await tab.log(), 'input.added').length, 1, 'the question is not asked twice');
  });

  scene('an earlier answer is given again, and what came after it is gone', async stage => {
    const [one, two] = [unique('one'), unique('two')];
    const { tab, told } = await talked(stage, one, two);
    await tab.chat.regenerate({ messageId: tab.answers[0].id });
    assert.deepEqual(told(one), [`user: ${one}`]);
    assert.equal(tab.messages.length, 2);
    await tab.agrees();
    const three = unique('three');
    await tab.say(three);
    assert.deepEqual(told(three), [...said(one), `user: ${three}`]);
  });

  scene('a question is asked anew in its place', async stage => {
    const [one, two, other] = [unique('one'), unique('two'), unique('other')];
    const { tab, told } = await talked(stage, one, two);
    const id = tab.messages[0].id;
    await tab.chat.sendMessage({ text: `${other}, edited`, messageId: id });
    assert.deepEqual(told(`${other}, edited`), [`user: ${other}, edited`]);
    assert.deepEqual(tab.messages.map(textOf), [`${other}, edited`, `You said ${other}, edited.`]);
    assert.equal(tab.messages[0].id, id);
    await tab.agrees();
    assert.ok(history(await tab.log()).includes('history.rewound'));
    // And the chat goes on from there.
    const next = unique('next');
    await tab.say(next);
    assert.deepEqual(told(next), [...said(`${other}, edited`), `user: ${next}`]);
  });

  scene('the last of several questions is asked anew', async stage => {
    const [one, two, other] = [unique('one'), unique('two'), unique('other')];
    const { tab, told } = await talked(stage, one, two);
    await tab.chat.sendMessage({ text: other, messageId: tab.messages[2].id });
    assert.deepEqual(told(other), [...said(one), `user: ${other}`]);
    assert.equal(tab.messages.length, 4);
    await tab.agrees();
  });

  scene('the same question with its id is asked anew, too', async stage => {
    const one = unique('one');
    const { tab, told } = await talked(stage, one);
    const old = tab.answer.id;
    await tab.chat.sendMessage({ text: one, messageId: tab.messages[0].id });
    assert.deepEqual(told(one), [`user: ${one}`]);
    assert.notEqual(tab.answer.id, old);
    assert.equal((await tab.agrees()).length, 2);
  });

  scene('what the client leaves out at the end leaves the context', async stage => {
    const [one, two, three] = [unique('one'), unique('two'), unique('three')];
    const { tab, told } = await talked(stage, one, two);
    tab.chat.messages = tab.messages.slice(0, 2);
    await tab.say(three);
    assert.deepEqual(told(three), [...said(one), `user: ${three}`]);
    assert.deepEqual(history(await tab.log()), ['history.rewound']);
    await tab.agrees();
  });

  scene('a changed answer changes nothing for the model', async stage => {
    const [one, two] = [unique('one'), unique('two')];
    const { tab, told } = await talked(stage, one);
    const parts = [{ type: 'step-start' }, { type: 'text', text: 'I never said that.', state: 'done' }];
    tab.chat.messages = tab.messages.map(message => (message.role === 'assistant' ? { ...message, parts } : message));
    await tab.say(two);
    assert.deepEqual(told(two), [...said(one), `user: ${two}`]);
    assert.deepEqual(history(await tab.log()), ['history.diverged']);
  });

  scene('a chat that began elsewhere brings its history along', async stage => {
    const [before, now] = [unique('before'), unique('now')];
    const answer = { id: crypto.randomUUID(), role: 'assistant', parts: [{ type: 'text', text: 'Elsewhere.' }] };
    const messages = [user(before), answer];
    const tab = stage.tab({ body, messages });
    await tab.say(now);
    const told = stage.upstream.told(stage.upstream.about(now)[0]);
    assert.deepEqual(told, [`user: ${before}`, 'assistant: Elsewhere.', `user: ${now}`]);
    assert.equal(tab.messages.length, 4);
    const next = unique('next');
    await tab.say(next);
    assert.equal(stage.upstream.told(stage.upstream.about(next)[0]).length, 5, 'and only once');
  });

  scene('what a chat is created with counts for all of its turns', async stage => {
    const extras = { system: 'You are a mate.', params: { max_tokens: 77 }, metadata: { who: 'me' }, other: 1 };
    const tab = stage.tab({ body: { ...body, ...extras } });
    for (const word of [unique('one'), unique('two')]) {
      await tab.say(word);
      const [request] = stage.upstream.about(word);
      assert.equal(stage.upstream.told(request)[0], 'system: You are a mate.');
      assert.equal(request.max_tokens ?? request.max_completion_tokens, 77);
    }
    assert.deepEqual((await tab.log())[0].metadata, { who: 'me' });
  });

  scene('a chat whose session was deleted begins anew, with what the client knows', async stage => {
    const [one, two] = [unique('one'), unique('two')];
    const { tab, told } = await talked(stage, one);
    assert.equal((await fetch(`${stage.server.url}/v1/sessions/${tab.id}`, { method: 'DELETE' })).ok, true);
    const other = stage.tab({ id: tab.id });
    await other.resume();
    assert.equal(other.requests[0].status, 204);
    await tab.say(two);
    await tab.rests();
    assert.deepEqual(told(two), [...said(one), `user: ${two}`]);
    assert.equal(tab.messages.length, 4);
  });

  scene('an application with message ids of its own does not double the context', async stage => {
    const [one, two, three] = [unique('one'), unique('two'), unique('three')];
    const { tab } = await talked(stage, one, two);
    const messages = tab.messages.map(message => ({ ...message, id: crypto.randomUUID() }));
    const other = stage.tab({ id: tab.id, body, messages });
    await other.say(three);
    assert.deepEqual(stage.upstream.told(stage.upstream.about(three)[0]), [...said(one), ...said(two), `user: ${three}`]);
  });

  scene('an application that sends only the end of its history keeps the whole context', async stage => {
    for (const kept of [0, 1, 2]) {
      const [one, two, three] = [unique('one'), unique('two'), unique('three')];
      const { tab, told } = await talked(stage, one, two);
      const other = stage.tab({ id: tab.id, body, messages: tab.messages.slice(tab.messages.length - kept) });
      await other.say(three);
      assert.deepEqual(told(three), [...said(one), ...said(two), `user: ${three}`], `the last ${kept}`);
    }
  });

  scene('instructions in the history and a question of several parts are told as they are', async stage => {
    const instructions = { id: crypto.randomUUID(), role: 'system', parts: [{ type: 'text', text: 'Be brief.' }] };
    const tab = stage.tab({ body, messages: [instructions] });
    const [one, two] = [unique('one'), unique('two')];
    await tab.chat.sendMessage({ parts: [{ type: 'text', text: 'part' }, { type: 'text', text: one }] });
    await tab.say(two);
    const [first, second, ...rest] = stage.upstream.told(stage.upstream.about(two)[0]);
    assert.equal(first, 'system: Be brief.');
    assert.match(second, new RegExp(`^user: part\\s+${one}$`));
    assert.deepEqual(rest, [`assistant: You said ${one}.`, `user: ${two}`]);
    assert.deepEqual(history(await tab.log()), []);
  });

  scene('a long chat is told to the model as it was', async stage => {
    const words = Array.from({ length: 6 }, (_, n) => unique(`word${n}`));
    const { told } = await talked(stage, ...words);
    const last = words.at(-1);
    assert.deepEqual(told(last), [...words.slice(0, -1).flatMap(said), `user: ${last}`]);
  });
});
