// Proxies that do what networks do: cut, hold back, go silent, drip, refuse an upgrade.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/**
 * TCP. `plan(number)` says what becomes of each connection: `cutBytes` (of what the server sends), `cutMs`, `drip` (a byte
 * at a time), `hole` (a function: while it is true nothing is forwarded, in either direction), `afterRequest` (cut once the
 * request was sent and the server has answered, before a byte of the answer).
 */
export async function tcp(port, plan = () => ({})) {
  const proxy = { connections: 0, cuts: 0, open: new Set(), plan };
  const server = net.createServer(client => {
    const { cutBytes = Infinity, cutMs, drip, hole = () => false, afterRequest } = proxy.plan(++proxy.connections);
    const up = net.connect(port, '127.0.0.1');
    client.setNoDelay();
    let [left, gone] = [cutBytes, false];
    const cut = () => {
      if (gone) return;
      gone = true;
      proxy.cuts += 1;
      client.resetAndDestroy();
      up.destroy();
    };
    const timer = cutMs === undefined ? undefined : setTimeout(cut, cutMs);
    const end = () => {
      gone = true;
      clearTimeout(timer);
      proxy.open.delete(client);
      client.destroy();
      up.destroy();
    };
    proxy.open.add(client);
    client.on('error', end).on('close', end);
    up.on('error', end);
    client.on('data', piece => { if (!hole()) up.write(piece); });
    let queue = Promise.resolve();
    up.on('data', piece => {
      if (hole()) return;
      if (afterRequest) return cut();
      const part = piece.subarray(0, left);
      left -= part.length;
      if (drip) {
        queue = queue.then(async () => {
          for (let at = 0; at < part.length && !gone; at += 1) {
            client.write(part.subarray(at, at + 1));
            await new Promise(setImmediate);
          }
        });
      } else client.write(part);
      if (left <= 0) cut();
    });
    up.on('close', () => queue.then(end));
  });
  proxy.url = await listen(server);
  proxy.close = () => { server.close(); for (const client of proxy.open) client.destroy(); };
  return proxy;
}

/**
 * HTTP. `hold(request)`: how many bytes of a body pass before the rest is held back until its end (`Infinity`: none is held
 * back). `upgrades`: whether sockets pass; `'silent'` lets the handshake through and nothing after it. `answer(request)` may
 * answer instead: `{ status, headers, body }`.
 */
export async function web(port, { hold = () => 0, upgrades = true, answer = () => undefined } = {}) {
  const proxy = { requests: [], hold, upgrades, answer };
  const server = http.createServer(async (request, response) => {
    proxy.requests.push({ method: request.method, url: request.url, headers: request.headers, at: performance.now() });
    const own = await proxy.answer(request);
    if (own) return response.writeHead(own.status, own.headers).end(own.body);
    const options = { port, host: '127.0.0.1', method: request.method, path: request.url, headers: request.headers };
    const up = http.request(options, from => {
      let left = proxy.hold(request);
      const held = [];
      const head = () => { if (!response.headersSent) response.writeHead(from.statusCode, from.headers); };
      from.on('data', piece => {
        const passes = piece.subarray(0, left);
        left -= passes.length;
        if (passes.length) { head(); response.write(passes); }
        if (passes.length < piece.length) held.push(piece.subarray(passes.length));
      });
      from.on('end', () => { head(); response.end(Buffer.concat(held)); });
      from.on('error', () => response.destroy());
    });
    up.on('error', () => response.headersSent ? response.destroy() : response.writeHead(502).end('no server'));
    response.on('close', () => up.destroy());
    request.pipe(up);
  });
  server.on('upgrade', (request, socket, head) => {
    proxy.requests.push({ method: 'UPGRADE', url: request.url, headers: request.headers, at: performance.now() });
    socket.on('error', () => {});
    if (!proxy.upgrades) return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    const up = net.connect(port, '127.0.0.1', () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`];
      for (let at = 0; at < request.rawHeaders.length; at += 2) lines.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
      up.write(lines.join('\r\n') + '\r\n\r\n');
      up.write(head);
      let told = '';
      up.on('data', piece => {
        if (proxy.upgrades !== 'silent') return socket.write(piece);
        if (told.includes('\r\n\r\n')) return;
        told += piece.toString('latin1');
        if (told.includes('\r\n\r\n')) socket.write(told.slice(0, told.indexOf('\r\n\r\n') + 4), 'latin1');
      });
      socket.on('data', piece => up.write(piece));
    });
    up.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => up.destroy());
  });
  proxy.url = await listen(server);
  return proxy;
}
