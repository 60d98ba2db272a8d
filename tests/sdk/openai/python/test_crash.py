"""The server is killed while it answers and another one starts on its store: the client goes on from the last number
that it has seen, and has the whole answer."""

import openai
import pytest

from harness import judge
from harness.server import of, text_of
from harness.upstream import words

QUESTION = "Tell me a story."


def pace(rate):
    return {"tokens_per_second": rate}


@pytest.fixture
def near(mortal):
    with openai.OpenAI(base_url=mortal.base_url, api_key="none", timeout=30) as client:
        yield client


def take(stream, least):
    """Events until the connection breaks, or there are so many."""
    seen = []
    for event in stream:
        seen.append(event.to_dict(mode="json"))
        if len(seen) >= least:
            break
    return seen


def test_killed_in_mid_answer(mortal, near):
    """The demo model says the same to the same question, so what was not disturbed is what has to come."""
    whole = near.responses.create(model="demo/story", input=QUESTION, extra_body=pace(5000)).output_text
    stream = near.responses.create(
        model="demo/story", input=QUESTION, background=True, stream=True, extra_body=pace(120))
    seen = take(stream, 30)
    mortal.kill()
    # What is left in the pipes is read, too.
    try:
        for event in stream:
            seen.append(event.to_dict(mode="json"))
    except Exception:  # noqa: BLE001
        pass
    assert seen[-1]["type"] not in judge.TERMINAL
    mortal.again()
    rest = near.responses.retrieve(
        seen[0]["response"]["id"], stream=True, starting_after=seen[-1]["sequence_number"])
    seen += [event.to_dict(mode="json") for event in rest]
    fold = judge.events(seen)
    assert fold.text == whole and fold.end["status"] == "completed"
    assert len(fold.end["output"]) == 1, "it goes on within its message"
    session = fold.end["conversation"]["id"]
    assert len(of(mortal.log(session), "run.recovered")) == 1
    # And whoever comes later has the same, event for event.
    assert [event.to_dict(mode="json") for event in near.responses.retrieve(fold.id, stream=True)] == seen


def test_killed_three_times(mortal, near):
    whole = near.responses.create(model="demo/story", input=QUESTION, extra_body=pace(5000)).output_text
    stream = near.responses.create(
        model="demo/story", input=QUESTION, background=True, stream=True, extra_body=pace(120))
    seen = []
    for _ in range(3):
        seen += take(stream, 40)
        mortal.kill()
        mortal.again()
        stream = near.responses.retrieve(
            seen[0]["response"]["id"], stream=True, starting_after=seen[-1]["sequence_number"])
    seen += [event.to_dict(mode="json") for event in stream]
    assert judge.events(seen).text == whole


def test_killed_under_a_poll(mortal, near):
    whole = near.responses.create(model="demo/story", input=QUESTION, extra_body=pace(5000)).output_text
    response = near.responses.create(model="demo/story", input=QUESTION, background=True, extra_body=pace(300))
    while len(near.responses.retrieve(response.id).output_text) < 200:
        pass
    mortal.kill()
    mortal.again()
    with near.responses.stream(response_id=response.id) as stream:
        assert stream.get_final_response().output_text == whole


def test_killed_while_a_model_of_somebody_else_answers(mortal, near, upstream, name):
    stream = near.responses.create(model="up/x", input=f"slow 60 {name}", background=True, stream=True)
    seen = take(stream, 20)
    mortal.kill()
    mortal.again()
    rest = near.responses.retrieve(seen[0]["response"]["id"], stream=True, starting_after=seen[-1]["sequence_number"])
    seen += [event.to_dict(mode="json") for event in rest]
    fold = judge.events(seen)
    assert fold.text == f"{words(60)}to the end of {name}."
    assert fold.end["status"] == "completed" and len(of(mortal.log(fold.end["conversation"]["id"]), "run.recovered")) == 1


def test_a_chat_that_was_killed_is_had_again(mortal, near):
    messages = [{"role": "user", "content": QUESTION}]
    whole = near.chat.completions.create(model="demo/story", messages=messages, extra_body=pace(5000))
    stream = near.chat.completions.create(model="demo/story", messages=messages, stream=True, extra_body=pace(120))
    seen = take(stream, 40)
    mortal.kill()
    mortal.again()
    rest = near.get(
        f"/chat/completions/{seen[0]['id']}", cast_to=openai.types.chat.ChatCompletionChunk, stream=True,
        stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
        options={"params": {"stream": "true", "starting_after": len(seen) - 1}})
    told = judge.chunks([*seen, *rest])
    assert told["text"] == whole.choices[0].message.content


def test_a_stream_that_is_cut_does_not_look_whole(mortal, near, name):
    """Who reads without knowing how to resume is not deceived."""
    stream = near.responses.create(model="up/x", input=f"hold {name}", stream=True)
    seen = take(stream, 5)
    mortal.kill()
    with pytest.raises(Exception):
        for event in stream:
            seen.append(event.to_dict(mode="json"))
    assert seen[-1]["type"] not in judge.TERMINAL
    mortal.again()
    with pytest.raises(Exception):
        stream = near.chat.completions.create(model="up/x", messages=[{"role": "user", "content": f"hold {name}"}], stream=True)
        for n, _ in enumerate(stream):
            if n == 1:
                mortal.process.kill()
    mortal.process.wait()


def test_what_is_over_is_there_after_a_crash(mortal, near, upstream, name):
    done = near.responses.create(model="up/x", input=f"think {name}", metadata={"who": "me"})
    held = near.responses.create(model="up/x", input=f"hold {name}", background=True)
    while not near.responses.retrieve(held.id).output_text:
        pass
    cancelled = near.responses.cancel(held.id)
    mortal.kill()
    mortal.again()
    assert near.responses.retrieve(done.id).to_dict(mode="json") == done.to_dict(mode="json")
    assert near.responses.retrieve(held.id).to_dict(mode="json") == cancelled.to_dict(mode="json")
    assert near.responses.cancel(held.id).to_dict(mode="json") == cancelled.to_dict(mode="json")
    after = near.responses.create(model="up/x", input=f"go on {name}", previous_response_id=done.id)
    assert after.output_text == f"You said go on {name}."
    assert len(upstream.about(f"hold {name}")) == 1, "what was cancelled is not begun again"


def test_an_approval_outlives_a_crash(mortal, near):
    first = near.responses.create(model="demo/tools", input="What is the weather in Lisbon?", extra_body=pace(300))
    [request] = [item for item in first.output if item.type == "mcp_approval_request"]
    mortal.kill()
    mortal.again()
    decided = near.responses.create(model="demo/tools", previous_response_id=first.id, input=[
        {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}])
    judge.response(decided)
    assert "In Lisbon it is" in decided.output_text
    log = mortal.log(first.conversation.id)
    assert len(of(log, "tool.started")) == 1 and decided.output_text in text_of(log)
