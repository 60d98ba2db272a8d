// A page of the playground and the things that a person does on it, for the tests of the page.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { PATIENCE } from './common.mjs';

export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** What a browser writes to its console of a refusal or a lost connection; a test that wants one says which. */
export const LOST = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|WebSocket connection/;

export class Person {
  /** Opens the page at `base`, with `#hash` if there is one, on a device of its own. */
  static async at(browser, base, { hash = '', shots, ready = true, ...options } = {}) {
    const person = new Person();
    Object.assign(person, { base, shots, errors: [], requests: [] });
    if (shots) mkdirSync(shots, { recursive: true });
    person.context = await browser.newContext({ viewport: DESKTOP, ...options });
    person.context.setDefaultTimeout(PATIENCE);
    await person.attend(await person.context.newPage(), hash, ready);
    return person;
  }
  /** Everything that this page complains of: errors, and what its policy has refused. */
  async attend(page, hash, ready) {
    this.page = page;
    page.on('pageerror', error => this.errors.push(String(error)));
    page.on('console', message => message.type() === 'error' && this.errors.push(`${message.text()} ${message.location().url}`));
    page.on('request', request => this.requests.push(request.url()));
    await page.goto(`${this.base}/${hash}`);
    if (ready) await page.waitForFunction(() => document.querySelectorAll('#model option').length > 1);
  }
  $(selector, options) { return this.page.locator(selector, options); }
  press(key) { return this.page.keyboard.press(key); }
  model(name) { return this.$('#model').selectOption(name); }
  async say(text) { await this.$('#input').fill(text); await this.$('#input').press('Enter'); }
  id() { return decodeURIComponent(new URL(this.page.url()).hash.replace(/^#\//, '').split('?')[0]); }
  /** The words of the model, as they are shown. */
  text() {
    return this.page.evaluate(() =>
      [...document.querySelectorAll('#log article.assistant > .text')].map(node => node.textContent).join(''));
  }
  length(least) {
    return this.page.waitForFunction(least => [...document.querySelectorAll('#log article.assistant > .text')]
      .reduce((sum, node) => sum + node.textContent.length, 0) >= least, least);
  }
  shown() { return this.page.evaluate(() => document.querySelector('#log').innerText); }
  status(pattern) {
    return this.page.waitForFunction(
      ([source, flags]) => new RegExp(source, flags).test(document.querySelector('#status').textContent), [pattern.source, pattern.flags]);
  }
  /** Until the run that has begun has ended. */
  async ended() {
    await this.page.waitForFunction(() => document.querySelector('#log article'));
    await this.$('#stop').waitFor({ state: 'hidden' });
    await this.page.waitForFunction(() => document.querySelector('#send').textContent === 'Send');
  }
  async story(text = 'Tell me a story') {
    await this.model('demo/story');
    await this.say(text);
    await this.length(80);
  }
  async shot(name) {
    if (this.shots) await this.page.screenshot({ path: `${this.shots}/${name}.png` });
  }
  /** A page that scrolls sideways has something that does not fit. */
  async fits() {
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `scrolls sideways by ${wide} px`);
  }
  /** Forgets the errors that the test has caused on purpose. */
  forgive(pattern) { this.errors = this.errors.filter(error => !pattern.test(error)); }
  /** What every test ends with: the page's console is clean. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.errors, []);
  }
}
