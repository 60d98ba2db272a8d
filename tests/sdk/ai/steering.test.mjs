// A steer in mid-answer comes by the native door and shows in the same message, as a part of its own.
import assert from 'node:assert/strict';
import { ai7, play } from './harness/stage.mjs';
import { of } from './harness/server.mjs';
import { partsOf, textOf } from './harness/tab.mjs';

const story = { model: 'demo/story', params: { tokens_per_second: 80 } };
const words = 'with a whale in it';

/** A tab whose story is steered when its beginning is shown, at its end. */
async function steered(stage, options = {}, ...contents) {
  const tab = stage.tab({ body: story, ...options });
  const saying = tab.say('Tell me a story');
  for (const [n, content] of contents.entries()) {
    await tab.shows(150 * (n + 1));
    const receipt = await stage.server.control(tab.id, { type: 'steer', content });
    assert.equal(receipt.status, 200, receipt.text);
  }
  await saying;
  await tab.rests();
  return tab;
}

play('steering', {}, scene => {
  scene('a steer is a data part where it was taken in', async stage => {
    const tab = await steered(stage, {}, words);
    const [run] = await tab.agrees();
    assert.equal(run.end.type, 'run.completed');
    const [part, ...others] = partsOf(tab.answer, 'data-steering');
    assert.equal(others.length, 0);
    const input = of(await tab.log(), 'input.added')[1];
    assert.deepEqual(part.data, { message_id: input.message_id, content: words });
    assert.equal(part.id, input.message_id);
    assert.match(tab.text, new RegExp(words), 'the story takes it up');
    const at = tab.answer.parts.indexOf(part);
    const before = tab.answer.parts.slice(0, at).filter(each => each.type === 'text').map(each => each.text).join('');
    assert.doesNotMatch(before, new RegExp(words), 'and not before it was said');
    assert.equal(tab.messages.length, 2);
  });

  scene('two steers are two parts, and a reload sees the same', async stage => {
    const tab = await steered(stage, {}, words, 'and shorter');
    await tab.agrees();
    assert.deepEqual(partsOf(tab.answer, 'data-steering').map(part => part.data.content), [words, 'and shorter']);
    const other = stage.tab({ id: tab.id });
    await other.resume();
    await other.agrees();
    assert.deepEqual(other.answer.parts, tab.answer.parts);
  });

  scene('a second tab that watches sees it at once', async stage => {
    const tab = stage.tab({ body: story });
    const saying = tab.say('Tell me a story');
    await tab.shows(100);
    const other = stage.tab({ id: tab.id });
    const resuming = other.resume();
    await other.shows(100);
    await stage.server.control(tab.id, { type: 'steer', content: words });
    await Promise.all([saying, resuming]);
    await Promise.all([tab.agrees(), other.agrees()]);
    assert.deepEqual(other.answer.parts, tab.answer.parts);
  });

  scene('the next turn does not quarrel about it', async stage => {
    const tab = await steered(stage, {}, words);
    await tab.say('Thank you');
    await tab.rests();
    assert.equal((await tab.agrees()).length, 2);
    assert.deepEqual((await tab.log()).filter(event => event.type.startsWith('history.')), []);
  });

  scene('steering=message makes it a steering message', [ai7], async stage => {
    const tab = await steered(stage, { query: '?ai=7&steering=message', of: [7] }, words);
    await tab.agrees();
    const input = of(await tab.log(), 'input.added')[1];
    assert.deepEqual(partsOf(tab.answer, 'steering-message'),
      [{ type: 'steering-message', id: input.message_id, parts: [{ type: 'text', text: words }] }]);
    assert.equal(partsOf(tab.answer, 'data-steering').length, 0);
    const types = stage.oracle.chunks.map(chunk => chunk.type).filter(type => ['steering-message', 'start-step'].includes(type));
    assert.deepEqual(types, ['start-step', 'steering-message', 'start-step'], 'it comes before the step that has received it');
    assert.ok(textOf(tab.answer).includes(words));
    await tab.say('Thank you');
    await tab.rests();
    await tab.agrees();
    assert.deepEqual((await tab.log()).filter(event => event.type.startsWith('history.')), []);
  });
});
