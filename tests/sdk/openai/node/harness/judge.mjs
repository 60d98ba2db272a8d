// The judge of a Responses stream: that its events come in the order that the API promises and agree with each other.
// The types are judged by the Python tests, whose SDK has them at run time.
import assert from 'node:assert/strict';

export const terminal = ['response.completed', 'response.incomplete', 'response.failed'];

export class Fold {
  next = 0;
  items = [];
  text = '';
  #open = new Map();

  push(event) {
    assert.ok(!this.end, `${event.type} after the end`);
    assert.equal(event.sequence_number, this.next);
    this.next += 1;
    const step = this[event.type];
    assert.ok(step, `an event that nobody knows: ${event.type}`);
    step.call(this, event);
    return this;
  }

  #response({ response, type }, ...status) {
    if (this.next === 1) this.id = response.id;
    assert.equal(this.id, response.id, 'another response in the same stream');
    assert.equal(response.object, 'response');
    assert.ok(status.includes(response.status), `${type} with ${response.status}`);
  }

  #item({ output_index, item_id }) {
    assert.ok(this.#open.has(output_index), 'the item is not open');
    assert.equal(this.items[output_index].id, item_id);
    return this.#open.get(output_index);
  }

  #over({ response }) {
    assert.equal(this.#open.size, 0, 'an item is open at the end');
    this.end = response;
    assert.deepEqual(response.output, this.items, 'what was told is what is kept');
  }

  'response.created'(event) { assert.equal(this.next, 1); this.#response(event, 'queued', 'in_progress'); }
  'response.in_progress'(event) { assert.equal(this.next, 2); this.#response(event, 'in_progress'); }
  'response.completed'(event) { this.#response(event, 'completed'); this.#over(event); }
  'response.incomplete'(event) { this.#response(event, 'incomplete', 'cancelled'); this.#over(event); }
  'response.failed'(event) { this.#response(event, 'failed'); this.#over(event); }

  'response.output_item.added'({ output_index, item }) {
    assert.equal(output_index, this.items.length, 'output indexes have no gaps');
    assert.ok(!this.items.some(({ id }) => id === item.id), 'an id is used once');
    this.items.push(item);
    this.#open.set(output_index, { parts: [], arguments: '', done: [] });
  }

  'response.output_item.done'({ output_index, item }) {
    const said = this.#open.get(output_index);
    const begun = this.items[output_index];
    assert.deepEqual([begun.id, begun.type], [item.id, item.type]);
    if (['message', 'reasoning'].includes(item.type)) {
      assert.deepEqual(item.content.map(({ text }) => text), said.parts);
      assert.deepEqual(said.done, said.parts.flatMap((_, n) => [`text ${n}`, `part ${n}`]));
    }
    if (['function_call', 'mcp_call'].includes(item.type)) {
      assert.equal(item.arguments, said.arguments);
      // A call that was cut has no end of its arguments.
      if (item.status !== 'incomplete') assert.deepEqual(said.done, ['arguments']);
    }
    this.items[output_index] = item;
    this.#open.delete(output_index);
  }

  'response.content_part.added'(event) {
    const { parts } = this.#item(event);
    assert.equal(event.content_index, parts.length);
    parts.push(event.part.text);
  }
  'response.content_part.done'(event) { this.#done(event, event.part.text, `part ${event.content_index}`); }
  #done(event, text, what) {
    const item = this.#item(event);
    assert.equal(text, item.parts[event.content_index]);
    item.done.push(what);
  }
  'response.output_text.delta'(event) { this.#delta(event); this.text += event.delta; }
  'response.reasoning_text.delta'(event) { this.#delta(event); }
  #delta(event) { this.#item(event).parts[event.content_index] += event.delta; }
  'response.output_text.done'(event) { this.#done(event, event.text, `text ${event.content_index}`); }
  'response.reasoning_text.done'(event) { this['response.output_text.done'](event); }
  'response.function_call_arguments.delta'(event) { this.#item(event).arguments += event.delta; }
  'response.function_call_arguments.done'(event) {
    const item = this.#item(event);
    assert.equal(event.arguments, item.arguments);
    item.done.push('arguments');
  }
  'response.mcp_call_arguments.delta'(event) { this.#item(event).arguments += event.delta; }
  'response.mcp_call_arguments.done'(event) { this['response.function_call_arguments.done'](event); }
  'response.mcp_call.in_progress'(event) { this.#item(event); }
  'response.mcp_call.completed'(event) { this.#item(event); }
  'response.mcp_call.failed'(event) { this.#item(event); }
}

/** The events of one response from its first to its last. */
export async function judged(events) {
  const fold = new Fold();
  for await (const event of events) fold.push(event);
  assert.ok(fold.end, 'it has no end');
  return fold;
}

/** The chunks of one whole chat completion. */
export async function told(chunks, { usage = false } = {}) {
  const told = { text: '', reasoning: '', calls: [], finish: null, usage: null };
  for await (const chunk of chunks) {
    told.id ??= chunk.id;
    assert.deepEqual([chunk.id, chunk.object], [told.id, 'chat.completion.chunk']);
    assert.equal('usage' in chunk && chunk.usage !== null, usage && chunk.choices.length === 0);
    if (chunk.choices.length === 0) { told.usage = chunk.usage; continue; }
    assert.equal(told.finish, null, 'a chunk after the finish');
    const [{ delta, finish_reason }] = chunk.choices;
    told.text += delta.content ?? '';
    told.reasoning += delta.reasoning_content ?? '';
    for (const { index, id, function: { name, arguments: part } } of delta.tool_calls ?? []) {
      if (index === told.calls.length) told.calls.push({ id, name, arguments: '' });
      told.calls[index].arguments += part ?? '';
    }
    told.finish = finish_reason;
  }
  assert.ok(told.finish, 'it has no end');
  return told;
}
