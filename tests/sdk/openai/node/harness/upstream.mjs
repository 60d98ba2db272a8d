// A small OpenAI-compatible model server that does what a test tells it to, and remembers what it was asked and whether
// its connections were closed before it had said all. It obeys the same words as the one for the Python tests, whose
// first comment has the table of them.
import http from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

export const few = 'These words come at once and then nothing more ';
export const tricky = 'naïve — 美咲 🚢👩‍👩‍👧 é "quoted" \\back\\ \n\n data: x\n\n</script> {"a":1} \u2028 end';
export const words = count => Array.from({ length: count }, (_, n) => `word${n} `).join('');

const textOf = content => (typeof content === 'string' ? content : (content ?? []).map(part => part.text ?? '').join(''));

class Asked {
  constructor(body, headers) { Object.assign(this, { body, headers, messages: body.messages, closed: false, ended: false }); }
  get last() { return textOf(this.messages.findLast(({ role }) => role === 'user')?.content ?? ''); }
  get roles() { return this.messages.map(({ role }) => role); }
}

export class Upstream {
  #server;
  #failedOnce = new Set();
  requests = [];

  static async start() {
    const upstream = new Upstream();
    upstream.#server = http.createServer((request, response) => upstream.#serve(request, response));
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    upstream.url = `http://127.0.0.1:${upstream.#server.address().port}/v1`;
    return upstream;
  }

  stop() { this.#server.closeAllConnections(); this.#server.close(); }

  /** The requests in which the user said this last. */
  about(said) { return this.requests.filter(asked => asked.last.endsWith(said)); }

  async #serve(request, response) {
    const json = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (request.method === 'GET') {
      return json(200, { object: 'list', data: [{ id: 'x', object: 'model', created: 1_700_000_000, owned_by: 'test' }] });
    }
    let body = '';
    for await (const piece of request) body += piece;
    const asked = new Asked(JSON.parse(body), request.headers);
    this.requests.push(asked);
    response.on('close', () => { asked.closed = !asked.ended; });
    const said = asked.last.split('\n').at(-1);
    const [verb, number, ...rest] = said.split(' ');
    const name = rest.join(' ');
    if (verb === 'status' || (verb === 'once' && !this.#failedOnce.has(said))) {
      this.#failedOnce.add(said);
      asked.ended = true;
      const type = number === '429' || number[0] !== '4' ? 'server_error' : 'invalid_request_error';
      return json(Number(number), { error: { message: `the model server says no to ${name}`, type, param: null, code: 'no_luck' } });
    }
    await new Answer(asked, response).give(verb, number, name, said);
  }
}

class Answer {
  #tokens = 0;

  constructor(asked, response) {
    Object.assign(this, { asked, response });
    response.writeHead(200, { 'content-type': 'text/event-stream', connection: 'close' });
    response.flushHeaders();
  }

  chunk(fields) {
    const chunk = { id: 'chatcmpl-up', object: 'chat.completion.chunk', created: 1, model: 'x', ...fields };
    this.response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  }
  delta(delta, finish_reason = null) { this.chunk({ choices: [{ index: 0, delta, finish_reason }] }); }

  async say(text, { ms = 0, size, as = 'content' } = {}) {
    const pieces = size ? text.match(new RegExp(`[^]{1,${size}}`, 'gu')) : text.match(/\S+\s*/g);
    for (const piece of pieces ?? []) {
      if (this.response.destroyed) return;
      this.#tokens += 1;
      this.delta({ [as]: piece });
      if (ms) await sleep(ms);
    }
  }

  call(...calls) {
    for (const [index, { name, input }] of calls.entries()) {
      const id = `call_${crypto.randomUUID()}`;
      this.delta({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] });
      // In fragments, as models send them.
      for (const part of [input.slice(0, 4), input.slice(4, 9), input.slice(9)]) {
        this.delta({ tool_calls: [{ index, function: { arguments: part } }] });
      }
    }
    this.end('tool_calls');
  }

  end(finish = 'stop') {
    this.delta({}, finish);
    if (this.asked.body.stream_options?.include_usage) {
      const usage = { prompt_tokens: 11, completion_tokens: this.#tokens, total_tokens: 11 + this.#tokens };
      this.chunk({ choices: [], usage });
    }
    this.asked.ended = true;
    this.response.end('data: [DONE]\n\n');
  }

  async give(verb, number, name, said) {
    const { messages } = this.asked;
    if (messages.at(-1).role === 'tool') {
      const outputs = messages.slice(messages.findLastIndex(({ role }) => role !== 'tool') + 1);
      this.delta({ role: 'assistant', content: '' });
      await this.say(`The tools gave ${outputs.map(({ content }) => textOf(content)).join(' and ')}.`);
      return this.end();
    }
    if (verb === 'wait') return;
    this.delta({ role: 'assistant', content: '' });
    const rest = said.slice(verb.length + 1);
    switch (verb) {
      case 'hold': await this.say(few); return;
      case 'break': await this.say(few); await sleep(50); this.response.destroy(); return;
      case 'midfail': {
        await this.say(few);
        const error = { message: 'the model fell over', type: 'server_error', param: null, code: 'engine_dead' };
        this.asked.ended = true;
        this.response.end(`data: ${JSON.stringify({ error })}\n\ndata: [DONE]\n\n`);
        return;
      }
      case 'slow': case 'fast':
        await this.say(`${words(Number(number))}to the end of ${name}.`, { ms: verb === 'slow' ? 10 : 0 });
        break;
      case 'tokens':
        await this.say(Array.from({ length: Number(number) }, (_, n) => `${String(n % 100).padStart(2, '0')} `).join(''), { size: 3, ms: 4 });
        break;
      case 'verbatim': await this.say(rest, { size: 5 }); break;
      case 'tricky': await this.say(tricky, { size: 3 }); break;
      case 'think':
        await this.say(`Let me think about ${rest}.`, { as: 'reasoning_content' });
        await this.say(`I have thought about ${rest}.`);
        break;
      case 'length': case 'filter':
        await this.say(few);
        return this.end(verb === 'length' ? 'length' : 'content_filter');
      case 'call': return this.call({ name: number, input: name });
      case 'both': return this.call({ name: 'lookup', input: '{}' }, { name: 'get_weather', input: '{"city":"Oslo"}' });
      default: await this.say(`You said ${said}.`);
    }
    if (!this.response.destroyed) this.end();
  }
}
