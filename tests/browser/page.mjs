// The chat and the sessions of the page, as a person uses them, against a real server:
// node page.mjs URL CHROMIUM FOLDER-FOR-SCREENSHOTS BINARY [ONLY]
import assert from 'node:assert/strict';
import { launch, log as read, of, run, textOf } from './common.mjs';
import { DESKTOP, PHONE, Person } from './person.mjs';

const [url, executablePath, shots, , only] = process.argv.slice(2);
const browser = await launch(executablePath);
const log = session => read(url, session);
const open = options => Person.at(browser, url, { shots, ...options });

async function ask(method, path, body) {
  const answer = await fetch(url + path, { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}
const create = body => ask('POST', '/v1/sessions', body).then(({ session_id }) => session_id);
const control = (session, body) => ask('POST', `/v1/sessions/${session}/control`, body);

const tests = {
  async 'typed words are sent, the answer streams, is the log and outlives a reload'() {
    const person = await open();
    await person.story();
    assert.equal(await person.$('#send').textContent(), 'Steer');
    const early = (await person.text()).length;
    await person.length(early + 80);
    await person.page.reload();
    await person.length(early);
    assert.ok(person.requests.some(request => request.endsWith('/events?from=snapshot')));
    assert.ok(await person.$('#stop').isVisible(), 'it is known to be running');
    await person.ended();
    const events = await log(person.id());
    assert.equal(await person.text(), textOf(events));
    assert.equal(await person.$('#cursor').textContent(), events.at(-1).id);
    await person.close();
  },
  async 'models are grouped by who has them; a session keeps its own'() {
    const person = await open();
    const groups = await person.page.evaluate(() => [...document.querySelectorAll('#model optgroup')].map(group =>
      [group.label, [...group.children].map(option => option.value)]));
    const { data } = await ask('GET', '/v1/models');
    assert.deepEqual(groups.flatMap(([, ids]) => ids), data.map(({ id }) => id));
    assert.deepEqual(groups.map(([label]) => label), [...new Set(data.map(({ owned_by }) => owned_by))]);
    await person.model('demo/echo');
    await person.say('hello');
    await person.ended();
    assert.equal((await ask('GET', `/v1/sessions/${person.id()}`)).model, 'demo/echo');
    assert.ok(await person.$('#model').isDisabled());
    await person.close();
  },
  async 'the starters show a story, a question, thoughts and a failure'() {
    const person = await open();
    const starter = name => person.$('#starters button', { hasText: name });
    await starter('Tell me a story').click();
    await person.length(60);
    assert.ok(await person.$('#empty').isHidden());
    await person.$('#fresh').click();
    await starter('weather').click();
    await person.$('.approve').waitFor();
    await person.$('#fresh').click();
    await starter('salty').click();
    await person.$('details.reasoning').waitFor();
    await person.$('#fresh').click();
    await starter('fail').click();
    await person.$('.ending', { hasText: 'upstream_error' }).waitFor();
    await person.close();
  },
  async 'a token costs one append: nothing that stands is drawn again'() {
    const person = await open();
    await person.story();
    const changes = await person.page.evaluate(() => new Promise(resolve => {
      const seen = { text: 0, nodes: 0, moved: 0 };
      const top = document.querySelector('#form').getBoundingClientRect().top;
      new MutationObserver(records => {
        for (const { type } of records) seen[type === 'characterData' ? 'text' : 'nodes'] += 1;
        seen.moved = Math.max(seen.moved, Math.abs(document.querySelector('#form').getBoundingClientRect().top - top));
      }).observe(document.querySelector('#log'), { subtree: true, childList: true, characterData: true });
      setTimeout(() => resolve(seen), 1_500);
    }));
    assert.ok(changes.text > 10, JSON.stringify(changes));
    assert.deepEqual([changes.nodes, changes.moved], [0, 0], 'no element comes or goes, and the box stays where it is');
    await person.$('#stop').click();
    await person.ended();
    await person.close();
  },
  async 'Stop stops, by its button and by Escape: no token after run.cancelled'() {
    for (const by of ['#stop', 'Escape']) {
      const person = await open();
      await person.story();
      if (by === 'Escape') await person.press('Escape'); else await person.$(by).click();
      await person.$('.note', { hasText: 'stopped here' }).waitFor();
      const events = await log(person.id());
      const end = events.findIndex(event => event.type === 'run.cancelled');
      assert.ok(end > 0 && of(events, 'run.completed').length === 0);
      assert.equal(textOf(events.slice(end)), '');
      await person.page.waitForTimeout(300);
      assert.equal(await person.text(), textOf(await log(person.id())));
      assert.equal(await person.$('.text.open').count(), 0, 'no cursor blinks in a text that has ended');
      await person.$('.ending button', { hasText: 'Try again' }).click();
      await person.length(textOf(events).length + 40);
      await person.$('#stop').click();
      await person.ended();
      assert.equal(of(await log(person.id()), 'run.started').at(-1).trigger, 'regenerate');
      await person.close();
    }
  },
  async 'a steer turns the running answer, or waits for the next one'() {
    const person = await open();
    await person.story();
    await person.say('with a lighthouse');
    await person.$('article.user', { hasText: 'with a lighthouse' }).waitFor();
    await person.$('.note', { hasText: 'steered here' }).waitFor();
    await person.$('#when').selectOption('next_run');
    await person.say('and then a dog');
    await person.$('.waits', { hasText: 'and then a dog' }).waitFor();
    await person.$('.waits button').click();
    await person.$('.waits').waitFor({ state: 'detached' });
    await person.ended();
    const events = await log(person.id());
    assert.equal(of(events, 'run.started').length, 1);
    assert.equal(of(events, 'command.withdrawn')[0].content, 'and then a dog');
    assert.match(textOf(events), /lighthouse/);
    assert.equal(await person.text(), textOf(events));
    const live = await person.shown();
    await person.page.reload();
    await person.length(textOf(events).length);
    assert.equal(await person.shown(), live, 'a reload shows the same');
    await person.close();
  },
  async 'an approval is edited, corrected and given'() {
    const person = await open();
    await person.model('demo/tools');
    await person.say('What is the weather in Oslo?');
    const edit = person.$('.card textarea');
    await edit.waitFor();
    await person.$('.card .dim', { hasText: /\d+ (min|s).* left/ }).waitFor();
    assert.deepEqual(JSON.parse(await edit.inputValue()), { city: 'Oslo' });
    await edit.fill('{"city"');
    await person.$('.approve').click();
    await person.$('.card .bad', { hasText: 'not JSON' }).waitFor();
    await edit.fill('{"city": 5}');
    await person.$('.approve').click();
    await person.$('.card .bad', { hasText: 'schema' }).waitFor();
    await person.shot('refused');
    // The refusal is a 422, which a browser also writes to its console.
    person.forgive(/422/);
    await edit.fill('{"city": "Bergen"}');
    await edit.press('Control+Enter');
    await person.$('article.assistant > .text', { hasText: 'In Bergen it is' }).waitFor();
    await person.ended();
    assert.ok(await person.page.evaluate(() => document.activeElement.id === 'input'), 'the focus goes on to the message');
    assert.deepEqual(of(await log(person.id()), 'approval.resolved')[0].edited_arguments, { city: 'Bergen' });
    const live = await person.shown();
    await person.page.reload();
    await person.$('article.assistant > .text', { hasText: 'In Bergen it is' }).waitFor();
    assert.equal(await person.shown(), live, 'a reload shows the same');
    await person.close();
  },
  async 'an approval for the session is not asked for again'() {
    const person = await open();
    await person.model('demo/tools');
    await person.say('What is the weather in Oslo?');
    await person.$('.always').click();
    await person.$('article.assistant > .text', { hasText: 'In Oslo it is' }).waitFor();
    await person.ended();
    await person.say('What is the weather in Rome?');
    await person.$('article.assistant > .text', { hasText: 'In Rome it is' }).waitFor();
    assert.deepEqual(of(await log(person.id()), 'approval.resolved').map(event => event.scope), ['session', 'session']);
    await person.close();
  },
  async 'an approval is denied with a reason; a steer waits beside it and is taken back'() {
    const person = await open();
    await person.model('demo/tools');
    await person.say('What is the weather in Oslo?');
    await person.$('.deny').waitFor();
    await person.say('and in Rome?');
    await person.$('.waits', { hasText: 'and in Rome?' }).waitFor();
    await person.page.reload();
    await person.$('.deny').waitFor();
    await person.$('.waits button').click();
    await person.$('.waits').waitFor({ state: 'detached' });
    await person.$('.asks input').fill('too far north');
    await person.$('.deny').click();
    await person.$('article.assistant > .text', { hasText: 'I was refused' }).waitFor();
    const events = await log(person.id());
    const { outcome, message } = of(events, 'approval.resolved')[0];
    assert.deepEqual([outcome, message], ['denied', 'too far north']);
    assert.equal(of(events, 'tool.started').length, 0);
    await person.$('.card.failed', { hasText: 'denied by user' }).waitFor();
    await person.close();
  },
  async 'an approval that nobody gives runs out of time, and looks so'() {
    const tools = [{ name: 'get_weather', executor: 'builtin', approval: 'always', approval_timeout_s: 4 }];
    const session = await create({ model: 'demo/assistant', tools, input: 'What is the weather in Oslo?' });
    const person = await open({ hash: `#/${session}` });
    await person.$('.card .dim', { hasText: /^[1-4] s left$/ }).waitFor();
    await person.$('.card.failed', { hasText: 'approval timed out' }).waitFor();
    assert.equal(await person.$('.approve').count(), 0);
    await person.close();
  },
  async 'the page answers for a tool of the client, with an output and with an error'() {
    const tools = [{ name: 'get_weather', executor: 'client', parameters: { type: 'object', properties: { city: { type: 'string' } } } }];
    for (const fails of [false, true]) {
      const session = await create({ model: 'demo/assistant', tools, input: 'What is the weather in Oslo?' });
      const person = await open({ hash: `#/${session}` });
      const edit = person.$('.asks textarea');
      await edit.fill('{"temperature_c": 31');
      await person.$('.asks .main').click();
      await person.$('.asks .bad', { hasText: 'not JSON' }).waitFor();
      await edit.fill(fails ? 'no window here' : '{"city": "Oslo", "conditions": "hail", "temperature_c": 31}');
      await person.$(fails ? '.asks button:not(.main)' : '.asks .main').click();
      await person.$(fails ? '.card.failed' : '.card.completed').waitFor();
      await person.ended();
      const events = await log(session);
      if (fails) assert.equal(of(events, 'tool.failed')[0].message, 'no window here');
      else assert.equal(of(events, 'tool.completed')[0].output.conditions, 'hail');
      await person.close();
    }
  },
  async 'reasoning is folded away, with its length'() {
    const person = await open();
    await person.model('demo/reasoning');
    await person.say('Why is the sea salty?');
    await person.ended();
    const thought = of(await log(person.id()), 'reasoning.delta').map(event => event.text).join('');
    const words = thought.split(/\s+/).length;
    const summary = person.$('details.reasoning summary');
    assert.equal(await summary.innerText(), `Thought ${words} words`);
    assert.ok(await person.$('details.reasoning .text').isHidden());
    await summary.click();
    assert.equal(await person.$('details.reasoning .text').textContent(), thought);
    await person.close();
  },
  async 'a run that failed or was taken back looks so, live and after a reload'() {
    const person = await open();
    await person.model('demo/chaos');
    await person.say('error');
    await person.$('.ending .bad', { hasText: 'upstream_error' }).waitFor();
    await person.$('.note', { hasText: 'broke off here' }).waitFor();
    const live = await person.shown();
    await person.page.reload();
    await person.$('.ending .bad', { hasText: 'upstream_error' }).waitFor();
    assert.equal(await person.shown(), live);
    await person.$('.ending button').click();
    await person.page.waitForFunction(() => document.querySelectorAll('article.assistant').length === 2);
    await person.ended();
    await person.$('#fresh').click();
    await person.story();
    await control(person.id(), { type: 'cancel', mode: 'rollback' });
    await person.$('article.rolled-back .note', { hasText: 'taken back' }).first().waitFor();
    await person.shot('rolled-back');
    await person.close();
  },
  async 'foreign text stays text'() {
    const person = await open();
    const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>&amp;</b>';
    await person.model('demo/echo');
    await person.say(evil);
    await person.length(evil.length);
    assert.equal(await person.text(), evil);
    const elements = '#log img, #log script, #log article b, #session-list img, #session-list b';
    assert.equal(await person.$(elements).count(), 0);
    await person.$('#session-list .name', { hasText: '<img' }).waitFor();
    await person.page.reload();
    await person.length(evil.length);
    assert.equal(await person.text(), evil);
    assert.equal(await person.$(elements).count(), 0);
    assert.equal(await person.page.title(), 'Steerage');
    await person.close();
  },
  async 'the end is followed, until the reader scrolls up; a button leads back'() {
    const person = await open({ viewport: { width: 390, height: 420 } });
    const rest = () => person.page.evaluate(() => {
      const { scrollHeight, scrollTop, clientHeight } = document.querySelector('#scroll');
      return Math.round(scrollHeight - scrollTop - clientHeight);
    });
    await person.story();
    await person.length(700);
    assert.ok(await rest() < 60, 'it follows');
    await person.page.evaluate(() => { document.querySelector('#scroll').scrollTop = 0; });
    await person.$('#latest').waitFor();
    const text = (await person.text()).length;
    await person.length(text + 100);
    assert.equal(await person.page.evaluate(() => document.querySelector('#scroll').scrollTop), 0, 'the reader is left in peace');
    await person.$('#latest').click();
    await person.length(text + 250);
    assert.ok(await rest() < 60, 'it follows again');
    assert.ok(await person.$('#latest').isHidden());
    await person.close();
  },
  async 'sessions are listed by state, searched, opened and deleted'() {
    const waits = await create({ model: 'demo/tools', input: 'What is the weather in Oslo?', metadata: { title: 'needle Oslo' } });
    const idle = await create({ model: 'demo/echo', input: 'one two', metadata: { title: 'needle echo', owner: 'Zebra 7' } });
    for (const viewport of [DESKTOP, PHONE]) {
      const person = await open({ viewport });
      const row = text => person.$('#session-list li', { hasText: text });
      const sessions = () => viewport === PHONE && person.$('#panels [data-go=sessions]').click();
      await sessions();
      await person.$('#search').fill('needle');
      await row('needle Oslo').waitFor();
      assert.equal(await person.$('#session-list li').count(), 2);
      assert.match(await row('needle Oslo').textContent(), /waiting · \d+ s · demo\/tools/);
      await person.$('#state-filter').selectOption('waiting');
      await row('needle echo').waitFor({ state: 'detached' });
      assert.ok(await row('needle Oslo').isVisible());
      await person.$('#state-filter').selectOption('');
      for (const word of ['zebra', 'demo/echo', idle]) {
        await person.$('#search').fill(word);
        await row('needle echo').waitFor();
      }
      await row('needle echo').locator('.open').click();
      await person.$('article.assistant > .text', { hasText: 'one two' }).waitFor();
      assert.equal(person.id(), idle);
      await sessions();
      await person.$('#search').fill('nothing like this');
      await person.$('#session-note', { hasText: 'Nothing found' }).waitFor();
      await person.fits();
      await person.close();
    }
    const person = await open({ hash: `#/${waits}` });
    await person.$('#search').fill('needle Oslo');
    await person.$('#session-list .delete').click();
    await person.$('dialog button', { hasText: 'Keep it' }).click();
    assert.equal((await fetch(`${url}/v1/sessions/${waits}`)).status, 200);
    await person.$('#session-list .delete').click();
    await person.$('#delete-sure').click();
    await person.$('#session-note', { hasText: 'Nothing found' }).waitFor();
    assert.equal((await fetch(`${url}/v1/sessions/${waits}`)).status, 404);
    await person.$('#empty').waitFor();
    // The open stream ends with its session, and may ask once more.
    person.forgive(/404/);
    await person.close();
  },
  async 'more sessions than a page are loaded when asked for'() {
    const many = Array.from({ length: 56 }, (_, at) => create({ model: 'demo/echo', metadata: { title: `bulk ${at}` } }));
    const ids = await Promise.all(many);
    const person = await open();
    await person.$('#more').waitFor();
    assert.equal(await person.$('#session-list li').count(), 50);
    await person.$('#more').click();
    await person.page.waitForFunction(() => document.querySelectorAll('#session-list li').length > 55);
    await Promise.all(ids.map(id => ask('DELETE', `/v1/sessions/${id}`)));
    await person.close();
  },
  async 'an unknown session is said; New begins another'() {
    const person = await open({ hash: '#/nope' });
    await person.status(/no such session/);
    person.forgive(/404/);
    await person.$('#fresh').click();
    await person.model('demo/echo');
    await person.say('hello');
    await person.$('article.assistant > .text', { hasText: 'hello' }).waitFor();
    assert.notEqual(person.id(), 'nope');
    await person.page.goBack();
    await person.status(/no session/);
    await person.page.goForward();
    await person.$('article.assistant > .text', { hasText: 'hello' }).waitFor();
    person.forgive(/404/);
    await person.close();
  },
};

await run(browser, tests, only);
