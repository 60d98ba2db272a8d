// What the conversation and the list of sessions promise beyond the ways of page.mjs: cheap drawing, what runs out, fails
// and is taken back, the focus, and long lists: node conversation.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { launch, of, run, serve, textOf } from './common.mjs';
import { PHONE, Tab } from './tab.mjs';

const [executablePath, binary, shots, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const browser = await launch(executablePath);
const [url] = await serve(binary, '127.0.0.1:0', 'memory');
const open = options => Tab.open(browser, url, options);

async function ask(method, path, body) {
  const answer = await fetch(url + path, { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}
const create = body => ask('POST', '/v1/sessions', body).then(({ session_id }) => session_id);
const focused = tab => tab.page.evaluate(() => document.activeElement.id);
const said = (tab, text) => tab.$('article.assistant > .text', { hasText: text }).first();

const tests = {
  async 'models are grouped by who has them; a session keeps its own'() {
    const tab = await open();
    await tab.model('demo/echo');
    const groups = await tab.page.evaluate(() => [...document.querySelectorAll('#model optgroup')].map(group =>
      [group.label, [...group.children].map(option => option.value)]));
    const { data } = await ask('GET', '/v1/models');
    assert.deepEqual(groups.flatMap(([, ids]) => ids), data.map(({ id }) => id));
    assert.deepEqual(groups.map(([label]) => label), [...new Set(data.map(({ owned_by }) => owned_by))]);
    await tab.say('hello');
    await tab.ended();
    assert.equal((await ask('GET', `/v1/sessions/${tab.session()}`)).model, 'demo/echo');
    assert.ok(await tab.$('#model').isDisabled());
    await tab.close();
  },
  async 'each starter shows what it says'() {
    const tab = await open();
    const starter = name => tab.$('#starters button', { hasText: name }).click();
    await starter('Tell me a story');
    await tab.length(60);
    assert.ok(await tab.$('#empty').isHidden());
    await tab.$('#fresh').click();
    await starter('weather');
    await tab.$('.approve').waitFor();
    await tab.$('#fresh').click();
    await starter('salty');
    await tab.$('details.reasoning').waitFor();
    await tab.$('#fresh').click();
    await starter('fail');
    await tab.$('.ending', { hasText: 'upstream_error' }).waitFor();
    await tab.close();
  },
  async 'a token costs one append: nothing is drawn again, nothing moves'() {
    const tab = await open();
    await tab.story();
    const changes = await tab.page.evaluate(() => new Promise(resolve => {
      const seen = { text: 0, nodes: 0, moved: 0 };
      const top = () => document.querySelector('#form').getBoundingClientRect().top;
      const [before, first] = [top(), document.querySelector('article.assistant > .text').firstChild];
      new MutationObserver(records => {
        for (const { type } of records) seen[type === 'characterData' ? 'text' : 'nodes'] += 1;
        seen.moved = Math.max(seen.moved, Math.abs(top() - before));
      }).observe(document.querySelector('#log'), { subtree: true, childList: true, characterData: true });
      setTimeout(() => resolve({ ...seen, same: first === document.querySelector('article.assistant > .text').firstChild }), 1_500);
    }));
    assert.ok(changes.text > 10, JSON.stringify(changes));
    assert.deepEqual({ ...changes, text: 0 }, { text: 0, nodes: 0, moved: 0, same: true });
    await tab.$('#stop').click();
    await tab.ended();
    await tab.close();
  },
  async 'a steer that is taken back was never heard, and the focus is kept'() {
    const tab = await open();
    await tab.story();
    await tab.$('#when').selectOption('next_run');
    await tab.say('and then a dog');
    await tab.$('.waits', { hasText: 'and then a dog' }).waitFor();
    await tab.$('.waits button').focus();
    await tab.page.keyboard.press('Enter');
    await tab.$('.waits').waitFor({ state: 'detached' });
    assert.equal(await focused(tab), 'input');
    await tab.$('#stop').focus();
    await tab.page.keyboard.press('Enter');
    await tab.ended();
    assert.equal(await focused(tab), 'input');
    const events = await tab.isWhole();
    assert.equal(of(events, 'command.withdrawn')[0].content, 'and then a dog');
    assert.equal(of(events, 'input.added').length, 1);
    await tab.close();
  },
  async 'an approval is given from the keyboard, edited'() {
    const tab = await open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.approve').waitFor();
    await tab.page.keyboard.press('Alt+a');
    assert.match(await tab.page.evaluate(() => document.activeElement.className), /approve/);
    await tab.page.keyboard.press('Shift+Tab');
    await tab.page.keyboard.press('Control+a');
    await tab.page.keyboard.type('{"city": "Bergen"}');
    await tab.page.keyboard.press('Control+Enter');
    await said(tab, 'In Bergen it is').waitFor();
    assert.equal(await focused(tab), 'input', 'the focus goes on to the message');
    await tab.ended();
    assert.deepEqual(of(await tab.log(), 'approval.resolved')[0].edited_arguments, { city: 'Bergen' });
    await tab.close();
  },
  async 'an approval that nobody gives runs out of time, and looks so'() {
    const tools = [{ name: 'get_weather', executor: 'builtin', approval: 'always', approval_timeout_s: 4 }];
    const session = await create({ model: 'demo/assistant', tools, input: 'What is the weather in Oslo?' });
    const tab = await open({ hash: `#/${session}` });
    await tab.$('.asks .dim', { hasText: /^[1-4] s left$/ }).waitFor();
    await tab.$('.card.failed', { hasText: 'approval timed out' }).waitFor();
    assert.equal(await tab.$('.approve').count(), 0);
    await tab.close();
  },
  async 'a tool of the client fails in the words of the page'() {
    const tools = [{ name: 'get_weather', executor: 'client', parameters: { type: 'object', properties: { city: { type: 'string' } } } }];
    const session = await create({ model: 'demo/assistant', tools, input: 'What is the weather in Oslo?' });
    const tab = await open({ hash: `#/${session}` });
    await tab.$('.asks textarea').fill('no window here');
    await tab.$('.asks .main').click();
    await tab.$('.asks .bad', { hasText: 'not JSON' }).waitFor();
    await tab.$('.asks button', { hasText: 'It failed' }).click();
    await tab.$('.card.failed', { hasText: 'no window here' }).waitFor();
    assert.equal(of(await tab.log(), 'tool.failed')[0].message, 'no window here');
    await tab.ended();
    await tab.close();
  },
  async 'an answer that was taken back looks so, and one that is tried again'() {
    const tab = await open();
    await tab.story();
    await ask('POST', `/v1/sessions/${tab.session()}/control`, { type: 'cancel', mode: 'rollback' });
    await tab.$('article.rolled-back .note', { hasText: 'taken back' }).first().waitFor();
    assert.match(await tab.$('article.rolled-back > .text').first().evaluate(node => getComputedStyle(node).textDecorationLine), /line-through/);
    await tab.page.screenshot({ path: `${shots}/rolled-back.png` });
    await tab.close();
  },
  async 'the finished answer is read aloud once, and no token is'() {
    const tab = await open();
    await tab.page.evaluate(() => {
      window.heard = [];
      new MutationObserver(() => window.heard.push(document.querySelector('#announce').textContent))
        .observe(document.querySelector('#announce'), { childList: true, characterData: true, subtree: true });
    });
    await tab.model('demo/echo');
    await tab.say('one two three four five six seven eight');
    await tab.ended();
    await tab.page.waitForFunction(() => window.heard.some(text => text.startsWith('The answer is complete')));
    const heard = await tab.page.evaluate(() => window.heard.filter(text => text.includes('one two')));
    assert.deepEqual(heard, ['The answer is complete. one two three four five six seven eight']);
    assert.equal(await tab.$('#log[aria-live], #log [aria-live]').count(), 0);
    await tab.close();
  },
  async 'ten thousand tokens a second are drawn, and the page still answers'() {
    const tab = await open();
    await tab.model('demo/chaos');
    await tab.say('flood');
    await tab.length(20_000);
    const { frames, changes, grown } = await tab.page.evaluate(() => new Promise(resolve => {
      const took = [];
      const log = document.querySelector('#log');
      const before = log.textContent.length;
      let [last, changes] = [performance.now(), 0];
      new MutationObserver(records => { changes += records.length; })
        .observe(log, { subtree: true, childList: true, characterData: true });
      requestAnimationFrame(function step() {
        const now = performance.now();
        took.push(now - last);
        last = now;
        if (took.length < 60) requestAnimationFrame(step);
        else resolve({ frames: took.sort((a, b) => a - b), changes, grown: log.textContent.length - before });
      });
    }));
    await tab.$('#stop').click();
    await tab.ended();
    assert.equal(await tab.text(), textOf(await tab.log()));
    // How long a frame takes is the machine's matter, and printed; that tokens do not cost one change each is the page's.
    console.log(`        a frame took ${Math.round(frames[30])} ms; ${changes} changes for ${grown} characters in ${frames.length} frames`);
    assert.ok(grown > 1_000 && changes <= 3 * frames.length, `${changes} changes in ${frames.length} frames, ${grown} characters`);
    await tab.close();
  },
  async 'more sessions than a page are loaded when asked for; on a phone, too, one is found'() {
    const ids = await Promise.all(Array.from({ length: 56 }, (_, at) => create({ model: 'demo/echo', metadata: { title: `bulk ${at}` } })));
    const tab = await open();
    await tab.$('#more').waitFor();
    assert.equal(await tab.$('#session-list li').count(), 50);
    await tab.$('#more').click();
    await tab.page.waitForFunction(() => document.querySelectorAll('#session-list li').length > 55);
    await tab.close();
    const phone = await open(PHONE);
    await phone.$('#panels [data-go=sessions]').tap();
    await phone.$('#search').fill('bulk 55');
    await phone.$('#session-list .open').tap();
    await phone.page.waitForFunction(() => document.body.dataset.panel === 'chat');
    assert.equal(phone.session(), ids[55]);
    await phone.close();
    await Promise.all(ids.map(id => ask('DELETE', `/v1/sessions/${id}`)));
  },
};

await run(browser, tests, only);
