// The page without a mouse, without sight, without motion, and small: axe-core in every state, the keyboard alone, and what
// a phone has room for: node access.mjs URL CHROMIUM FOLDER-FOR-SCREENSHOTS [ONLY]
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import axe from 'axe-core';
import { launch, of, run } from './common.mjs';
import { DESKTOP, PHONE, Tab } from './tab.mjs';

const [url, executablePath, shots, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const browser = await launch(executablePath);
const open = options => Tab.open(browser, url, options);

/** What axe finds on the page as it is now. Its script comes over the debugger, which no policy of a page forbids. */
async function findings(tab, rules) {
  if (!await tab.page.evaluate(() => 'axe' in window)) await tab.page.evaluate(axe.source);
  const before = tab.errors.length;
  const { violations } = await tab.page.evaluate(rules => window.axe.run(document, {
    resultTypes: ['violations'], ...rules && { runOnly: rules },
  }), rules);
  // It measures with styles of its own, which the page's policy refuses.
  await tab.page.evaluate(() => new Promise(requestAnimationFrame));
  tab.errors.push(...tab.errors.splice(before).filter(error => !error.includes('Applying inline style')));
  return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${node.target.join(' ')}: ${node.any.concat(node.all, node.none).map(check => check.message).join('; ')}`));
}
async function isFine(tab, state, rules) {
  assert.deepEqual(await findings(tab, rules), [], state);
  const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${state} scrolls sideways by ${wide} px`);
}
const focused = tab => tab.page.evaluate(() => {
  const { id, className, textContent } = document.activeElement;
  return id || className || textContent.trim();
});
/** Presses Tab until that has the focus, and sees that what has it shows it. */
async function tabTo(tab, selector, key = 'Tab') {
  for (let presses = 0; presses < 200; presses += 1) {
    if (await tab.page.evaluate(selector => document.activeElement.matches(selector), selector)) return;
    await tab.page.keyboard.press(key);
    const seen = await tab.page.evaluate(() => {
      const { activeElement: node } = document;
      if (node === document.body || node.id === 'input') return true;
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      return outlineStyle !== 'none' && outlineWidth !== '0px' && node.checkVisibility() || node.outerHTML.slice(0, 120);
    });
    assert.equal(seen, true, 'the focus is seen');
  }
  assert.fail(`no way by ${key} to ${selector}`);
}

/** Every state that the page has. `rules` are those of axe where not all of them are looked at. */
async function states(name, options, rules) {
  const tab = await open(options);
  const small = options.isMobile;
  const go = panel => small ? tab.$(`#panels [data-go=${panel}]`).click() : tab.$(`#tab-${panel}`).click();
  const fine = async state => {
    await isFine(tab, `${name} ${state}`, rules);
    await tab.page.screenshot({ path: `${shots}/access-${name}-${state}.png` });
  };
  await tab.page.waitForFunction(() => document.querySelectorAll('#model option').length > 1);
  await fine('empty');
  await tab.story();
  await tab.$('#when').selectOption('next_run');
  await tab.say('And then a dog');
  await tab.$('.waits').waitFor();
  await fine('streaming');
  await go('timeline');
  await tab.page.waitForFunction(() => document.querySelectorAll('#timeline [role=row]').length > 3);
  await fine('timeline');
  await go('connect');
  await tab.$('#connect-panel').waitFor();
  await fine('connect');
  if (small) await go('chat');
  await tab.$('#device').click();
  await tab.$('dialog .main').click();
  await tab.$('#device-link').waitFor();
  await fine('device');
  await tab.page.keyboard.press('Escape');
  await tab.$('dialog[open]').waitFor({ state: 'detached' });
  await tab.$('#stop').click();
  await tab.$('#log .note', { hasText: 'stopped here' }).waitFor();
  await fine('stopped');
  await tab.$('#plug').click();
  await tab.link('unplugged');
  await fine('unplugged');
  if (small) await go('sessions');
  await tab.$('#session-list .open').first().waitFor();
  await fine('sessions');
  if (!small) await tab.$('#session-list li').first().hover();
  await tab.$('#session-list .delete').first().click();
  await fine('delete');
  await tab.page.keyboard.press('Escape');
  await tab.$('#fresh').click();
  await tab.model('demo/tools');
  await tab.say('What is the weather in Lisbon?');
  await tab.$('.approve').waitFor();
  await fine('approval');
  await tab.$('.asks textarea').fill('{');
  await tab.$('.approve').click();
  await tab.$('.asks .bad', { hasText: 'not JSON' }).waitFor();
  await fine('refused');
  await tab.$('.deny').click();
  await tab.$('.card.failed').waitFor();
  await tab.ended();
  await fine('denied');
  if (!small) {
    await tab.$('#help').click();
    await fine('keys');
    await tab.page.keyboard.press('Escape');
  }
  if (small) await go('sessions');
  await tab.$('#fresh').click();
  await tab.model('demo/reasoning');
  await tab.say('Why is the sea salty?');
  await tab.ended();
  await tab.$('details.reasoning summary').click();
  await fine('reasoning');
  if (small) await go('sessions');
  await tab.$('#fresh').click();
  await tab.model('demo/chaos');
  await tab.say('error');
  await tab.$('.ending .bad').waitFor();
  await fine('failed');
  await tab.close();
}

const tests = {
  async 'axe finds nothing serious: desktop, light'() { await states('desktop-light', { ...DESKTOP, colorScheme: 'light' }); },
  // The dark page is the same page in other colours.
  async 'axe finds nothing serious: desktop, dark'() { await states('desktop-dark', { ...DESKTOP, colorScheme: 'dark' }, ['color-contrast']); },
  async 'axe finds nothing serious: phone, light'() { await states('phone-light', { ...PHONE, colorScheme: 'light' }); },
  async 'axe finds nothing serious: phone, dark'() { await states('phone-dark', { ...PHONE, colorScheme: 'dark' }, ['color-contrast']); },
  async 'keyboard alone: say, steer, stop, unplug, approve, another session, a panel'() {
    const tab = await open();
    const { keyboard } = tab.page;
    await tab.page.waitForFunction(() => document.querySelectorAll('#model option').length > 1);
    await keyboard.press('Tab');
    assert.equal(await focused(tab), 'skip');
    await keyboard.press('Enter');
    assert.equal(await focused(tab), 'input');
    await tabTo(tab, '#model');
    await keyboard.type('demo/story');
    await tabTo(tab, '#input', 'Shift+Tab');
    const title = `Tell me a story, ${Date.now()}`;
    await keyboard.type(title);
    await keyboard.press('Enter');
    await tab.length(80);
    assert.equal(await focused(tab), 'input');
    await keyboard.type('with a lighthouse');
    await keyboard.press('Enter');
    await tab.$('article.user', { hasText: 'with a lighthouse' }).waitFor();
    await tabTo(tab, '#plug', 'Shift+Tab');
    await keyboard.press('Enter');
    await tab.link('unplugged');
    assert.equal(await focused(tab), 'plug');
    await keyboard.press('Space');
    await tab.link('resumed after');
    await keyboard.press('Alt+p');
    await tab.link('unplugged');
    await keyboard.press('Alt+p');
    await tab.link('resumed after');
    await keyboard.press('/');
    assert.equal(await focused(tab), 'input');
    await keyboard.press('Escape');
    await tab.$('#log .note', { hasText: 'stopped here' }).waitFor();
    await tab.ended();
    const story = tab.session();
    await keyboard.press('Alt+n');
    assert.equal(await focused(tab), 'input');
    await tab.model('demo/tools');
    await tab.$('#input').focus();
    await keyboard.type('What is the weather in Oslo?');
    await keyboard.press('Enter');
    await tab.$('.approve').waitFor();
    await tabTo(tab, '.approve', 'Shift+Tab');
    await keyboard.press('Enter');
    await tab.$('.card.completed').waitFor();
    await tab.ended();
    assert.equal(of(await tab.log(), 'approval.resolved')[0].outcome, 'approved');
    await tabTo(tab, '#tab-timeline');
    await keyboard.press('ArrowRight');
    assert.equal(await focused(tab), 'tab-connect');
    assert.equal(await tab.$('#tab-connect').getAttribute('aria-selected'), 'true');
    assert.ok(await tab.$('#connect').isVisible());
    await tabTo(tab, '#search', 'Shift+Tab');
    await keyboard.type(title);
    await tabTo(tab, '#session-list .open');
    await keyboard.press('Enter');
    await tab.page.waitForFunction(id => location.hash.endsWith(id), story);
    await tab.close();
  },
  async 'a dialog takes the focus and gives it back'() {
    const tab = await open();
    await tab.story();
    await tab.$('#help').focus();
    await tab.page.keyboard.press('Enter');
    await tab.$('dialog', { hasText: 'Keyboard' }).waitFor();
    for (let at = 0; at < 4; at += 1) {
      await tab.page.keyboard.press('Tab');
      assert.ok(await tab.page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog')));
    }
    await tab.page.keyboard.press('Escape');
    assert.equal(await focused(tab), 'help');
    assert.ok(await tab.$('#stop').isVisible(), 'Escape closed the dialog, and not the answer');
    await tab.$('#device').focus();
    await tab.page.keyboard.press('Enter');
    await tab.page.keyboard.press('Escape');
    assert.equal(await focused(tab), 'device');
    await tab.$('#scroll').focus();
    await tab.page.keyboard.press('?');
    await tab.$('dialog', { hasText: 'Keyboard' }).waitFor();
    await tab.page.keyboard.press('Escape');
    await tab.$('#stop').click();
    await tab.ended();
    await tab.close();
  },
  async 'nothing moves for who wants no motion'() {
    const tab = await open({ reducedMotion: 'reduce' });
    await tab.story();
    const running = () => tab.page.evaluate(() => document.getAnimations().filter(({ playState }) => playState === 'running').length);
    assert.equal(await running(), 0);
    await tab.page.emulateMedia({ reducedMotion: 'no-preference' });
    assert.ok(await running() > 0, 'there is a motion to leave out');
    await tab.$('#stop').click();
    await tab.ended();
    await tab.close();
  },
  async 'what a finger hits is large enough, and the whole page fits from 320 px on'() {
    const tab = await open({ ...PHONE, viewport: { width: 320, height: 640 } });
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.approve').waitFor();
    const small = await tab.page.evaluate(() => [...document.querySelectorAll('button, select, summary')]
      .filter(node => node.checkVisibility() && node.getBoundingClientRect().width && !node.matches('.skip'))
      .map(node => [node.id || node.textContent, node.getBoundingClientRect()])
      .filter(([, { width, height }]) => width < 24 || height < 24).map(([name]) => name));
    assert.deepEqual(small, [], 'WCAG 2.2, 2.5.8: 24 px');
    await isFine(tab, '320 px');
    await tab.close();
  },
};

await run(browser, tests, only);
