// Responses: whole, streamed, through the helper, chained, with tools and approvals.
import assert from 'node:assert/strict';
import { z } from 'zod';
import { judged } from './harness/judge.mjs';
import { play, sdk, wire, zodTextFormat } from './harness/stage.mjs';
import { of } from '../../ai/harness/server.mjs';
import { few, tricky, words } from './harness/upstream.mjs';

const create = ({ client }, input, more) => client.responses.create({ model: 'mock/x', input, ...more });
const parameters = { type: 'object', properties: {}, additionalProperties: true };
const tools = ['lookup', 'get_weather'].map(name => (
  { type: 'function', name, description: 'A test\'s own.', parameters, strict: false }));
const outputs = ({ output }, value = 'x') => output.filter(({ type }) => type === 'function_call')
  .map(({ call_id }) => ({ type: 'function_call_output', call_id, output: value }));
const told = (stage, said) => stage.upstream.about(said)[0].messages.map(({ content }) => content);

play('responses', {}, scene => {
  scene('a whole response', async stage => {
    const response = await create(stage, `hello ${stage.name}`);
    assert.equal(response.output_text, `You said hello ${stage.name}.`);
    assert.equal(response.status, 'completed');
    assert.equal(response.usage.total_tokens, 11 + response.usage.output_tokens);
    assert.deepEqual(wire(await stage.client.responses.retrieve(response.id)), wire(response));
  });

  scene('a stream', async stage => {
    const fold = await judged(await create(stage, `fast 30 ${stage.name}`, { stream: true }));
    assert.equal(fold.text, `${words(30)}to the end of ${stage.name}.`);
    assert.deepEqual(wire(await stage.client.responses.retrieve(fold.id)), wire(fold.end));
  });

  scene('the helper', async stage => {
    const stream = stage.client.responses.stream({ model: 'mock/x', input: `think ${stage.name}` });
    let text = '';
    stream.on('response.output_text.delta', ({ delta, snapshot }) => { text += delta; assert.equal(snapshot, text); });
    const final = await stream.finalResponse();
    assert.equal(final.output_text, `I have thought about ${stage.name}.`);
    assert.equal(text, final.output_text);
    assert.deepEqual(final.output.map(({ type }) => type), ['reasoning', 'message']);
  });

  scene('every character comes through', async stage => {
    assert.equal((await judged(await create(stage, 'tricky', { stream: true }))).text, tricky);
    assert.equal((await create(stage, 'tricky')).output_text, tricky);
  });

  scene('what is structured is parsed', async stage => {
    const City = z.object({ name: z.string(), people: z.number() });
    const body = { model: 'mock/x', input: 'verbatim {"name":"Oslo","people":717710}', text: { format: zodTextFormat(City, 'city') } };
    assert.deepEqual((await stage.client.responses.parse(body)).output_parsed, { name: 'Oslo', people: 717710 });
    const final = await stage.client.responses.stream(body).finalResponse();
    assert.deepEqual(final.output_parsed, { name: 'Oslo', people: 717710 });
  });

  scene('an answer that was cut is incomplete', async stage => {
    for (const [verb, reason] of [['length', 'max_output_tokens'], ['filter', 'content_filter']]) {
      const final = await stage.client.responses.stream({ model: 'mock/x', input: `${verb} ${stage.name}` }).finalResponse();
      assert.deepEqual([final.status, final.incomplete_details.reason, final.output_text], ['incomplete', reason, few]);
    }
  });

  scene('headers name the request and the session', async stage => {
    const { data, response, request_id } = await create(stage, `hello ${stage.name}`).withResponse();
    assert.equal(request_id, response.headers.get('x-request-id'));
    assert.equal(data._request_id, request_id);
    assert.equal(data.conversation.id, response.headers.get('steerage-session'));
  });

  scene('a chain and its branches', async stage => {
    const root = await create(stage, `root ${stage.name}`);
    const left = await create(stage, `left ${stage.name}`, { previous_response_id: root.id });
    await create(stage, `right ${stage.name}`, { previous_response_id: root.id });
    await create(stage, `leftmost ${stage.name}`, { previous_response_id: left.id });
    const { name } = stage;
    const beginning = [`root ${name}`, `You said root ${name}.`];
    assert.deepEqual(told(stage, `leftmost ${name}`), [...beginning, `left ${name}`, `You said left ${name}.`, `leftmost ${name}`]);
    assert.deepEqual(told(stage, `right ${name}`), [...beginning, `right ${name}`]);
  });

  scene('our items are input, as the SDK has them', async stage => {
    const input = [{ role: 'user', content: `think ${stage.name}` }];
    for (const word of ['second', 'third']) {
      const response = await create(stage, input);
      input.push(...response.output, { role: 'user', content: `${word} ${stage.name}` });
    }
    await create(stage, input);
    assert.deepEqual(stage.upstream.about(`third ${stage.name}`)[0].roles, ['user', 'assistant', 'user', 'assistant', 'user']);
  });

  scene('input items are listed, a response is deleted', async stage => {
    const root = await create(stage, `root ${stage.name}`);
    const { id } = await create(stage, `second ${stage.name}`, { previous_response_id: root.id });
    const items = [];
    for await (const item of stage.client.responses.inputItems.list(id, { order: 'asc', limit: 2 })) items.push(item);
    assert.deepEqual(items.map(({ role }) => role), ['user', 'assistant', 'user']);
    await stage.client.responses.delete(id);
    await assert.rejects(stage.client.responses.retrieve(id), sdk.NotFoundError);
    assert.equal((await stage.client.responses.retrieve(root.id)).id, root.id);
  });

  for (const chained of [true, false]) {
    scene(`two tools at once, ${chained ? 'chained' : 'with the whole history'}`, async stage => {
      const input = [{ role: 'user', content: `both ${stage.name}` }];
      const first = await create(stage, input, { tools });
      assert.deepEqual(first.output.map(({ name }) => name), ['lookup', 'get_weather']);
      const more = chained
        ? { input: outputs(first), previous_response_id: first.id } : { input: [...input, ...first.output, ...outputs(first)] };
      const second = await create(stage, more.input, { tools, ...more });
      assert.equal(second.output_text, 'The tools gave x and x.');
      assert.deepEqual(stage.upstream.about(stage.name)[1].roles, ['user', 'assistant', 'tool', 'tool']);
    });
  }

  scene('tools through the helper', async stage => {
    const body = { model: 'mock/x', input: `both ${stage.name}`, tools };
    const stream = stage.client.responses.stream(body);
    const deltas = [];
    stream.on('response.function_call_arguments.delta', ({ snapshot }) => deltas.push(snapshot));
    const first = await stream.finalResponse();
    assert.equal(deltas.at(-1), '{"city":"Oslo"}');
    const second = stage.client.responses.stream({ ...body, input: outputs(first), previous_response_id: first.id });
    assert.equal((await second.finalResponse()).output_text, 'The tools gave x and x.');
  });

  const pace = { tokens_per_second: 300 };
  const question = 'What is the weather in Lisbon?';
  const asked = async (stage, more) => {
    const response = await create(stage, question, { model: 'demo/tools', ...pace, ...more });
    const [request] = response.output.filter(({ type }) => type === 'mcp_approval_request');
    assert.deepEqual([request.name, request.arguments, request.server_label], ['get_weather', '{"city":"Lisbon"}', 'steerage']);
    return { response, request };
  };
  const decide = (stage, { response, request }, approve, more = {}) => create(
    stage, [{ type: 'mcp_approval_response', approval_request_id: request.id, approve, ...more }],
    { model: 'demo/tools', previous_response_id: response.id });

  scene('an approval is given', async stage => {
    const waiting = await asked(stage);
    const decided = await decide(stage, waiting, true);
    const [call] = decided.output.filter(({ type }) => type === 'mcp_call');
    assert.equal(call.approval_request_id, waiting.request.id);
    assert.match(decided.output_text, /In Lisbon it is/);
    assert.deepEqual(wire(await decide(stage, waiting, true)), wire(decided), 'the same again is the same response');
    await assert.rejects(decide(stage, waiting, false), sdk.BadRequestError);
    assert.equal(of(await stage.server.log(decided.conversation.id), 'tool.started').length, 1);
  });

  scene('an approval is refused', async stage => {
    const waiting = await asked(stage);
    const decided = await decide(stage, waiting, false, { reason: 'too nosy' });
    assert.match(decided.output_text, /refused .*too nosy/);
    assert.equal(of(await stage.server.log(decided.conversation.id), 'tool.started').length, 0);
  });

  scene('an approval comes after a cancel', async stage => {
    const waiting = await asked(stage);
    await stage.server.control(waiting.response.conversation.id, { type: 'cancel' });
    await assert.rejects(decide(stage, waiting, true), sdk.BadRequestError);
  });

  scene('an approval through the helper', async stage => {
    const first = await stage.client.responses.stream({ model: 'demo/assistant', input: question, ...pace }).finalResponse();
    const [request] = first.output.filter(({ type }) => type === 'mcp_approval_request');
    const second = stage.client.responses.stream({ model: 'demo/assistant', previous_response_id: first.id, input: [
      { type: 'mcp_approval_response', approval_request_id: request.id, approve: true }] });
    assert.match((await second.finalResponse()).output_text, /In Lisbon it is/);
  });

  scene('models are listed and found', async stage => {
    const models = [];
    for await (const model of stage.client.models.list()) models.push(model.id);
    assert.ok(models.includes('mock/x') && models.includes('demo/assistant'));
    assert.equal((await stage.client.models.retrieve('mock/x')).object, 'model');
    await assert.rejects(stage.client.models.retrieve('mock/nobody'), error =>
      error instanceof sdk.NotFoundError && error.code === 'model_not_found');
  });
});
