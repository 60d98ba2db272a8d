// A server with a model that makes very many events at once.
import { once } from 'node:events';
import http from 'node:http';
import { serve } from './common.mjs';

/**
 * A model that writes the arguments of two calls at once, as many pieces as the last message says, as fast as it can. What
 * follows each other in a block is one event where it comes together; these are all events of their own.
 */
export async function hasty(binary, store = 'memory') {
  const model = http.createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    if (request.url === '/v1/models') return response.setHeader('content-type', 'application/json').end('{"object":"list","data":[{"id":"hasty","object":"model"}]}');
    const pieces = Number(JSON.parse(body).messages.findLast(({ role }) => role === 'user').content);
    response.setHeader('content-type', 'text/event-stream');
    const say = (delta, finish_reason = null) => response.write(`data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk',
      created: 0, model: 'hasty', choices: [{ index: 0, delta, finish_reason }] })}\n\n`);
    const call = (index, args, more = {}) => say({ tool_calls: [{ index, function: { arguments: args, ...more.function }, ...more.call }] });
    for (const index of [0, 1]) call(index, '{"words":"', { call: { id: `call_${index}_${Date.now()}`, type: 'function' }, function: { name: 'note' } });
    for (let piece = 2; piece < pieces - 2; piece += 1) {
      if (!call(piece % 2, `w${piece} `)) await once(response, 'drain');
    }
    for (const index of [0, 1]) call(index, '"}');
    say({}, 'tool_calls');
    response.end('data: [DONE]\n\n');
  });
  await once(model.listen(0, '127.0.0.1'), 'listening');
  const upstream = ['--upstream', `fast=http://127.0.0.1:${model.address().port}/v1`];
  let [base, server] = await serve(binary, '127.0.0.1:0', store, ...upstream);
  const tools = [{ name: 'note', description: 'Takes a note.', parameters: { type: 'object' }, executor: 'client' }];
  // Its runs wait for somebody: it would wait for them.
  const kill = () => {
    server.kill('SIGKILL');
    return once(server, 'exit');
  };
  const restart = async () => {
    await kill();
    [, server] = await serve(binary, base.slice('http://'.length), store, ...upstream);
  };
  const close = async () => {
    await kill();
    model.closeAllConnections();
    model.close();
  };
  return { base, model: { model: 'fast/hasty', tools }, restart, close };
}
