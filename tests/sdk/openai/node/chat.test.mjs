// Chat completions: whole, streamed, through the helpers, and what goes on beside them.
import assert from 'node:assert/strict';
import { z } from 'zod';
import { told } from './harness/judge.mjs';
import { play, sdk, until, zodFunction, zodResponseFormat } from './harness/stage.mjs';
import { of, runs } from '../../ai/harness/server.mjs';
import { few, tricky, words } from './harness/upstream.mjs';

const ask = (content, more = {}) => ({ model: 'mock/x', messages: [{ role: 'user', content }], ...more });
const create = ({ client }, ...args) => client.chat.completions.create(ask(...args));
const textOf = events => runs(events).map(run => run.text).join('');

play('chat', {}, scene => {
  scene('a whole answer', async stage => {
    const answer = await create(stage, `hello ${stage.name}`);
    assert.equal(answer.choices[0].message.content, `You said hello ${stage.name}.`);
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.object, 'chat.completion');
    assert.equal(answer.usage.total_tokens, 11 + answer.usage.completion_tokens);
    assert.equal(stage.upstream.about(stage.name).length, 1);
  });

  scene('a stream, with and without usage', async stage => {
    const plain = await told(await create(stage, `fast 30 ${stage.name}`, { stream: true }));
    assert.equal(plain.text, `${words(30)}to the end of ${stage.name}.`);
    assert.equal(plain.usage, null);
    const options = { stream: true, stream_options: { include_usage: true } };
    const counted = await told(await create(stage, `fast 30 ${stage.name}`, options), { usage: true });
    assert.equal(counted.usage.prompt_tokens, 11);
  });

  scene('every character comes through', async stage => {
    assert.equal((await told(await create(stage, 'tricky', { stream: true }))).text, tricky);
    assert.equal((await create(stage, 'tricky')).choices[0].message.content, tricky);
  });

  scene('the stream helper', async stage => {
    const stream = stage.client.chat.completions.stream(ask(`fast 20 ${stage.name}`));
    let text = '';
    stream.on('content', delta => { text += delta; });
    const final = await stream.finalChatCompletion();
    assert.equal(text, `${words(20)}to the end of ${stage.name}.`);
    assert.equal(final.choices[0].message.content, text);
    assert.equal(await stream.finalContent(), text);
  });

  scene('what is structured is parsed', async stage => {
    const City = z.object({ name: z.string(), people: z.number() });
    const response_format = zodResponseFormat(City, 'city');
    const said = 'verbatim {"name":"Oslo","people":717710}';
    const parsed = await stage.client.chat.completions.parse(ask(said, { response_format }));
    assert.deepEqual(parsed.choices[0].message.parsed, { name: 'Oslo', people: 717710 });
    const stream = stage.client.chat.completions.stream(ask(said, { response_format }));
    assert.deepEqual((await stream.finalMessage()).parsed, { name: 'Oslo', people: 717710 });
    assert.equal(stage.upstream.about(said)[0].body.response_format.type, 'json_schema');
  });

  scene('the stream helper has tools', async stage => {
    const tool = zodFunction({ name: 'City', parameters: z.object({ name: z.string() }) });
    const stream = stage.client.chat.completions.stream(ask('call City {"name":"Bonn"}', { tools: [tool] }));
    const done = [];
    stream.on('tool_calls.function.arguments.done', call => done.push(call));
    const final = await stream.finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls[0].function.parsed_arguments, { name: 'Bonn' });
    assert.deepEqual(done.map(({ parsed_arguments }) => parsed_arguments), [{ name: 'Bonn' }]);
  });

  for (const stream of [false, true]) {
    scene(`the SDK's own tool loop${stream ? ', streamed' : ''}`, async stage => {
      const done = [];
      const tool = (name, answer) => ({ type: 'function', function: {
        name, description: 'A test\'s own.', parameters: { type: 'object', properties: {} }, parse: JSON.parse,
        function: input => { done.push([name, input]); return answer; } } });
      const tools = [tool('lookup', 'nothing found'), tool('get_weather', '7 degrees')];
      const runner = stage.client.chat.completions.runTools(ask(`both ${stage.name}`, { stream, tools }));
      assert.equal(await runner.finalContent(), 'The tools gave nothing found and 7 degrees.');
      assert.deepEqual(done, [['lookup', {}], ['get_weather', { city: 'Oslo' }]]);
      assert.deepEqual(stage.upstream.about(stage.name)[1].roles, ['user', 'assistant', 'tool', 'tool']);
    });
  }

  scene('reasoning is told apart', async stage => {
    const { text, reasoning } = await told(await create(stage, `think ${stage.name}`, { stream: true }));
    assert.deepEqual([reasoning, text], [`Let me think about ${stage.name}.`, `I have thought about ${stage.name}.`]);
  });

  scene('an answer that was cut says so', async stage => {
    for (const [verb, reason] of [['length', 'length'], ['filter', 'content_filter']]) {
      const { choices: [choice] } = await create(stage, `${verb} ${stage.name}`);
      assert.deepEqual([choice.finish_reason, choice.message.content], [reason, few]);
      assert.equal((await told(await create(stage, `${verb} ${stage.name}`, { stream: true }))).finish, reason);
    }
  });

  scene('headers name the request and the session', async stage => {
    const { data, response, request_id } = await create(stage, `hello ${stage.name}`).withResponse();
    assert.ok(request_id);
    assert.equal(request_id, response.headers.get('x-request-id'));
    const session = response.headers.get('steerage-session');
    assert.equal(data.id, `chatcmpl-${session}`);
    assert.equal(textOf(await stage.server.log(session)), data.choices[0].message.content);
  });

  scene('who leaves stops nothing', async stage => {
    const { data, response } = await create(stage, `slow 60 ${stage.name}`, { stream: true }).withResponse();
    let seen = 0;
    for await (const chunk of data) if ((seen += chunk.choices.length) > 10) break;
    const session = response.headers.get('steerage-session');
    await until(async () => of(await stage.server.log(session), 'run.completed').length);
    const [asked] = stage.upstream.about(stage.name);
    assert.ok(asked.ended && !asked.closed);
    const again = await stage.client.chat.completions.retrieve(data.id ?? `chatcmpl-${session}`);
    assert.equal(again.choices[0].message.content, `${words(60)}to the end of ${stage.name}.`);
  });

  scene('every cut of a stream is mended', async stage => {
    const whole = [];
    for await (const chunk of await create(stage, `tokens 30 ${stage.name}`, { stream: true })) whole.push(chunk);
    for (let taken = 0; taken <= whole.length; taken += 1) {
      const query = { stream: true, ...(taken ? { starting_after: taken - 1 } : {}) };
      const rest = [];
      const stream = await stage.client.get(`/chat/completions/${whole[0].id}`, { query, stream: true });
      for await (const chunk of stream) rest.push(chunk);
      assert.deepEqual(rest, whole.slice(taken), `after ${taken}`);
    }
  });

  scene('it is stopped through the native API', async stage => {
    const { data, response } = await create(stage, `hold ${stage.name}`, { stream: true }).withResponse();
    const session = response.headers.get('steerage-session');
    let seen = '';
    await assert.rejects(async () => {
      for await (const chunk of data) {
        seen += chunk.choices[0].delta.content ?? '';
        if (seen === few) {
          const { json } = await stage.server.control(session, { type: 'cancel' });
          assert.equal(json.status, 'applied');
          await until(() => stage.upstream.about(stage.name)[0].closed, 'the upstream sees the close', 2_000);
        }
      }
    }, error => error instanceof sdk.APIError && error.code === 'cancelled');
    assert.equal(seen, few);
  });

  scene('it is steered through the native API', async stage => {
    const { data, response } = await create(stage, `hold ${stage.name}`, { stream: true }).withResponse();
    const session = response.headers.get('steerage-session');
    let seen = '';
    for await (const chunk of data) {
      const before = seen;
      seen += chunk.choices[0].delta.content ?? '';
      if (seen === few && before !== few) {
        await stage.server.control(session, { type: 'steer', content: `rather ${stage.name}` });
      }
    }
    assert.equal(seen, `${few}\n\nYou said rather ${stage.name}.`);
    assert.ok(stage.upstream.about(`hold ${stage.name}`)[0].closed);
  });
});
