// The connection of the playground, as a person breaks it: the plug, other transports, a server that dies, a network that is
// gone or holds back, a second device, a key. node link.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { launch, of, run, serve, textOf } from './common.mjs';
import { PHONE, Tab } from './tab.mjs';

const [executablePath, binary, folder, only] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await launch(executablePath);
const [url] = await serve(binary, '127.0.0.1:0', 'memory');
const open = options => Tab.open(browser, url, options);
const NAMES = { sse: 'SSE', websocket: 'WebSocket', poll: 'long poll' };
// A browser writes a refused connection to the console.
const LOST = /ERR_CONNECTION_(REFUSED|RESET)|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED|WebSocket connection/;

/** A proxy that keeps every answer until it is whole, and refuses sockets unless told otherwise. */
async function holdingBack(sockets) {
  const { port: to, hostname } = new URL(url);
  const open = new Set();
  const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers };
    const on = http.request({ host: hostname, port: to, path: request.url, method: request.method, headers }, answer => {
      const held = [];
      answer.on('data', piece => held.push(piece));
      answer.on('end', () => { response.writeHead(answer.statusCode, answer.headers); response.end(Buffer.concat(held)); });
      answer.on('error', () => response.destroy());
    });
    on.on('error', () => response.destroy());
    response.on('close', () => on.destroy());
    request.pipe(on);
  });
  proxy.on('upgrade', (request, socket, head) => {
    if (!sockets) return socket.end('HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n');
    const on = net.connect(to, hostname, () => {
      const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
      on.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines}\r\n`);
      on.write(head);
      socket.pipe(on).pipe(socket);
    });
    for (const end of [on, socket]) end.on('error', () => { on.destroy(); socket.destroy(); });
  });
  proxy.on('connection', socket => { open.add(socket); socket.on('close', () => open.delete(socket)); });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return { base: `http://127.0.0.1:${proxy.address().port}`, close: () => { proxy.close(); for (const socket of open) socket.destroy(); } };
}

/** The plug is pulled in the middle of an answer, by whatever transport. */
async function plugged(transport, options) {
  const tab = await open(options);
  await tab.$('#transport').selectOption(transport);
  await tab.story();
  await tab.link(`^${NAMES[transport]}`);
  await tab.$('#plug').click();
  await tab.link('^unplugged after');
  const [at, before] = [await tab.$('#cursor').textContent(), await tab.text()];
  await tab.page.waitForTimeout(1_000);
  assert.equal(await tab.text(), before, 'nothing comes through a pulled plug');
  await tab.$('#plug').click();
  await tab.link(`^${NAMES[transport]}, resumed after ${at.replace('.', '\\.')}, [1-9]\\d* events caught up$`);
  assert.ok(tab.requests.some(request => request.includes(`after=${at}`)));
  await tab.ended();
  const text = await tab.text();
  assert.ok(text.startsWith(before) && text.length > before.length);
  await tab.isWhole();
  await tab.close();
}

const tests = {
  'the plug is pulled and put back, by SSE': () => plugged('sse'),
  'the plug is pulled and put back, by WebSocket, on a phone': () => plugged('websocket', PHONE),
  'the plug is pulled and put back, by long poll': () => plugged('poll'),
  async 'the transport changes in mid-answer, again and again'() {
    const tab = await open();
    await tab.model('demo/story');
    await tab.say('Tell me a story');
    for (const transport of ['websocket', 'poll', 'sse', 'poll', 'websocket', 'sse']) {
      await tab.length((await tab.text()).length + 40);
      await tab.$('#transport').selectOption(transport);
      await tab.link(`^${NAMES[transport]}, resumed after`);
    }
    await tab.ended();
    await tab.isWhole();
    await tab.page.reload();
    await tab.link('^SSE');
    assert.equal(await tab.$('#transport').inputValue(), 'sse', 'the choice is kept');
    await tab.close();
  },
  async 'the server is killed in mid-answer, another one starts, and the text goes on once'() {
    const store = `${folder}/store`;
    rmSync(store, { recursive: true, force: true });
    let [base, server] = await serve(binary, '127.0.0.1:0', `disk:${store}`);
    const tab = await Tab.open(browser, base);
    await tab.story();
    server.kill('SIGKILL');
    await once(server, 'exit');
    const before = await tab.text();
    await tab.link('^connection lost after');
    await tab.page.screenshot({ path: `${folder}/lost.png` });
    [, server] = await serve(binary, base.slice('http://'.length), `disk:${store}`);
    await tab.length(before.length + 40);
    await tab.$('#log .note', { hasText: 'the server was restarted' }).waitFor();
    await tab.page.screenshot({ path: `${folder}/recovered.png` });
    await tab.ended();
    const events = await tab.isWhole();
    assert.ok((await tab.text()).startsWith(before));
    assert.deepEqual(['run.recovered', 'text.started', 'run.completed'].map(type => of(events, type).length), [1, 1, 1]);
    tab.forgives(LOST);
    await tab.close();
    server.kill();
    await once(server, 'exit');
  },
  async 'the network is gone and comes back'() {
    const tab = await open();
    await tab.$('#transport').selectOption('websocket');
    await tab.story();
    await tab.$('#plug').click();
    await tab.context.setOffline(true);
    await tab.$('#plug').click();
    await tab.link('^connection lost after .*trying again');
    await tab.context.setOffline(false);
    await tab.link('^WebSocket, resumed after');
    await tab.ended();
    await tab.isWhole();
    tab.forgives(LOST);
    await tab.close();
  },
  async 'a proxy holds streams back: the page takes a socket, and the text comes word by word'() {
    const proxy = await holdingBack(true);
    const tab = await Tab.open(browser, proxy.base);
    await tab.model('demo/story');
    await tab.say('Tell me a story');
    await tab.link('^WebSocket.*SSE is held back on the way');
    await tab.length(200);
    await tab.page.screenshot({ path: `${folder}/fallback.png` });
    await tab.ended();
    await tab.isWhole();
    tab.forgives(LOST);
    await tab.close();
    proxy.close();
  },
  async 'a proxy holds streams back and lets no socket through: the page asks again and again'() {
    const proxy = await holdingBack(false);
    const tab = await Tab.open(browser, proxy.base);
    await tab.model('demo/story');
    await tab.say('Tell me a story');
    await tab.link('^long poll.*SSE is held back on the way; WebSocket does not get through');
    await tab.length(200);
    await tab.ended();
    await tab.isWhole();
    tab.forgives(/WebSocket connection|502/);
    await tab.close();
    proxy.close();
  },
  async 'a second device reads along, and cannot do more; the link is taken back'() {
    const tab = await open();
    await tab.story();
    await tab.$('#device').click();
    await tab.$('dialog button', { hasText: 'Make the link' }).click();
    const link = await tab.$('#device-link').inputValue();
    assert.match(link, /#\/[^?]+\?token=st_/);
    await tab.$('dialog .minted', { hasText: 'good for 1' }).waitFor();
    const other = await Tab.open(browser, url, { hash: link.slice(link.indexOf('#')), ...PHONE });
    await other.length(80);
    assert.ok(!other.page.url().includes('token'), 'the token leaves the address at once');
    assert.ok(!other.requests.slice(1).some(request => request.includes('token=')), 'and is sent in no URL');
    assert.equal(await other.$('#input').isDisabled(), true);
    for (const hidden of ['#stop', '#model', '#panels [data-go=sessions]']) {
      assert.equal(await other.$(hidden).isVisible(), false, hidden);
    }
    await other.page.reload();
    await tab.$('dialog[open]').press('Escape');
    await tab.say('with a lighthouse');
    for (const each of [tab, other]) await each.$('#log .user', { hasText: 'with a lighthouse' }).waitFor();
    await tab.ended();
    await other.ended();
    await tab.isWhole();
    assert.equal(await other.text(), await tab.text());
    await tab.$('#device').click();
    await tab.$('dialog button', { hasText: 'Make the link' }).click();
    const second = await tab.$('#device-link').inputValue();
    const third = await Tab.open(browser, url, { hash: second.slice(second.indexOf('#')) });
    await third.link('^SSE');
    await tab.$('dialog button', { hasText: 'Take back' }).click();
    await third.link('no longer good');
    third.forgives(/401/);
    // Elsewhere by the address: what the link allowed is left behind, and what it did not is there again.
    await third.page.evaluate(session => { location.hash = `#/${session}x`; }, tab.session());
    await third.link('no such session');
    await third.$('#session-list li').first().waitFor();
    // The link that was taken back may be refused once more, late.
    third.forgives(/40[14]/);
    await third.page.goBack();
    await third.link('^SSE');
    assert.equal(await third.$('#sessions').isVisible(), true, 'a link that is over does not bar the session');
    for (const each of [third, other, tab]) await each.close();
  },
  async 'a second device with everything steers, approves and stops for both'() {
    const tab = await open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.approve').waitFor();
    await tab.$('#device').click();
    await tab.$('dialog .choice', { hasText: 'Full' }).click();
    await tab.$('dialog button', { hasText: 'Make the link' }).click();
    const link = await tab.$('#device-link').inputValue();
    const other = await Tab.open(browser, url, { hash: link.slice(link.indexOf('#')), ...PHONE });
    await other.$('.approve').click();
    for (const each of [tab, other]) await each.$('#log .assistant > .text', { hasText: 'In Oslo it is' }).waitFor();
    await tab.ended();
    await other.say('And in Rome?');
    for (const each of [tab, other]) await each.$('#log .user', { hasText: 'And in Rome?' }).waitFor();
    await other.$('#stop').click();
    for (const each of [tab, other]) await each.ended();
    await tab.isWhole();
    assert.equal(await other.text(), textOf(await tab.log()));
    for (const each of [other, tab]) await each.close();
  },
  async 'the page stands at a path of another server, without a slash at its end'() {
    const { port: to, hostname: host } = new URL(url);
    const proxy = http.createServer((request, response) => {
      // As a router is nested: /ai is the page, /ai/ is nothing.
      if (!/^\/ai(\/.|$)/.test(request.url)) return response.writeHead(404).end();
      const path = request.url.slice('/ai'.length) || '/';
      const on = http.request({ host, port: to, path, method: request.method, headers: request.headers }, answer => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      on.on('error', () => response.destroy());
      response.on('close', () => on.destroy());
      request.pipe(on);
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const tab = await Tab.open(browser, `http://127.0.0.1:${proxy.address().port}`, { page: '/ai' });
    await tab.model('demo/echo');
    await tab.say(`${'x'.repeat(58)}😀 and more`);
    await tab.$('#log .assistant > .text', { hasText: 'and more' }).waitFor();
    assert.equal(new URL(tab.page.url()).pathname, '/ai');
    await tab.page.reload();
    await tab.$('#log .assistant > .text', { hasText: 'and more' }).waitFor();
    await tab.$('#device').click();
    await tab.$('dialog button', { hasText: 'Make the link' }).click();
    assert.match(await tab.$('#device-link').inputValue(), /\/ai#\//);
    // A browser looks ahead before the script has said where the page's files are, and asks for them again.
    tab.forgives(/404/);
    await tab.close();
    proxy.closeAllConnections();
    proxy.close();
  },
  async 'a server with keys asks for one, and takes no wrong one'() {
    const [base, server] = await serve(binary, '127.0.0.1:0', 'memory', '--api-key', 'sk_playground-0123456789');
    const tab = await Tab.open(browser, base);
    const key = tab.$('#key');
    await key.press('Escape');
    await tab.$('#session-note', { hasText: 'cannot be read' }).waitFor();
    await tab.page.waitForTimeout(6_000);
    assert.equal(await key.count(), 0, 'whoever closes the question has answered it');
    await tab.page.reload();
    await key.fill('sk_wrong-0123456789');
    await key.press('Enter');
    await key.waitFor({ state: 'detached' });
    await tab.page.reload();
    await key.fill('sk_playground-0123456789');
    await key.press('Enter');
    await tab.model('demo/echo');
    await tab.say('hello behind a key');
    await tab.$('#log .assistant > .text', { hasText: 'hello behind a key' }).waitFor();
    await tab.ended();
    await tab.page.reload();
    await tab.$('#log .assistant > .text', { hasText: 'hello behind a key' }).waitFor();
    const kept = await tab.page.evaluate(() => [document.cookie, Object.values(localStorage).join(), location.href].join());
    assert.ok(!kept.includes('sk_'), 'a key is in no cookie, no lasting store, no URL');
    await tab.$('#device').click();
    await tab.$('dialog button', { hasText: 'Make the link' }).click();
    const link = await tab.$('#device-link').inputValue();
    const other = await Tab.open(browser, base, { hash: link.slice(link.indexOf('#')) });
    await other.$('#log .assistant > .text', { hasText: 'hello behind a key' }).waitFor();
    assert.equal(await other.$('#key').count(), 0);
    tab.forgives(/40[13]|429/);
    for (const each of [other, tab]) await each.close();
    server.kill();
    await once(server, 'exit');
  },
};

await run(browser, tests, only);
