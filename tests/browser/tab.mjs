// A page of the playground and the things that a person does on it.
import assert from 'node:assert/strict';
import { blank, log, textOf } from './common.mjs';

export const DESKTOP = { viewport: { width: 1440, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

/** What the page says: the texts of the model's messages. */
const TEXTS = '#log article.assistant > .text';

export class Tab {
  static async open(browser, base, { hash = '', page = '/', ...options } = {}) {
    const tab = Object.assign(new Tab(), await blank(browser, options), { base, requests: [] });
    tab.page.on('request', request => tab.requests.push(request.url()));
    tab.page.on('websocket', socket => tab.requests.push(socket.url()));
    await tab.page.goto(base + page + hash);
    return tab;
  }
  $(selector, options) { return this.page.locator(selector, options); }
  async model(name) {
    await this.page.waitForFunction(() => document.querySelectorAll('#model option').length > 1);
    await this.$('#model').selectOption(name);
  }
  async say(text) { await this.$('#input').fill(text); await this.$('#input').press('Enter'); }
  session() { return new URL(this.page.url()).hash.slice(2); }
  log() { return log(this.base, this.session()); }
  text() { return this.page.evaluate(texts => [...document.querySelectorAll(texts)].map(n => n.textContent).join(''), TEXTS); }
  length(least) {
    return this.page.waitForFunction(([texts, least]) =>
      [...document.querySelectorAll(texts)].reduce((sum, node) => sum + node.textContent.length, 0) >= least, [TEXTS, least]);
  }
  /** Until the link says this. */
  link(words) {
    return this.page.waitForFunction(words => new RegExp(words).test(document.querySelector('#status').textContent), words);
  }
  /** Until the run that has begun has ended, and all of it is drawn. */
  async ended() {
    await this.$('#log article').first().waitFor();
    await this.page.waitForFunction(() => document.querySelector('#chat').getAttribute('aria-busy') === 'false');
  }
  async story() {
    await this.model('demo/story');
    await this.say('Tell me a story');
    await this.length(80);
  }
  /** The text on the page is that of the log, to the letter, and the page stands at its end. */
  async isWhole() {
    const events = await this.log();
    assert.equal(await this.text(), textOf(events));
    assert.equal(await this.$('#cursor').textContent(), events.at(-1).id);
    return events;
  }
  shown() { return this.page.evaluate(() => document.querySelector('#log').innerText); }
  /** What a browser writes to the console by itself when this happens. */
  forgives(pattern) { this.errors = this.errors.filter(error => !pattern.test(error)); }
  /** What every test ends with: the page's console is clean. */
  async close() { await this.context.close(); assert.deepEqual(this.errors, []); }
}
