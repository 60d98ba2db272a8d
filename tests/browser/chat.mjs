// Drives the AI SDK chat in a real browser, through `vite preview`, against a real server:
// node chat.mjs CHROMIUM FOLDER-FOR-SCREENSHOTS BINARY [ONLY]
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { blank, launch, log, of, run, serve, textOf } from './common.mjs';
import { upstream } from './upstream.mjs';

const [executablePath, shots, binary, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const root = fileURLToPath(new URL('../../examples/ai-sdk-chat', import.meta.url));
const { preview } = await import(pathToFileURL(createRequire(`${root}/package.json`).resolve('vite')));

/** The built page before a server; its address. */
const previews = [];
async function page(server) {
  process.env.STEERAGE_URL = server;
  const started = await preview({ root, logLevel: 'silent', preview: { host: '127.0.0.1', port: 0 } });
  previews.push(started);
  return `http://127.0.0.1:${started.httpServer.address().port}`;
}

/** Breaks every connection of a page with its server. */
const cut = () => { for (const each of previews) each.httpServer.closeAllConnections(); };

const browser = await launch(executablePath);
const words = await upstream();
const [url] = await serve(binary, '127.0.0.1:0', 'memory', '--upstream', `local=${words.url}`);
const chat = await page(url);

/** A tab with the chat and the things that a person does on it. */
class Tab {
  static async open({ model = 'demo/assistant', hash = '', at = chat, base = url, deaf = false, ...options } = {}) {
    const tab = Object.assign(new Tab(), await blank(browser, { viewport: { width: 1280, height: 800 }, ...options }), { base, posts: [] });
    tab.page.on('request', request => request.url().endsWith('/chat') && tab.posts.push(request.postDataJSON()));
    if (deaf) await tab.page.addInitScript(() => { window.EventSource = class extends EventTarget { close() {} }; });
    await tab.page.goto(`${at}/?model=${model}${hash && '#' + hash}`);
    await tab.$('form input').waitFor();
    return tab;
  }
  $(selector, options) { return this.page.locator(selector, options); }
  async say(text) { await this.$('form input').fill(text); await this.$('form input').press('Enter'); }
  session() { return new URL(this.page.url()).hash.slice(1); }
  log() { return log(this.base, this.session()); }
  /** The text of the answers. */
  text() { return this.page.evaluate(() => [...document.querySelectorAll('.assistant p:not(.steer)')].map(n => n.textContent).join('')); }
  length(least) {
    return this.page.waitForFunction(least => [...document.querySelectorAll('.assistant p:not(.steer)')]
      .reduce((sum, node) => sum + node.textContent.length, 0) >= least, least);
  }
  /** Until nothing is streaming. The button is the composer's own sign of it. */
  async ended() { await this.$('form .send', { hasText: 'Send' }).waitFor(); await this.$('.again').waitFor(); }
  async story(text = 'Tell me a story') {
    await this.say(text);
    await this.length(80);
    return this.text();
  }
  shown() { return this.page.evaluate(() => document.querySelector('[role=log]').innerText); }
  shot(name) { return this.page.screenshot({ path: `${shots}/${name}.png` }); }
  /** Joins again in mid-answer, or after its end when nothing is replayed any more. */
  async reload({ replay = true } = {}) {
    if (!replay) await this.page.route('**/stream', route => route.fulfill({ status: 204 }));
    await this.page.reload();
    await this.$('form input').waitFor();
  }
  /** A browser writes what cannot be loaded to its console; nothing else may be there. */
  forgive(what) { this.errors = this.errors.filter(error => !what.test(error)); }
  /** What every test ends with: the page's console is clean. */
  async close() { await this.context.close(); assert.deepEqual(this.errors, []); }
}
const LOST = /ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED|ERR_EMPTY_RESPONSE|status of 50\d/;

/** A server whose sessions outlive it, and the page before it. */
async function durable(name) {
  const folder = `${shots}/${name}`;
  rmSync(folder, { recursive: true, force: true });
  let [base, process] = await serve(binary, '127.0.0.1:0', `disk:${folder}`);
  return {
    base, at: await page(base),
    async kill() { process.kill('SIGKILL'); await once(process, 'exit'); },
    async start() { [, process] = await serve(binary, base.slice('http://'.length), `disk:${folder}`); },
  };
}
/** The newest answer is `before` and what came after it, each word once, and nothing else is shown. */
async function whole(tab, before) {
  await tab.ended();
  const [text, events] = [await tab.text(), await tab.log()];
  assert.equal(text, textOf(events));
  assert.ok(text.startsWith(before) && text.length > before.length, 'it went on');
  assert.deepEqual(['run.started', 'text.started', 'run.completed'].map(type => of(events, type).length), [1, 1, 1]);
  assert.equal(await tab.$('.assistant').count(), 1);
  assert.equal(await tab.$('.streaming').count(), 0, 'no cursor blinks in a text that has ended');
  return events;
}

const tests = {
  async 'typed words are sent under their id, the answer streams and is the log'() {
    const tab = await Tab.open();
    const before = await tab.story();
    await tab.length(before.length + 80);
    const events = await whole(tab, before);
    const [said] = of(events, 'input.added');
    assert.deepEqual([said.message_id, said.content], [tab.posts[0].messages[0].id, 'Tell me a story']);
    await tab.close();
  },
  async 'a reload in mid-answer joins it, and the text is there once'() {
    const tab = await Tab.open();
    const before = await tab.story();
    await tab.reload();
    await tab.$('.stop').waitFor();
    await tab.length(before.length);
    assert.ok((await tab.text()).startsWith(before));
    await whole(tab, before);
    const live = await tab.shown();
    await tab.reload();
    await tab.ended();
    assert.equal(await tab.shown(), live, 'a reload after the end replays the same');
    await tab.reload({ replay: false });
    await tab.ended();
    assert.equal(await tab.shown(), live, 'and without a replay the snapshot has it');
    await tab.close();
  },
  async 'Stop closes the model call, what was said stays, and the next message works'() {
    const tab = await Tab.open({ model: 'local/words' });
    const before = await tab.story('Count');
    assert.equal(words.open.size, 1);
    const [answer] = await Promise.all([tab.page.waitForResponse('**/stop'), tab.$('.stop').click()]);
    assert.equal((await answer.json()).stopped, true);
    // The server has closed it before it answered; the other end hears of it a moment later.
    await new Promise(resolve => setTimeout(resolve, 100));
    assert.equal(words.open.size, 0, 'the model call is closed');
    await tab.ended();
    const events = await tab.log();
    assert.equal(of(events, 'run.cancelled').length, 1);
    assert.equal(await tab.text(), textOf(events), 'the page has all that the log has');
    assert.ok((await tab.text()).startsWith(before));
    assert.equal(await tab.$('.streaming').count(), 0);
    await tab.page.waitForTimeout(300);
    assert.equal((await tab.log()).length, events.length, 'nothing follows');
    await tab.say('Again');
    await tab.length(textOf(events).length + 40);
    await tab.$('.stop').click();
    await tab.ended();
    assert.equal(await tab.$('.assistant').count(), 2);
    assert.equal(await tab.text(), textOf(await tab.log()));
    assert.deepEqual(of(await tab.log(), 'input.added').map(e => e.content), ['Count', 'Again']);
    await tab.close();
  },
  async 'an approval is given: the tool and the answer are in the same message'() {
    const tab = await Tab.open();
    await tab.say('What is the weather in Oslo?');
    await tab.$('.approval-requested').waitFor();
    assert.match(await tab.$('.approval-requested pre').textContent(), /Oslo/);
    assert.equal(of(await tab.log(), 'tool.started').length, 0);
    await tab.$('menu button', { hasText: 'Approve' }).click();
    await tab.$('.output-available').waitFor();
    await tab.$('.assistant p', { hasText: 'In Oslo it is' }).waitFor();
    await tab.ended();
    const events = await tab.log();
    assert.equal(of(events, 'approval.resolved')[0].outcome, 'approved');
    assert.equal(of(events, 'tool.started').length, 1);
    assert.equal(await tab.$('.assistant').count(), 1);
    assert.equal(await tab.text(), textOf(events));
    assert.equal(tab.posts.length, 2, 'the decision is submitted once');
    const live = await tab.shown();
    for (const replay of [true, false]) {
      await tab.reload({ replay });
      await tab.ended();
      assert.equal(await tab.shown(), live, `replay: ${replay}`);
    }
    await tab.close();
  },
  async 'an approval is denied: the tool does not run, and the model says so'() {
    const tab = await Tab.open({ model: 'demo/tools' });
    await tab.say('What is the weather in Oslo?');
    await tab.$('menu button', { hasText: 'Deny' }).click();
    await tab.$('.output-denied').waitFor();
    await tab.$('.assistant p', { hasText: 'I was refused' }).waitFor();
    await tab.ended();
    const events = await tab.log();
    assert.equal(of(events, 'approval.resolved')[0].outcome, 'denied');
    assert.equal(of(events, 'tool.started').length, 0);
    assert.equal(await tab.text(), textOf(events));
    assert.equal(tab.posts.length, 2, 'the decision is submitted once');
    const live = await tab.shown();
    for (const replay of [true, false]) {
      await tab.reload({ replay });
      await tab.ended();
      assert.equal(await tab.shown(), live, `replay: ${replay}`);
    }
    await tab.close();
  },
  async 'two calls wait for two answers, one yes and one no'() {
    const tab = await Tab.open({ model: 'demo/chaos' });
    await tab.say('two_tools');
    await tab.page.waitForFunction(() => document.querySelectorAll('.approval-requested').length === 2);
    await tab.$('menu button', { hasText: 'Approve' }).first().click();
    await tab.$('.approval-responded').waitFor();
    assert.equal(tab.posts.length, 1, 'nothing is submitted while a call is undecided');
    await tab.$('menu button', { hasText: 'Deny' }).click();
    await tab.$('.output-available').waitFor();
    await tab.$('.output-denied').waitFor();
    await tab.ended();
    const events = await tab.log();
    assert.deepEqual(of(events, 'approval.resolved').map(e => e.outcome).sort(), ['approved', 'denied']);
    assert.equal(await tab.text(), textOf(events));
    await tab.close();
  },
  async 'a reload while the card waits shows it again, and it can be given'() {
    const tab = await Tab.open();
    await tab.say('What is the weather in Rome?');
    await tab.$('.approval-requested').waitFor();
    await tab.reload();
    await tab.$('.approval-requested').waitFor();
    assert.equal(await tab.$('.approval-requested').count(), 1);
    await tab.$('menu button', { hasText: 'Approve' }).click();
    await tab.$('.assistant p', { hasText: 'In Rome it is' }).waitFor();
    await tab.ended();
    assert.equal(await tab.$('.assistant').count(), 1);
    assert.equal(await tab.text(), textOf(await tab.log()));
    assert.equal(of(await tab.log(), 'run.started').length, 1);
    await tab.close();
  },
  async 'a message that is sent while the card waits takes its place'() {
    const tab = await Tab.open();
    await tab.say('What is the weather in Rome?');
    await tab.$('.approval-requested').waitFor();
    await tab.say('Never mind, tell me a story');
    await tab.$('.stop').waitFor();
    await tab.page.waitForFunction(() => document.querySelectorAll('.assistant').length === 2);
    await tab.length(120);
    await tab.$('.stop').click();
    await tab.ended();
    assert.equal(await tab.$('menu').count(), 0, 'it cannot be decided any more');
    const events = await tab.log();
    assert.equal(of(events, 'tool.started').length, 0);
    assert.equal(of(events, 'run.started').length, 2);
    assert.equal(of(events, 'approval.resolved').length, 1);
    await tab.reload();
    await tab.ended();
    assert.equal(await tab.$('.approval-requested').count(), 0);
    assert.equal(await tab.text(), textOf(events));
    await tab.close();
  },
  async 'a second tab follows in mid-answer, and its Stop is for both'() {
    const tab = await Tab.open();
    await tab.story();
    const other = await Tab.open({ hash: tab.session() });
    await other.length(120);
    await other.$('.stop').click();
    for (const each of [tab, other]) await each.ended();
    const text = textOf(await tab.log());
    assert.deepEqual([await tab.text(), await other.text()], [text, text]);
    assert.equal(await other.shown(), await tab.shown());
    await other.close();
    await tab.close();
  },
  async 'what is said and decided in another tab is followed by an idle one'() {
    const tab = await Tab.open();
    await tab.say('What is the weather in Lima?');
    await tab.$('.approval-requested').waitFor();
    const other = await Tab.open({ hash: tab.session() });
    await other.$('.approval-requested').waitFor();
    await tab.$('menu button', { hasText: 'Approve' }).click();
    for (const each of [tab, other]) await each.$('.assistant p', { hasText: 'In Lima it is' }).waitFor();
    for (const each of [tab, other]) await each.ended();
    await other.say('Tell me a story');
    await tab.$('.user', { hasText: 'Tell me a story' }).waitFor();
    await tab.$('.stop').click();
    for (const each of [tab, other]) await each.ended();
    const events = await tab.log();
    assert.equal(of(events, 'run.cancelled').length, 1);
    assert.deepEqual([await tab.text(), await other.text()], Array(2).fill(textOf(events)));
    assert.equal(await other.shown(), await tab.shown());
    assert.deepEqual([tab.posts.length, other.posts.length], [2, 1]);
    await other.close();
    await tab.close();
  },
  async 'a decision that comes too late tells what happened'() {
    const tab = await Tab.open();
    await tab.say('What is the weather in Lima?');
    await tab.$('.approval-requested').waitFor();
    const other = await Tab.open({ hash: tab.session(), deaf: true });
    await other.$('.approval-requested').waitFor();
    await tab.$('menu button', { hasText: 'Approve' }).click();
    await tab.$('.assistant p', { hasText: 'In Lima it is' }).waitFor();
    await other.$('menu button', { hasText: 'Deny' }).click();
    await other.$('.output-available').waitFor();
    for (const each of [tab, other]) await each.ended();
    assert.equal(await other.shown(), await tab.shown());
    assert.equal(of(await tab.log(), 'tool.started').length, 1);
    await other.close();
    await tab.close();
  },
  async 'the server is killed in mid-answer, another one starts, and a reload goes on once'() {
    const store = await durable('store-reload');
    const tab = await Tab.open(store);
    const before = await tab.story();
    await store.kill();
    await tab.$('[role=status]', { hasText: 'Coming back' }).waitFor();
    assert.ok((await tab.text()).startsWith(before), 'what was shown stays');
    await store.start();
    await tab.reload();
    const events = await whole(tab, before);
    assert.equal(of(events, 'run.recovered').length, 1);
    tab.forgive(LOST);
    await tab.close();
    await store.kill();
  },
  async 'the server is killed in mid-answer, another one starts, and the page comes back by itself'() {
    const store = await durable('store-alone');
    const tab = await Tab.open(store);
    const before = await tab.story();
    await store.kill();
    await tab.$('[role=status]', { hasText: 'Coming back' }).waitFor();
    await tab.page.waitForTimeout(1_500); // Long enough for a try that fails.
    await store.start();
    await tab.$('[role=status]').waitFor({ state: 'detached' });
    await tab.$('.stop').waitFor();
    assert.equal(of(await whole(tab, before), 'run.recovered').length, 1);
    tab.forgive(LOST);
    await tab.close();
    await store.kill();
  },
  async 'the network is gone in mid-answer and comes back with the tab'() {
    const tab = await Tab.open();
    const before = await tab.story();
    await tab.context.setOffline(true);
    cut(); // Offline is for what is asked for from now on only.
    await tab.$('[role=status]', { hasText: 'Coming back' }).waitFor();
    await tab.shot('lost');
    await tab.page.waitForTimeout(1_500);
    await tab.context.setOffline(false);
    await tab.page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await tab.$('[role=status]').waitFor({ state: 'detached' });
    await tab.$('.stop').waitFor();
    await whole(tab, before);
    tab.forgive(LOST);
    await tab.close();
  },
  async 'a message that cannot be sent is tried again'() {
    const tab = await Tab.open({ model: 'demo/echo' });
    await tab.context.setOffline(true);
    await tab.say('one two three');
    await tab.$('[role=alert]').waitFor();
    await tab.context.setOffline(false);
    await tab.$('[role=alert] button').click();
    await tab.$('.assistant p', { hasText: 'one two three' }).waitFor();
    await tab.ended();
    assert.deepEqual(of(await tab.log(), 'input.added').map(e => e.content), ['one two three']);
    assert.equal(await tab.$('.user').count(), 1);
    tab.forgive(LOST);
    await tab.close();
  },
  async 'an answer is regenerated: another one stands in its place'() {
    const tab = await Tab.open({ model: 'demo/story' });
    await tab.story('A short one');
    await tab.$('.stop').click();
    await tab.ended();
    const first = textOf(await tab.log());
    await tab.$('.again').click();
    await tab.$('.stop').waitFor();
    await tab.length(60);
    await tab.$('.stop').click();
    await tab.ended();
    const events = await tab.log();
    const begun = events.findLastIndex(e => e.type === 'run.started');
    assert.equal(of(events, 'run.started').length, 2);
    assert.equal(of(events, 'input.added').length, 1);
    assert.equal(events[begun].trigger, 'regenerate');
    assert.equal(await tab.text(), textOf(events.slice(begun)), 'only the new answer is shown');
    assert.equal(textOf(events.slice(0, begun)), first, 'and the old one stays in the log');
    const live = await tab.shown();
    for (const replay of [true, false]) {
      await tab.reload({ replay });
      await tab.ended();
      assert.equal(await tab.shown(), live, `replay: ${replay}`);
    }
    await tab.close();
  },
  async 'a steer turns the running answer, and its words stand where it turned'() {
    const tab = await Tab.open();
    const before = await tab.story();
    assert.equal(await tab.$('form .send').textContent(), 'Steer');
    await tab.say('with a lighthouse');
    await tab.$('.steer', { hasText: 'with a lighthouse' }).waitFor();
    await tab.ended();
    const events = await tab.log();
    assert.equal(of(events, 'run.started').length, 1);
    assert.equal(await tab.$('.assistant').count(), 1);
    assert.equal(await tab.text(), textOf(events));
    assert.ok((await tab.text()).startsWith(before));
    assert.match(await tab.$('.steer ~ p').first().textContent(), /lighthouse/);
    assert.equal(tab.posts.length, 1, 'it is no message of its own');
    const live = await tab.shown();
    for (const replay of [true, false]) {
      await tab.reload({ replay });
      await tab.ended();
      assert.equal(await tab.shown(), live, `replay: ${replay}`);
    }
    await tab.close();
  },
  async 'New chat begins another one, and Back leads to the first'() {
    const tab = await Tab.open({ model: 'demo/echo' });
    await tab.say('the first');
    await tab.ended();
    const first = tab.session();
    await tab.$('header a').click();
    await tab.$('.empty').waitFor();
    assert.notEqual(tab.session(), first);
    await tab.say('the second');
    await tab.$('.assistant p', { hasText: 'the second' }).waitFor();
    await tab.ended();
    assert.equal(await tab.text(), 'the second');
    await tab.page.goBack();
    await tab.$('.assistant p', { hasText: 'the first' }).waitFor();
    assert.equal(tab.session(), first);
    assert.equal(await tab.$('article').count(), 2);
    await tab.close();
  },
  async 'thoughts are folded'() {
    const tab = await Tab.open({ model: 'demo/reasoning' });
    await tab.say('Why do ships float?');
    await tab.$('summary', { hasText: 'Thinking' }).waitFor();
    await tab.ended();
    const thoughts = of(await tab.log(), 'reasoning.delta').map(e => e.text).join('');
    assert.equal(await tab.$('summary').textContent(), 'Thoughts');
    assert.equal(await tab.$('details[open]').count(), 0);
    await tab.$('summary').click();
    assert.equal(await tab.$('details').evaluate(node => node.lastChild.textContent), thoughts);
    assert.equal(await tab.text(), textOf(await tab.log()));
    await tab.close();
  },
  async 'a failure is said, and what was shown stays'() {
    const tab = await Tab.open({ model: 'demo/chaos' });
    await tab.say('error');
    await tab.$('[role=alert]').waitFor();
    const [events, shown] = [await tab.log(), await tab.$('[role=alert]').textContent()];
    assert.ok(shown.includes(of(events, 'run.failed')[0].message), shown);
    assert.equal(await tab.text(), textOf(events));
    assert.ok((await tab.text()).length > 0);
    await tab.shot('failure');
    await tab.page.waitForTimeout(1_500);
    assert.equal(of(await tab.log(), 'run.started').length, 1, 'it is not tried again by itself');
    await tab.close();
  },
  async 'a server that is away when the page is loaded is said'() {
    const tab = await Tab.open({ model: 'demo/echo' });
    await tab.say('hello');
    await tab.ended();
    await tab.page.route('**/v1/sessions/**', route => route.fulfill({ status: 502 }));
    await tab.page.reload();
    await tab.$('[role=alert]', { hasText: 'cannot be reached' }).waitFor();
    await tab.page.unroute('**/v1/sessions/**');
    await tab.$('[role=alert] button').click();
    await tab.$('.assistant p', { hasText: 'hello' }).waitFor();
    tab.forgive(LOST);
    await tab.close();
  },
  async 'screenshots'() {
    const sizes = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
    for (const colorScheme of ['light', 'dark']) {
      for (const [size, viewport] of Object.entries(sizes)) {
        const tab = await Tab.open({ colorScheme, viewport, isMobile: size === 'phone', deviceScaleFactor: 2 });
        const shot = async name => {
          await tab.shot(`${size}-${colorScheme}-${name}`);
          const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wide <= 0, `${size} ${colorScheme} ${name} scrolls sideways by ${wide}`);
        };
        await shot('empty');
        await tab.$('.empty button', { hasText: 'weather in Lisbon' }).click();
        await tab.$('.approval-requested').waitFor();
        await shot('approval');
        await tab.$('menu button', { hasText: 'Approve' }).click();
        await tab.$('.assistant p', { hasText: 'In Lisbon it is' }).waitFor();
        await tab.ended();
        await tab.say('Tell me a story');
        await tab.length(420);
        await tab.say('with a lighthouse');
        await tab.$('.steer').waitFor();
        await tab.length(760);
        await shot('steered');
        await tab.$('.stop').click();
        await tab.ended();
        await shot('stopped');
        await tab.close();
      }
    }
  },
};

await run(browser, tests, only);
