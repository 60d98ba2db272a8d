// Drives the playground in a real browser against a real server: node page.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { launch, of, post, run, serve, textOf } from './common.mjs';
import { DESKTOP, PHONE, Tab } from './tab.mjs';

const [executablePath, binary, shots, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const browser = await launch(executablePath);
const [url] = await serve(binary, '127.0.0.1:0', 'memory');
const open = options => Tab.open(browser, url, options);

const tests = {
  async 'typed words are sent, the answer streams and is the log'() {
    const tab = await open();
    await tab.story();
    assert.equal(await tab.$('#send').textContent(), 'Steer');
    const early = (await tab.text()).length;
    await tab.length(early + 80);
    await tab.ended();
    await tab.isWhole();
    assert.equal(await tab.$('.text.open').count(), 0, 'no cursor blinks in a text that has ended');
    await tab.close();
  },
  async 'a starter begins, and reasoning is folded away'() {
    const tab = await open();
    await tab.$('#starters >> text=Why is the sea').click();
    await tab.$('.reasoning summary', { hasText: 'Thinking' }).waitFor();
    await tab.$('.reasoning summary', { hasText: /Thought \d+ words/ }).waitFor();
    assert.equal(await tab.$('.reasoning .text').isVisible(), false);
    await tab.$('.reasoning summary').click();
    assert.equal(await tab.$('.reasoning .text').isVisible(), true);
    await tab.ended();
    const events = await tab.isWhole();
    const thought = of(events, 'reasoning.delta').map(event => event.text).join('');
    assert.equal(await tab.$('.reasoning .text').textContent(), thought);
    await tab.close();
  },
  async 'Stop stops: no token after run.cancelled; it can be tried again'() {
    const tab = await open();
    await tab.story();
    const asked = tab.page.waitForRequest(request => request.url().endsWith('/control'));
    await tab.$('#stop').click();
    assert.match((await asked).postData(), /"run_id":"run_/, 'one that arrives late stops nothing that began after it');
    await tab.$('#log .note', { hasText: 'stopped here' }).waitFor();
    const events = await tab.isWhole();
    const end = events.findIndex(event => event.type === 'run.cancelled');
    assert.ok(end > 0 && of(events, 'run.completed').length === 0);
    assert.equal(textOf(events.slice(end)), '');
    await tab.page.waitForTimeout(500);
    assert.equal((await tab.log()).length, events.length);
    assert.equal(await tab.$('#stop').isVisible(), false);
    await tab.$('.ending button', { hasText: 'Try again' }).click();
    await tab.$('.rolled-back .note', { hasText: 'taken back' }).waitFor();
    await tab.$('#input').press('Escape');
    await tab.$('#log .note', { hasText: /^■ stopped here/ }).waitFor();
    assert.equal(of(await tab.log(), 'run.cancelled').length, 2, 'Escape stops, too');
    await tab.close();
  },
  async 'a steer turns the running answer'() {
    const tab = await open();
    await tab.story();
    await tab.say('with a lighthouse');
    await tab.$('#log .user', { hasText: 'with a lighthouse' }).waitFor();
    await tab.$('#log .note', { hasText: 'steered here' }).waitFor();
    await tab.ended();
    const events = await tab.isWhole();
    assert.equal(of(events, 'run.started').length, 1);
    assert.match(textOf(events), /lighthouse/);
    const live = await tab.shown();
    await tab.page.reload();
    await tab.length(textOf(events).length);
    assert.equal(await tab.shown(), live, 'a reload shows the same');
    await tab.close();
  },
  async 'a steer for after the answer waits, is taken back, and another one has its turn'() {
    const tab = await open();
    await tab.story();
    await tab.$('#when').selectOption('next_run');
    await tab.say('and a sequel');
    await tab.$('.waits', { hasText: 'and a sequel' }).waitFor();
    await tab.$('.waits button').click();
    await tab.$('.waits').waitFor({ state: 'detached' });
    await tab.say('an epilogue');
    await tab.$('.waits', { hasText: 'waits its turn' }).waitFor();
    await tab.$('#log .user', { hasText: 'an epilogue' }).waitFor();
    assert.equal(await tab.$('#log .user', { hasText: 'and a sequel' }).count(), 0);
    assert.equal(of(await tab.log(), 'run.started').length, 2);
    await tab.$('#stop').click();
    await tab.close();
  },
  async 'an approval is edited, corrected and given'() {
    const tab = await open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    const edit = tab.$('.card textarea');
    await edit.waitFor();
    assert.deepEqual(JSON.parse(await edit.inputValue()), { city: 'Oslo' });
    await tab.$('.card', { hasText: /\d+ (min|s)( \d+ s)? left/ }).waitFor();
    await edit.fill('{"city"');
    await tab.$('.approve').click();
    await tab.$('.card .bad', { hasText: 'not JSON' }).waitFor();
    await edit.fill('{"city": 5}');
    await tab.$('.approve').click();
    await tab.$('.card .bad', { hasText: 'schema' }).waitFor();
    tab.forgives(/422/);
    await edit.fill('{"city": "Bergen"}');
    await edit.press('Control+Enter');
    await tab.$('#log .assistant > .text', { hasText: 'In Bergen it is' }).waitFor();
    await tab.ended();
    assert.deepEqual(of(await tab.log(), 'approval.resolved')[0].edited_arguments, { city: 'Bergen' });
    await tab.$('.card .state', { hasText: 'done' }).waitFor();
    const live = await tab.shown();
    await tab.page.reload();
    await tab.$('#log .assistant > .text', { hasText: 'In Bergen it is' }).waitFor();
    assert.equal(await tab.shown(), live, 'a reload shows the same');
    await tab.close();
  },
  async 'an approval is denied with a reason; a steer waits beside it and is taken back'() {
    const tab = await open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.deny').waitFor();
    await tab.say('and in Rome?');
    await tab.$('.waits', { hasText: 'and in Rome?' }).waitFor();
    await tab.page.reload();
    await tab.$('.deny').waitFor();
    await tab.$('.waits button').click();
    await tab.$('.waits').waitFor({ state: 'detached' });
    await tab.$('.card input').fill('it is private');
    await tab.$('.deny').click();
    await tab.$('#log .assistant > .text', { hasText: 'I was refused' }).waitFor();
    const events = await tab.log();
    const [resolved] = of(events, 'approval.resolved');
    assert.deepEqual([resolved.outcome, resolved.message], ['denied', 'it is private']);
    assert.equal(of(events, 'tool.started').length, 0);
    await tab.$('.card .state', { hasText: 'denied by user' }).waitFor();
    await tab.close();
  },
  async 'approved for the session, the next call asks nobody'() {
    const tab = await open();
    await tab.model('demo/tools');
    await tab.say('What is the weather in Oslo?');
    await tab.$('.always').click();
    await tab.$('#log .assistant > .text', { hasText: 'In Oslo it is' }).waitFor();
    await tab.ended();
    await tab.say('And in Oslo tomorrow?');
    await tab.page.waitForFunction(() => document.querySelectorAll('.card.completed').length === 2);
    assert.equal(await tab.$('.approve').count(), 0);
    await tab.close();
  },
  async 'a tool that the client runs is answered on the page'() {
    const tools = [{ name: 'get_weather', description: 'The weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } }];
    const { session_id } = await post(url, '/v1/sessions', { model: 'demo/assistant', input: 'What is the weather in Oslo?', tools });
    const tab = await open({ hash: `#/${session_id}` });
    await tab.$('.card .state', { hasText: 'waits for its output' }).waitFor();
    await tab.$('.card textarea').fill('{"weather":"raining frogs"}');
    await tab.$('.card button', { hasText: 'Give the output' }).click();
    await tab.$('#log .assistant > .text', { hasText: 'frogs' }).waitFor();
    assert.deepEqual(of(await tab.log(), 'tool.completed')[0].output, { weather: 'raining frogs' });
    await tab.close();
  },
  async 'a reload in mid-answer goes on from the snapshot'() {
    const tab = await open();
    await tab.story();
    const before = await tab.text();
    await tab.page.reload();
    await tab.length(before.length);
    assert.ok(tab.requests.some(request => request.includes('/events?from=snapshot')));
    assert.equal(await tab.$('#stop').isVisible(), true, 'it is known to be running');
    await tab.ended();
    const text = await tab.text();
    assert.ok(text.startsWith(before) && text.length > before.length);
    await tab.isWhole();
    await tab.close();
  },
  async 'a reader who scrolls up stays there, and comes back to the latest'() {
    const tab = await open({ viewport: { width: 1200, height: 360 } });
    await tab.story();
    const scroll = () => tab.page.evaluate(() => {
      const { scrollTop, scrollHeight, clientHeight } = document.querySelector('#scroll');
      return [scrollTop, scrollHeight - clientHeight - scrollTop];
    });
    await tab.length(500);
    assert.ok((await scroll())[1] < 60, 'the end is followed');
    await tab.$('#scroll').hover();
    await tab.page.mouse.wheel(0, -400);
    await tab.$('#latest').waitFor();
    const [at] = await scroll();
    await tab.length(700);
    assert.equal((await scroll())[0], at);
    await tab.$('#latest').click();
    assert.ok((await scroll())[1] < 60);
    await tab.$('#stop').click();
    await tab.close();
  },
  async 'foreign text stays text'() {
    const tab = await open();
    const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>&amp;</b>';
    await tab.model('demo/echo');
    await tab.say(evil);
    await tab.length(evil.length);
    assert.equal(await tab.text(), evil);
    const drawn = () => tab.$('#log img, #log script, #log b, #session-list img, #session-list b, #timeline img').count();
    assert.equal(await drawn(), 0);
    await tab.page.reload();
    await tab.length(evil.length);
    assert.equal(await tab.text(), evil);
    assert.equal(await drawn(), 0);
    assert.equal(await tab.page.title(), 'Steerage');
    await assert.rejects(tab.page.evaluate(() => { document.body.innerHTML = '<b>'; }), /TrustedHTML/, 'nothing can make it markup');
    tab.forgives(/TrustedHTML|Trusted Type/);
    await tab.close();
  },
  async 'a failure is said, live and after a reload'() {
    const tab = await open();
    await tab.model('demo/chaos');
    await tab.say('error');
    await tab.$('.ending .bad', { hasText: 'upstream_error' }).waitFor();
    await tab.$('.ending button', { hasText: 'Try again' }).waitFor();
    const live = await tab.shown();
    await tab.page.reload();
    await tab.$('.ending .bad', { hasText: 'upstream_error' }).waitFor();
    assert.equal(await tab.shown(), live);
    await tab.close();
  },
  async 'an unknown session is said; New begins another'() {
    const tab = await open({ hash: '#/nope' });
    await tab.link('no such session');
    tab.forgives(/404/);
    await tab.$('#fresh').click();
    await tab.model('demo/echo');
    await tab.say('hello');
    await tab.$('#log .assistant > .text', { hasText: 'hello' }).waitFor();
    assert.notEqual(tab.session(), 'nope');
    await tab.page.goBack();
    await tab.page.goBack();
    await tab.link('no such session');
    tab.forgives(/404/);
    await tab.close();
  },
  async 'sessions are listed with what they do, found, opened and deleted'() {
    const tab = await open();
    const name = `needle ${Date.now()}`;
    await tab.model('demo/tools');
    await tab.say(name);
    await tab.$('.approve').waitFor();
    const row = tab.$('#session-list li', { hasText: name });
    await row.locator('.about', { hasText: 'waiting · demo/tools' }).waitFor();
    await tab.$('#fresh').click();
    assert.equal(await tab.$('#empty').isVisible(), true);
    await tab.$('#search').fill('NEEDLE');
    await tab.page.waitForFunction(() => document.querySelectorAll('#session-list li').length === 1);
    await tab.$('#search').fill('nothing has this');
    await tab.$('#session-note', { hasText: 'Nothing found' }).waitFor();
    await tab.$('#search').fill('');
    await tab.$('#state-filter').selectOption('idle');
    await row.waitFor({ state: 'detached' });
    await tab.$('#state-filter').selectOption('waiting');
    await row.locator('.open').click();
    await tab.$('.approve').waitFor();
    const session = tab.session();
    await row.hover();
    await row.locator('.delete').click();
    await tab.$('dialog button', { hasText: 'Keep it' }).click();
    await row.hover();
    await row.locator('.delete').click();
    await tab.$('#delete-sure').click();
    await row.waitFor({ state: 'detached' });
    assert.equal((await fetch(`${url}/v1/sessions/${session}`)).status, 404);
    assert.equal(await tab.$('#empty').isVisible(), true);
    await tab.close();
  },
  async 'screenshots'() {
    for (const colorScheme of ['light', 'dark']) {
      for (const [size, options] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
        const tab = await open({ colorScheme, ...options, deviceScaleFactor: 2 });
        const name = `${size}-${colorScheme}`;
        const shot = async what => {
          await tab.page.screenshot({ path: `${shots}/${name}-${what}.png` });
          const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wide <= 0, `${name} ${what} scrolls sideways by ${wide}`);
        };
        await shot('empty');
        await tab.story();
        await tab.say('Put a lighthouse into it, please');
        await tab.$('#log .user', { hasText: 'lighthouse' }).waitFor();
        await tab.length(520);
        await shot('steered');
        if (size === 'phone') {
          for (const panel of ['Sessions', 'Timeline', 'Connect']) {
            await tab.$('#panels button', { hasText: panel }).click();
            await tab.page.waitForTimeout(300);
            await shot(panel.toLowerCase());
          }
          await tab.$('#panels button', { hasText: 'Sessions' }).click();
        }
        await tab.$('#fresh').click();
        await tab.model('demo/assistant');
        await tab.say('What is the weather in Lisbon?');
        await tab.$('.approve').waitFor();
        await shot('approval');
        await tab.$('.approve').click();
        await tab.$('#log .assistant > .text', { hasText: 'In Lisbon it is' }).waitFor();
        await tab.$('#plug').click();
        await tab.link('unplugged');
        await shot('unplugged');
        await tab.close();
      }
    }
  },
};

await run(browser, tests, only);
