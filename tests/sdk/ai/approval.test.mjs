// A tool that needs a person's yes: the card, the answer to it, and every way in which an answer can come late.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ai5, ai6, ai7, ai7AsSuch, play } from './harness/stage.mjs';
import { counts, of } from './harness/server.mjs';
import { partsOf, textOf } from './harness/tab.mjs';
import { libraries } from './harness/oracle.mjs';

const body = { model: 'demo/tools', params: { tokens_per_second: 300 } };
const three = [ai7, ai7AsSuch, ai6];
const question = 'What is the weather in Lisbon?';
const whenDecided = stage => libraries[stage.dialect.version].lastAssistantMessageIsCompleteWithApprovalResponses;

/** A tab with a card, whose decision is sent at once. */
async function carded(stage, { asked = question, ...options } = {}) {
  const tab = stage.tab({ body, when: whenDecided(stage), ...options });
  await tab.say(asked);
  await tab.rests();
  return tab;
}

/** Another tab on the same chat, as a reload or a second window makes it. */
async function reloaded(stage, tab, messages = []) {
  const other = stage.tab({ id: tab.id, when: whenDecided(stage), messages: structuredClone(messages) });
  await other.resume();
  await other.rests();
  return other;
}

play('approval', {}, scene => {
  scene('the card is shown and the answer rests until it is decided', three, async stage => {
    const tab = await carded(stage);
    const [card] = tab.tools();
    assert.equal(card.type, 'tool-get_weather');
    assert.equal(card.state, 'approval-requested');
    assert.deepEqual(card.input, { city: 'Lisbon' });
    const [requested] = of(await tab.log(), 'approval.requested');
    assert.equal(card.approval.id, requested.approval_id);
    assert.equal(card.toolCallId, requested.call_id);
    assert.equal(tab.finishes.at(-1).finishReason, 'tool-calls');
    await tab.agrees();
  });

  scene('yes runs the tool, and the same message goes on', three, async stage => {
    const tab = await carded(stage);
    await tab.decide(true);
    await tab.settles(2);
    await sleep(200);
    assert.equal(tab.posts.length, 2, 'the decision is sent once');
    const events = await tab.log();
    assert.deepEqual(counts(events, 'tool.started', 'tool.completed', 'run.completed'), [1, 1, 1]);
    const [done] = tab.tools();
    assert.equal(done.state, 'output-available');
    assert.deepEqual(done.output, of(events, 'tool.completed')[0].output);
    assert.match(tab.text, /In Lisbon it is/);
    assert.equal(tab.answers.length, 1);
    assert.equal(tab.finishes.at(-1).finishReason, 'stop');
    await tab.agrees();
  });

  scene('no with a reason does not run it, and the model is told why', three, async stage => {
    const tab = await carded(stage);
    await tab.decide(false, 'too nosy');
    await tab.settles(2);
    const events = await tab.log();
    assert.equal(of(events, 'tool.started').length, 0);
    const [resolved] = of(events, 'approval.resolved');
    assert.deepEqual([resolved.outcome, resolved.message], ['denied', 'too nosy']);
    assert.equal(tab.tools()[0].state, 'output-denied');
    assert.match(tab.text, /refused .*too nosy/);
    assert.equal(tab.answers.length, 1);
    await tab.agrees();
    assert.equal(tab.posts.length, 2);
  });

  scene('a decision that is not sent by itself is sent by hand', three, async stage => {
    const tab = await carded(stage, { when: undefined });
    await tab.decide(true);
    await sleep(100);
    assert.equal(tab.posts.length, 1);
    await tab.chat.sendMessage();
    await tab.rests();
    assert.equal(tab.tools()[0].state, 'output-available');
    assert.match(tab.text, /In Lisbon it is/);
    await tab.agrees();
  });

  for (const decided of [true, false]) {
    scene(`a reload shows the card again, and it can be ${decided ? 'approved' : 'denied'}`, three, async stage => {
      const tab = await carded(stage);
      for (const messages of [[], tab.messages.slice(0, 1), tab.messages]) {
        const other = await reloaded(stage, tab, messages);
        assert.equal(other.asked, tab.asked);
        assert.equal(other.answer.id, tab.answer.id);
        assert.equal(other.answers.length, 1);
      }
      const other = await reloaded(stage, tab, tab.messages.slice(0, 1));
      await other.decide(decided);
      await other.settles(1);
      assert.equal(other.tools()[0].state, decided ? 'output-available' : 'output-denied');
      assert.match(other.text, decided ? /In Lisbon it is/ : /refused/);
      assert.equal(of(await tab.log(), 'tool.started').length, decided ? 1 : 0);
      assert.equal(other.answers.length, 1);
      await other.agrees();
      // The tab that was left behind learns it by a resume.
      await tab.resume();
      await tab.agrees();
      assert.equal(tab.text, other.text);
      assert.equal(tab.tools()[0].state, other.tools()[0].state);
    });

    for (const late of [true, false]) {
      scene(`${decided ? 'yes' : 'no'} decides, and a late ${late ? 'yes' : 'no'} from another tab shows what happened`, three,
        async stage => {
          const tab = await carded(stage);
          const other = await reloaded(stage, tab, tab.messages);
          await tab.decide(decided);
          await tab.settles(2);
          await other.decide(late, 'late');
          await other.settles(1);
          assert.equal(other.posts[0].status, 200);
          const events = await tab.log();
          assert.deepEqual(of(events, 'approval.resolved').map(event => event.outcome), [decided ? 'approved' : 'denied']);
          assert.equal(of(events, 'tool.started').length, decided ? 1 : 0);
          assert.equal(other.tools()[0].state, decided ? 'output-available' : 'output-denied');
          assert.equal(other.answers.length, 1);
          await Promise.all([tab.agrees(), other.agrees()]);
        });
    }
  }

  scene('two tabs decide at the same moment, and one of them has decided', three, async stage => {
    const tab = await carded(stage);
    const other = await reloaded(stage, tab, tab.messages);
    await Promise.all([tab.decide(true), other.decide(false)]);
    await Promise.all([tab.settles(2), other.settles(1)]);
    const events = await tab.log();
    const [resolved] = of(events, 'approval.resolved');
    assert.equal(of(events, 'approval.resolved').length, 1);
    assert.equal(of(events, 'tool.started').length, resolved.outcome === 'approved' ? 1 : 0);
    const state = resolved.outcome === 'approved' ? 'output-available' : 'output-denied';
    for (const each of [tab, other]) {
      assert.equal(each.tools()[0].state, state);
      await each.agrees();
    }
  });

  scene('the same decision sent many times at once has one effect', three, async stage => {
    const tab = await carded(stage);
    const others = await Promise.all(Array.from({ length: 5 }, () => reloaded(stage, tab, tab.messages)));
    await Promise.all([tab, ...others].map(each => each.decide(true)));
    await Promise.all([tab.settles(2), ...others.map(other => other.settles(1))]);
    assert.deepEqual(counts(await tab.log(), 'tool.started', 'approval.resolved'), [1, 1]);
    for (const each of [tab, ...others]) {
      await each.agrees();
      assert.equal(each.tools()[0].state, 'output-available');
      assert.equal(each.text, tab.text);
    }
  });

  scene('two cards are decided apart', three, async stage => {
    const tab = await carded(stage, { asked: 'two_tools', body: { ...body, model: 'demo/chaos' } });
    const [lisbon, oslo] = tab.tools('approval-requested').map(card => card.approval.id);
    await tab.chat.addToolApprovalResponse({ id: oslo, approved: false });
    await sleep(100);
    assert.equal(tab.posts.length, 1, 'one of two is not enough for the SDK to send');
    await tab.chat.addToolApprovalResponse({ id: lisbon, approved: true });
    await tab.settles(2);
    assert.deepEqual(tab.tools().map(part => part.state), ['output-available', 'output-denied']);
    assert.match(tab.text, /In Lisbon it is/);
    assert.equal(of(await tab.log(), 'tool.started').length, 1);
    await tab.agrees();
  });

  scene('one of two cards decided and sent leaves the other open', three, async stage => {
    const tab = await carded(stage, { asked: 'two_tools', body: { ...body, model: 'demo/chaos' }, when: undefined });
    const [lisbon, oslo] = tab.tools('approval-requested').map(card => card.approval.id);
    await tab.chat.addToolApprovalResponse({ id: lisbon, approved: true });
    await tab.chat.sendMessage();
    await tab.rests();
    assert.equal(tab.asked, oslo);
    assert.equal(tab.answers.length, 1);
    await tab.chat.addToolApprovalResponse({ id: oslo, approved: true });
    await tab.chat.sendMessage();
    await tab.rests();
    assert.deepEqual(tab.tools().map(part => part.state), ['output-available', 'output-available']);
    assert.match(tab.text, /Oslo/);
    await tab.agrees();
  });

  scene('a new question takes the place of an open card', three, async stage => {
    const tab = await carded(stage, { body: { ...body, model: 'demo/assistant' } });
    await tab.say('Tell me a story instead');
    await tab.rests();
    const said = await tab.agrees();
    assert.deepEqual(said.map(run => run.end.type), ['run.cancelled', 'run.completed']);
    const events = await tab.log();
    assert.equal(of(events, 'tool.started').length, 0);
    assert.deepEqual(of(events, 'approval.resolved').map(event => event.outcome), ['superseded']);
    assert.equal(tab.messages.length, 4);
  });

  scene('a tab that still shows a card which a new question has replaced decides in vain, once', three, async stage => {
    const tab = await carded(stage, { body: { ...body, model: 'demo/assistant' } });
    const other = await reloaded(stage, tab, tab.messages);
    await tab.say('Tell me a story instead');
    await other.decide(true);
    await other.settles(1);
    await sleep(300);
    assert.equal(other.posts.length, 1);
    assert.deepEqual(other.tools('approval-responded'), [], 'the card is closed');
    assert.equal(of(await tab.log(), 'tool.started').length, 0);
    await other.agrees();
  });

  scene('a steer while a card waits is taken in after the decision, in the same message', three, async stage => {
    const tab = await carded(stage);
    const receipt = await stage.server.control(tab.id, { type: 'steer', content: 'in verse' });
    assert.equal(receipt.json.status, 'accepted');
    await tab.decide(true);
    await tab.settles(2);
    const [part] = partsOf(tab.answer, 'data-steering');
    assert.equal(part.data.content, 'in verse');
    assert.equal(tab.tools()[0].state, 'output-available');
    assert.equal(tab.answers.length, 1);
    await tab.agrees();
  });

  scene('a decision that travels with the next question leaves nothing open', three, async stage => {
    const tab = await carded(stage, { body: { ...body, model: 'demo/assistant' }, when: undefined });
    await tab.decide(true);
    await tab.say('Tell me a story instead');
    await tab.rests();
    const said = await tab.agrees({ partial: [tab.answers[0].id] });
    assert.equal(said.length, 2);
    assert.ok(said.every(run => run.end));
    const events = await tab.log();
    assert.equal(of(events, 'approval.resolved').length, 1);
    assert.ok(of(events, 'tool.started').length <= 1);
  });

  for (const decided of [false, true]) {
    for (const anew of ['regenerate', 'edit']) {
      scene(`${anew} ${decided ? 'after' : 'before'} the decision shows a card of its own`, three, async stage => {
        const tab = await carded(stage);
        const old = tab.asked;
        if (decided) {
          await tab.decide(true);
          await tab.settles(2);
        }
        const messageId = tab.messages[0].id;
        if (anew === 'edit') await tab.chat.sendMessage({ text: 'What is the weather in Oslo?', messageId });
        else await tab.chat.regenerate();
        await tab.rests();
        assert.notEqual(tab.asked, old);
        assert.equal(tab.messages.length, 2);
        const posts = tab.posts.length;
        await tab.decide(true);
        await tab.settles(posts + 1);
        assert.match(tab.text, anew === 'edit' ? /In Oslo it is/ : /In Lisbon it is/);
        assert.equal(tab.messages.length, 2);
        await tab.agrees();
        assert.equal(of(await tab.log(), 'tool.started').length, decided ? 2 : 1);
      });
    }
  }

  scene('a stop withdraws the card', three, async stage => {
    const tab = await carded(stage);
    const stopped = await stage.server.stopChat(tab.id);
    assert.equal(stopped.json.stopped, true);
    const other = await reloaded(stage, tab, tab.messages.slice(0, 1));
    assert.deepEqual(other.tools('approval-requested'), []);
    // Whoever had not heard of it decides in vain, and is shown that.
    await tab.decide(true);
    await tab.settles(2);
    assert.equal(of(await tab.log(), 'tool.started').length, 0);
    assert.equal(tab.tools('approval-responded').length, 0, JSON.stringify(tab.tools()));
  });

  scene('a second tab learns who decided what', [ai7AsSuch], async stage => {
    const tab = await carded(stage);
    await tab.decide(false, 'not today');
    await tab.settles(2);
    const other = await reloaded(stage, tab);
    const [part] = other.tools();
    assert.equal(part.state, 'output-denied');
    assert.equal(part.approval.approved, false);
    assert.ok(stage.oracle.chunks.some(chunk => chunk.type === 'tool-approval-response'));
    assert.equal(textOf(other.answer), textOf(tab.answer));
  });

  // This version has no approvals. The card is a call without a result; our event says what is asked, and the native
  // door takes the answer.
  for (const decided of ['approve', 'deny']) {
    scene(`without approvals in the SDK, ${decided} goes by the native door`, [ai5], async stage => {
      const tab = stage.tab({ body });
      await tab.say(question);
      await tab.rests();
      assert.equal(tab.tools()[0].state, 'input-available');
      const asked = tab.data.find(part => part.data.type === 'approval.requested').data;
      const receipt = await stage.server.control(tab.id, { type: decided, approval_id: asked.approval_id });
      assert.equal(receipt.status, 200, receipt.text);
      await tab.resume();
      await tab.rests();
      const [part] = tab.tools();
      assert.equal(part.state, decided === 'approve' ? 'output-available' : 'output-error');
      assert.match(tab.text, decided === 'approve' ? /In Lisbon it is/ : /refused/);
      assert.equal(tab.messages.length, 2);
      await tab.agrees();
    });
  }
});
