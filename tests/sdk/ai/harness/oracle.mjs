// The judge of what goes over the wire: every chunk that a client is given is copied here and held against the schema
// of the client's own SDK version, and against the last strict one, which knows no key that is not in the protocol.
import * as ai7 from 'ai';
import * as ai6 from 'ai6';
import * as ai5 from 'ai5';
import * as strict from 'ai6-strict';

export const libraries = { 7: ai7, 6: ai6, 5: ai5 };
const schema = library => library.asSchema(library.uiMessageChunkSchema);
const schemas = { 7: schema(ai7), 6: schema(ai6), 5: schema(ai5), strict: schema(strict) };

/** What was said on the wires of one test. */
export class Oracle {
  #chunks = [];
  #faults = [];

  /** `of`: the versions that must accept the chunk. */
  #take(json, of, where) {
    try {
      this.#chunks.push({ chunk: JSON.parse(json), of, where });
    } catch {
      this.#faults.push(`${where}: not JSON: ${json}`);
    }
  }

  /**
   * `fetch` with its event streams copied. `browser`: a broken body is the error that a browser makes of it, which the
   * SDK knows as a disconnect; Node's own ("terminated") it does not know.
   */
  fetch(of, { browser = true } = {}) {
    return async (url, options) => {
      const response = await fetch(url, options);
      const where = `${options?.method ?? 'GET'} ${new URL(url).pathname}`;
      if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return response;
      const reader = response.body.getReader();
      const take = lines(data => data === '[DONE]' || this.#take(data, of, where),
        line => this.#faults.push(`${where}: not a line of the framing: ${JSON.stringify(line)}`));
      const body = new ReadableStream({
        async pull(controller) {
          let read;
          try {
            read = await reader.read();
          } catch (error) {
            const broken = browser && error.message === 'terminated';
            return controller.error(broken ? new TypeError('network error') : error);
          }
          if (read.done) return controller.close();
          take(read.value);
          controller.enqueue(read.value);
        },
        cancel: reason => reader.cancel(reason),
      });
      return new Response(body, { status: response.status, headers: response.headers });
    };
  }

  /** A WebSocket class whose incoming frames are copied: `frames` has them. */
  webSocket(Base, of, frames = []) {
    const oracle = this;
    return class extends Base {
      constructor(...args) {
        super(...args);
        this.addEventListener('message', ({ data }) => {
          const frame = JSON.parse(data);
          frames.push(frame);
          oracle.#frame(frame, of);
        });
      }
    };
  }

  #frame(frame, of) {
    const keys = { start: [], chunk: ['sequence', 'chunk'], end: [], 'no-active': [], error: ['errorText'] }[frame.type];
    const unknown = Object.keys(frame).filter(key => !['type', 'requestId', ...(keys ?? [])].includes(key));
    if (!keys || unknown.length > 0) this.#faults.push(`WebSocket: not a frame of the protocol: ${JSON.stringify(frame)}`);
    if (frame.type === 'chunk') this.#take(JSON.stringify(frame.chunk), of, 'WebSocket');
  }

  /** The chunks so far, without what is only for the console. */
  get chunks() { return this.#chunks.map(({ chunk }) => chunk); }

  /** Judges, and says what is wrong. */
  async faults() {
    const faults = [...this.#faults];
    for (const { chunk, of, where } of this.#chunks) {
      for (const version of of) {
        const { success, error } = await schemas[version].validate(chunk);
        if (!success) faults.push(`${where}: the schema of ${version} refuses ${JSON.stringify(chunk)}: ${error.message}`);
      }
      const path = nullAt(chunk);
      if (path) faults.push(`${where}: null at ${path} in ${JSON.stringify(chunk)}`);
    }
    return faults;
  }
}

/** Where a chunk has a null. What is under data, input and output is the caller's, not the protocol's. */
function nullAt(chunk) {
  return Object.keys(chunk).find(key => chunk[key] === null);
}

/** Takes the lines of an event stream apart as strictly as they are written. */
function lines(data, fault) {
  const decoder = new TextDecoder();
  let rest = '';
  return bytes => {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = parts.pop();
    for (const line of parts) {
      if (line.startsWith('data: ')) data(line.slice(6));
      else if (line !== '' && !line.startsWith(':') && !line.startsWith('id: ')) fault(line);
    }
  };
}
