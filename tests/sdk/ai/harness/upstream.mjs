// A small OpenAI-compatible model server that says what a test tells it to, and remembers what it was asked and when
// its connections were closed.
import http from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** Text in pieces, `ms` apart; `hold` keeps the answer open after the last of them. */
export const say = (text, { ms = 0, hold = false } = {}) => ({ text, ms, hold });

/** Calls of tools: `{id, name, arguments}`. */
export const call = (...calls) => ({ calls });

/**
 * What it says where a test does not say otherwise. It goes by the first word of what the user said last: "hold" is an
 * answer without end, "wait" one without a first token, "slow" one of some seconds, "call NAME JSON" a tool call,
 * "twice NAME" two of them, "both" one of `lookup` and one of `get_weather`. After tools it repeats what they gave.
 */
export function obey({ messages }) {
  const last = messages.at(-1);
  if (last.role === 'tool') {
    const given = messages.slice(messages.findLastIndex(m => m.role === 'assistant')).filter(m => m.role === 'tool');
    return say(`The tools gave ${given.map(m => m.content).join(' and ')}.`);
  }
  // What was said twice without an answer in between may have been made one message.
  const said = (messages.findLast(m => m.role === 'user')?.content ?? '').split('\n').at(-1);
  const id = () => `call_${Math.random().toString(36).slice(2)}`;
  const [verb, name, ...rest] = said.split(' ');
  if (verb === 'hold') return say('These words come at once and then nothing comes any more ', { hold: true });
  if (verb === 'wait') return say('', { hold: true });
  if (verb === 'slow') return say(`Slowly ${'and more '.repeat(40)}to the end of ${name}.`, { ms: 10 });
  if (verb === 'call') return call({ id: id(), name, arguments: JSON.parse(rest.join(' ')) });
  if (verb === 'twice') return call(...[1, 2].map(n => ({ id: id(), name, arguments: { n } })));
  if (verb === 'both') {
    return call({ id: id(), name: 'lookup', arguments: {} }, { id: id(), name: 'get_weather', arguments: { city: 'Oslo' } });
  }
  return say(`You said ${said}.`);
}

export class Upstream {
  #server;
  /** Every request: its `messages`, `tools`, and `closed`, true once the caller has closed it before its end. */
  requests = [];

  /** `answer(request)`: what it says, of `say` or `call`. */
  static async start(answer = obey) {
    const upstream = new Upstream();
    upstream.answer = answer;
    upstream.#server = http.createServer((request, response) => upstream.#serve(request, response));
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    upstream.url = `http://127.0.0.1:${upstream.#server.address().port}/v1`;
    return upstream;
  }

  async #serve(request, response) {
    if (request.method === 'GET') {
      response.setHeader('content-type', 'application/json');
      return response.end('{"object":"list","data":[{"id":"x","object":"model","created":0,"owned_by":"test"}]}');
    }
    let text = '';
    for await (const piece of request) text += piece;
    const asked = { ...JSON.parse(text), closed: false, said: '', ended: false };
    this.requests.push(asked);
    response.on('close', () => { asked.closed = !asked.ended; });
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (delta, finish_reason = null) => response.write(`data: ${JSON.stringify({
      id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 0, model: 'x',
      choices: [{ index: 0, delta, finish_reason }] })}\n\n`);
    const answer = await this.answer(asked);
    send({ role: 'assistant', content: '' });
    if (answer.calls) {
      answer.calls.forEach(({ id, name, arguments: input }, index) => {
        const whole = JSON.stringify(input);
        send({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] });
        // In two fragments, as models send them.
        for (const part of [whole.slice(0, 4), whole.slice(4)]) {
          send({ tool_calls: [{ index, function: { arguments: part } }] });
        }
      });
    } else {
      for (const word of answer.text.match(/\S+\s*/g) ?? []) {
        if (response.destroyed) return;
        send({ content: word });
        asked.said += word;
        if (answer.ms) await sleep(answer.ms);
      }
      if (answer.hold) return;
    }
    send({}, answer.calls ? 'tool_calls' : 'stop');
    asked.ended = true;
    response.end('data: [DONE]\n\n');
  }

  /** What the model was told in its newest request, tersely: "user: …" per message. */
  told(request = this.requests.at(-1)) {
    return request.messages.map(({ role, content }) => `${role}: ${content ?? ''}`);
  }

  /** The requests in which the user said `text` last. */
  about(text) {
    return this.requests.filter(({ messages }) => messages.findLast(m => m.role === 'user')?.content.endsWith(text));
  }

  stop() { this.#server.closeAllConnections(); this.#server.close(); }
}
