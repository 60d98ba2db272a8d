// Drives the page in a real browser against a real server: node page.mjs URL CHROMIUM FOLDER-FOR-SCREENSHOTS BINARY [ONLY]
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { PATIENCE, launch, log as read, of, run, serve, textOf } from './common.mjs';

const [url, executablePath, shots, binary, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const browser = await launch(executablePath);
const log = (session, base = url) => read(base, session);

/** A page and the things that a person does on it. */
class Tab {
  static async open({ hash = '', base = url, ...options } = {}) {
    const tab = new Tab();
    tab.base = base;
    tab.context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    tab.context.setDefaultTimeout(PATIENCE);
    tab.page = await tab.context.newPage();
    tab.errors = [];
    tab.requests = [];
    tab.page.on('pageerror', error => tab.errors.push(String(error)));
    tab.page.on('console', message => message.type() === 'error' && tab.errors.push(message.text()));
    tab.page.on('request', request => tab.requests.push(request.url()));
    await tab.page.goto(base + '/' + hash);
    await tab.page.waitForFunction(() => document.querySelectorAll('#model option').length > 1);
    return tab;
  }
  $(selector, options) { return this.page.locator(selector, options); }
  model(name) { return this.$('#model').selectOption(name); }
  async say(text) { await this.$('#input').fill(text); await this.$('#input').press('Enter'); }
  session() { return new URL(this.page.url()).hash.slice(1); }
  text() { return this.page.evaluate(() => [...document.querySelectorAll('#log .text')].map(n => n.textContent).join('')); }
  length(least) {
    return this.page.waitForFunction(least => {
      const texts = [...document.querySelectorAll('#log .text')];
      return texts.reduce((sum, node) => sum + node.textContent.length, 0) >= least;
    }, least);
  }
  /** Until the run that has begun has ended. */
  async ended() {
    await this.page.waitForFunction(() => document.querySelectorAll('#log .user, #log .text').length > 0);
    await this.page.waitForFunction(() => document.querySelector('#stop').disabled);
  }
  async story() {
    await this.model('demo/story');
    await this.say('Tell me a story');
    await this.length(80);
  }
  shown() { return this.page.evaluate(() => document.querySelector('#log').innerText); }
  shot(name) { return this.page.screenshot({ path: `${shots}/${name}.png` }); }
  /** What every test ends with: the page's console is clean. */
  async close() { await this.context.close(); assert.deepEqual(this.errors, []); }
}

const tests = {
  async 'typed words are sent, the answer streams and is the log'() {
    const tab = await Tab.open();
    await tab.story();
    assert.equal(await tab.$('#send').textContent(), 'Steer');
    const early = (await tab.text()).length;
    await tab.length(early + 80);
    await tab.ended();
    const events = await log(tab.session());
    assert.equal(await tab.text(), textOf(events));
    assert.equal(await tab.$('#cursor').textContent(), events.at(-1).id);
    await tab.close();
  },
  async 'the plug is pulled in mid-answer and the text goes on once'() {
    const tab = await Tab.open();
    await tab.story();
    await tab.$('#plug').click();
    const [at, before] = [await tab.$('#cursor').textContent(), await tab.text()];
    await tab.page.waitForTimeout(1_000);
    assert.equal(await tab.text(), before, 'nothing comes through a pulled plug');
    await tab.$('#plug').click();
    await tab.page.waitForFunction(() => document.querySelector('#link').className === 'live');
    assert.match(await tab.$('#status').textContent(), new RegExp(`resumed from ${at.replace('.', '\\.')}$`));
    assert.ok(tab.requests.some(request => request.endsWith(`/events?after=${at}`)));
    await tab.ended();
    const text = await tab.text();
    assert.ok(text.startsWith(before) && text.length > before.length);
    assert.equal(text, textOf(await log(tab.session())));
    await tab.close();
  },
  async 'the server is killed in mid-answer, another one starts, and the text goes on once'() {
    const folder = `${shots}/store`;
    rmSync(folder, { recursive: true, force: true });
    let [base, server] = await serve(binary, '127.0.0.1:0', `disk:${folder}`);
    const tab = await Tab.open({ base });
    await tab.story();
    server.kill('SIGKILL');
    await once(server, 'exit');
    const before = await tab.text();
    await tab.page.waitForFunction(() => document.querySelector('#link').className === 'lost');
    [, server] = await serve(binary, base.slice('http://'.length), `disk:${folder}`);
    await tab.length(before.length + 40);
    await tab.shot('recovered');
    await tab.ended();
    const events = await log(tab.session(), base);
    assert.equal(await tab.text(), textOf(events));
    assert.ok((await tab.text()).startsWith(before));
    assert.deepEqual(['run.recovered', 'text.started', 'run.completed'].map(type => of(events, type).length), [1, 1, 1]);
    // A browser writes a refused connection to the console; nothing else may be there.
    tab.errors = tab.errors.filter(error => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING/.test(error));
    await tab.close();
    server.kill();
    await once(server, 'exit');
  },
  async 'Stop stops: no token after run.cancelled'() {
    const tab = await Tab.open();
    await tab.story();
    await tab.$('#stop').click();
    await tab.$('.note', { hasText: 'stopped' }).waitFor();
    const events = await log(tab.session());
    const end = events.findIndex(event => event.type === 'run.cancelled');
    assert.ok(end > 0 && of(events, 'run.completed').length === 0);
    assert.equal(textOf(events.slice(end)), '');
    await tab.page.waitForTimeout(500);
    assert.equal((await log(tab.session())).length, events.length);
    assert.equal(await tab.text(), textOf(events));
    assert.equal(await tab.$('.open').count(), 0, 'no cursor blinks in a text that has ended');
    await tab.close();
  },
  async 'a steer turns the running answer'() {
    const tab = await Tab.open();
    await tab.story();
    await tab.say('with a lighthouse');
    await tab.$('.user', { hasText: 'with a lighthouse' }).waitFor();
    await tab.ended();
    const events = await log(tab.session());
    assert.equal(of(events, 'run.started').length, 1);
    assert.match(textOf(events), /lighthouse/);
    assert.equal(await tab.text(), textOf(events));
    const live = await tab.shown();
    await tab.page.reload();
    await tab.length(textOf(events).length);
    assert.equal(await tab.shown(), live, 'a reload shows the same');
    await tab.close();
  },
  async 'an approval is edited, corrected and given'() {
    const tab = await Tab.open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    const edit = tab.$('.card textarea');
    await edit.waitFor();
    assert.deepEqual(JSON.parse(await edit.inputValue()), { city: 'Oslo' });
    await edit.fill('{"city"');
    await tab.$('.approve').click();
    await tab.$('.card .bad', { hasText: 'not JSON' }).waitFor();
    await edit.fill('{"city": 5}');
    tab.errors.length = 0;
    await tab.$('.approve').click();
    await tab.$('.card .bad', { hasText: 'schema' }).waitFor();
    // The refusal is a 422, which a browser also writes to its console.
    tab.errors = tab.errors.filter(error => !error.includes('422'));
    await edit.fill('{"city": "Bergen"}');
    await tab.$('.approve').click();
    await tab.$('.text', { hasText: 'In Bergen it is' }).waitFor();
    await tab.ended();
    const events = await log(tab.session());
    assert.deepEqual(of(events, 'approval.resolved')[0].edited_arguments, { city: 'Bergen' });
    const live = await tab.shown();
    await tab.page.reload();
    await tab.$('.text', { hasText: 'In Bergen it is' }).waitFor();
    assert.equal(await tab.shown(), live, 'a reload shows the same');
    await tab.close();
  },
  async 'an approval is denied; a steer waits beside it and is taken back'() {
    const tab = await Tab.open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.deny').waitFor();
    await tab.say('and in Rome?');
    await tab.$('.note', { hasText: 'waits: and in Rome?' }).waitFor();
    await tab.page.reload();
    await tab.$('.deny').waitFor();
    await tab.$('.note button').click();
    await tab.$('.note', { hasText: 'taken back' }).waitFor();
    await tab.$('.deny').click();
    await tab.$('.text', { hasText: 'I was refused' }).waitFor();
    const events = await log(tab.session());
    assert.equal(of(events, 'approval.resolved')[0].outcome, 'denied');
    assert.equal(of(events, 'tool.started').length, 0);
    await tab.close();
  },
  async 'a reload in mid-answer goes on from the snapshot'() {
    const tab = await Tab.open();
    await tab.story();
    const before = await tab.text();
    await tab.page.reload();
    await tab.length(before.length);
    assert.ok(tab.requests.at(-1).endsWith('/events?from=snapshot'));
    assert.equal(await tab.$('#stop').isDisabled(), false, 'it is known to be running');
    await tab.ended();
    const text = await tab.text();
    assert.ok(text.startsWith(before) && text.length > before.length);
    assert.equal(text, textOf(await log(tab.session())));
    await tab.close();
  },
  async 'a second tab joins in mid-answer and steers for both'() {
    const tab = await Tab.open();
    await tab.story();
    const other = await Tab.open({ hash: '#' + tab.session() });
    await other.length(80);
    await other.say('with a lighthouse');
    for (const each of [tab, other]) await each.$('.user', { hasText: 'with a lighthouse' }).waitFor();
    await tab.$('#stop').click();
    for (const each of [tab, other]) await each.$('.note', { hasText: 'stopped' }).waitFor();
    const text = textOf(await log(tab.session()));
    assert.equal(await tab.text(), text);
    assert.equal(await other.text(), text);
    await other.close();
    await tab.close();
  },
  async 'a cursor of another history is reset with a snapshot'() {
    const tab = await Tab.open();
    await tab.model('demo/echo');
    await tab.say('one two three');
    await tab.$('.text', { hasText: 'one two three' }).waitFor();
    await tab.ended();
    await tab.$('#plug').click();
    await tab.page.evaluate("cursor = 'aaaaaa.5'");
    await tab.$('#plug').click();
    await tab.page.waitForFunction(() => /snapshot/.test(document.querySelector('#status').textContent));
    assert.equal(await tab.text(), 'one two three');
    assert.equal(await tab.$('#cursor').textContent(), (await log(tab.session())).at(-1).id);
    await tab.close();
  },
  async 'foreign text stays text'() {
    const tab = await Tab.open();
    const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>&amp;</b>';
    await tab.model('demo/echo');
    await tab.say(evil);
    await tab.length(evil.length);
    assert.equal(await tab.text(), evil);
    assert.equal(await tab.$('#log img, #log script, #log b').count(), 0);
    await tab.page.reload();
    await tab.length(evil.length);
    assert.equal(await tab.text(), evil);
    assert.equal(await tab.page.title(), 'Steerage');
    await tab.close();
  },
  async 'a failure is said, live and after a reload'() {
    const tab = await Tab.open();
    await tab.model('demo/chaos');
    await tab.say('error');
    await tab.$('.note.bad', { hasText: 'upstream_error' }).waitFor();
    const live = await tab.shown();
    await tab.page.reload();
    await tab.$('.note.bad', { hasText: 'upstream_error' }).waitFor();
    assert.equal(await tab.shown(), live);
    await tab.close();
  },
  async 'an unknown session is said; New begins another'() {
    const tab = await Tab.open({ hash: '#nope' });
    await tab.page.waitForFunction(() => /no such session/.test(document.querySelector('#status').textContent));
    tab.errors = tab.errors.filter(error => !error.includes('404'));
    await tab.$('#fresh').click();
    await tab.model('demo/echo');
    await tab.say('hello');
    await tab.$('.text', { hasText: 'hello' }).waitFor();
    assert.notEqual(tab.session(), 'nope');
    await tab.close();
  },
  async 'screenshots'() {
    const sizes = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
    for (const colorScheme of ['light', 'dark']) {
      for (const [size, viewport] of Object.entries(sizes)) {
        const tab = await Tab.open({ colorScheme, viewport, isMobile: size === 'phone', deviceScaleFactor: 2 });
        const name = `${size}-${colorScheme}`;
        await tab.shot(`${name}-empty`);
        await tab.story();
        await tab.say('Put a lighthouse into it, please');
        await tab.$('.user', { hasText: 'lighthouse' }).waitFor();
        await tab.length(520);
        await tab.shot(`${name}-steered`);
        const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${name} scrolls sideways by ${wide}`);
        await tab.$('#fresh').click();
        await tab.model('demo/assistant');
        await tab.say('What is the weather in Lisbon?');
        await tab.$('.approve').waitFor();
        await tab.shot(`${name}-approval`);
        await tab.$('.approve').click();
        await tab.$('.text', { hasText: 'In Lisbon it is' }).waitFor();
        await tab.$('#plug').click();
        await tab.shot(`${name}-unplugged`);
        await tab.close();
      }
    }
  },
};

await run(browser, tests, only);
