// A model server that speaks the OpenAI dialect: it says `w1 w2 w3 …` at a steady pace and notes who is still listening.
import http from 'node:http';
import { once } from 'node:events';

const WORDS = 400, PACE_MS = 25;

/** Its address and the number of answers that are being given; one whose connection was closed is no longer among them. */
export async function upstream() {
  const open = new Set();
  const server = http.createServer(async (request, response) => {
    if (request.url === '/v1/models') {
      return response.setHeader('content-type', 'application/json').end('{"object":"list","data":[{"id":"words","object":"model"}]}');
    }
    for await (const _ of request); // Nothing of it changes the answer.
    open.add(response);
    response.setHeader('content-type', 'text/event-stream').flushHeaders();
    const say = (delta, finish_reason = null) => response.write(`data: ${JSON.stringify({ id: 'x',
      object: 'chat.completion.chunk', created: 0, model: 'words', choices: [{ index: 0, delta, finish_reason }] })}\n\n`);
    let word = 0;
    const clock = setInterval(() => {
      if (word < WORDS) return say({ content: `w${word += 1} ` });
      say({}, 'stop');
      response.end('data: [DONE]\n\n');
    }, PACE_MS);
    response.on('close', () => { clearInterval(clock); open.delete(response); });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/v1`, open };
}
