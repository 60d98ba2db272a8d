// What goes wrong is thrown as the error that the SDK has for it, and never makes the SDK generate twice.
import assert from 'node:assert/strict';
import { judged } from './harness/judge.mjs';
import { play, sdk, until } from './harness/stage.mjs';
import { of } from '../../ai/harness/server.mjs';
import { few } from './harness/upstream.mjs';

const doors = {
  chat: ({ client }, text, more, options) => client.chat.completions.create(
    { model: 'mock/x', messages: [{ role: 'user', content: text }], ...more }, options),
  responses: ({ client }, text, more, options) => client.responses.create({ model: 'mock/x', input: text, ...more }, options),
};
const textOf = answer => answer.output_text ?? answer.choices[0].message.content;

/** The error, which must name its request. */
async function refusal(promise, kind) {
  let caught;
  await assert.rejects(promise, error => { caught = error; return error instanceof kind; });
  assert.ok(caught.requestID && caught.requestID === caught.headers.get('x-request-id'));
  return caught;
}

play('errors', {}, scene => {
  scene('a mistake is named', async stage => {
    const user = { role: 'user', content: 'x' };
    const image = { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/x' } }] };
    for (const [path, body, param] of [
      ['chat/completions', {}, 'messages'],
      ['chat/completions', { messages: [{ role: 'king', content: 'x' }] }, 'messages[0].role'],
      ['chat/completions', { messages: [image] }, 'messages[0].content[0]'],
      ['chat/completions', { messages: [user], temperature: 'hot' }, 'temperature'],
      ['chat/completions', { messages: [user], n: 2 }, 'n'],
      ['responses', { input: 7 }, 'input'],
      ['responses', { input: 'x', tools: [{ type: 'web_search' }] }, 'tools[0]'],
      ['responses', { input: 'x', previous_response_id: 'resp_nobody_aaaaaa_1' }, 'previous_response_id'],
    ]) {
      const error = await refusal(stage.client.post(`/${path}`, { body: { model: 'mock/x', ...body } }), sdk.BadRequestError);
      assert.equal(error.type, 'invalid_request_error');
      assert.ok(error.param?.startsWith(param), `${param}: ${JSON.stringify(error.error)}`);
    }
  });

  scene('what is not there', async stage => {
    const { client } = stage;
    for (const call of [
      () => client.responses.retrieve('resp_nobody_aaaaaa_1'), () => client.responses.cancel('resp_nobody_aaaaaa_1'),
      () => client.responses.retrieve('resp_nobody_aaaaaa_1', { stream: true }), () => client.chat.completions.retrieve('chatcmpl-nobody'),
      () => client.embeddings.create({ model: 'mock/x', input: 'x' }), () => client.get('/nothing/of/the/kind'),
    ]) await refusal(call(), sdk.NotFoundError);
    for (const ask of Object.values(doors)) {
      const error = await refusal(ask(stage, 'x', { model: 'nobody/nothing' }), sdk.NotFoundError);
      assert.deepEqual([error.code, error.param], ['model_not_found', 'model']);
    }
  });

  for (const [door, ask] of Object.entries(doors)) {
    for (const [status, kind] of [[429, sdk.RateLimitError], [500, sdk.InternalServerError]]) {
      scene(`${door}: an upstream that fails with ${status} before the first token`, async stage => {
        const said = `status ${status} ${stage.name}`;
        const error = await refusal(ask(stage, said), kind);
        assert.match(error.message, new RegExp(`says no to ${stage.name}`));
        assert.equal(error.headers.get('x-should-retry'), 'false');
        const log = await stage.server.log(error.headers.get('steerage-session'));
        assert.equal(stage.upstream.about(said).length, of(log, 'step.started').length);
      });
    }

    scene(`${door}: an upstream that fails once`, async stage => {
      const said = `once 503 ${door} ${stage.name}`;
      assert.equal(textOf(await ask(stage, said)), `You said ${said}.`);
      assert.equal(stage.upstream.about(said).length, 2);
    });

    scene(`${door}: a whole answer that fails in the middle`, async stage => {
      const error = await refusal(ask(stage, `midfail ${stage.name}`), sdk.InternalServerError);
      assert.match(error.message, /the model fell over/);
      assert.equal(stage.upstream.about(stage.name).length, 1);
    });

    scene(`${door}: an idempotency key makes it one`, async stage => {
      const proxy = await stage.proxy();
      const far = { client: stage.clientOf(proxy.url) };
      proxy.limit(9);
      const headers = { 'Idempotency-Key': `key-${stage.name}` };
      const first = await ask(far, `hello ${stage.name}`, {}, { headers });
      const second = await ask(stage, `hello ${stage.name}`, {}, { headers });
      assert.equal(first.id, second.id);
      assert.equal(stage.upstream.about(stage.name).length, 1);
    });
  }

  for (const verb of ['midfail', 'break']) {
    scene(`a chat stream that fails in the middle: ${verb}`, async stage => {
      let seen = '';
      await assert.rejects(async () => {
        for await (const chunk of await doors.chat(stage, `${verb} ${stage.name}`, { stream: true })) {
          seen += chunk.choices[0].delta.content ?? '';
        }
      }, error => error instanceof sdk.APIError && error.type === 'server_error' && Boolean(error.code));
      assert.equal(seen, few);
      // The helper throws as well: it takes it for no answer.
      const body = { model: 'mock/x', messages: [{ role: 'user', content: `${verb} ${stage.name}` }] };
      await assert.rejects(stage.client.chat.completions.stream(body).finalContent(), sdk.APIError);
      assert.equal(stage.upstream.about(stage.name).length, 2);
    });

    scene(`a response stream that fails in the middle: ${verb}`, async stage => {
      const fold = await judged(await doors.responses(stage, `${verb} ${stage.name}`, { stream: true }));
      assert.deepEqual([fold.end.status, fold.end.error.code, fold.text], ['failed', 'server_error', few]);
      const final = await stage.client.responses.stream({ response_id: fold.id }).finalResponse();
      assert.deepEqual([final.status, final.output_text], ['failed', few]);
      assert.equal(stage.upstream.about(stage.name).length, 1);
    });
  }

  scene('a stream that is refused at once', async stage => {
    const said = `status 429 ${stage.name}`;
    await assert.rejects(async () => { for await (const chunk of await doors.chat(stage, said, { stream: true })) void chunk; },
      error => error instanceof sdk.APIError && error.code === 'upstream_overloaded');
    const fold = await judged(await doors.responses(stage, said, { stream: true }));
    assert.equal(fold.end.error.code, 'rate_limit_exceeded');
  });

  scene('an aborted request stops nothing', async stage => {
    const stream = await doors.responses(stage, `slow 60 ${stage.name}`, { stream: true });
    for await (const { sequence_number } of stream) if (sequence_number === 9) stream.controller.abort();
    const [asked] = stage.upstream.about(stage.name);
    await until(() => asked.ended, 'the model says all');
    assert.ok(!asked.closed);
  });
});
