"""Responses in one request: whole, streamed, through the helper, kept, read again and deleted."""

import json
import time
import urllib.request

import openai
import pydantic
import pytest
from openai.types import responses

from harness import judge
from harness.server import of, text_of
from harness.upstream import TRICKY, words

FEW = "These words come at once and then nothing more "


class City(pydantic.BaseModel):
    name: str
    people: int


def told(client, text, **more):
    return judge.events(client.responses.create(model="up/x", input=text, stream=True, **more))


def test_a_whole_response(client, upstream, name):
    response = client.responses.create(model="up/x", input=f"hello {name}")
    wire = judge.response(response)
    assert response.output_text == f"You said hello {name}."
    assert (response.status, response.model) == ("completed", "up/x")
    usage = wire["usage"]
    assert usage["input_tokens"] == 11 and usage["total_tokens"] == 11 + usage["output_tokens"]
    assert usage["input_tokens_details"]["cached_tokens"] == 0 and usage["output_tokens_details"]["reasoning_tokens"] == 0
    assert len(upstream.about(name)) == 1


def test_a_stream(client, name):
    fold = told(client, f"fast 30 {name}")
    assert fold.text == f"{words(30)}to the end of {name}."
    assert fold.end["status"] == "completed"
    kept = client.responses.retrieve(fold.id)
    assert kept.to_dict(mode="json") == fold.end


def test_the_helper(client, name):
    with client.responses.stream(model="up/x", input=f"fast 30 {name}") as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = f"{words(30)}to the end of {name}."
    assert final.output_text == text
    assert [event.snapshot for event in events if event.type == "response.output_text.delta"][-1] == text
    assert events[-1].type == "response.completed"


def test_the_helper_parses_what_is_structured(client, upstream):
    whole = '{"name":"Oslo","people":717710}'
    with client.responses.stream(model="up/x", input=f"verbatim {whole}", text_format=City) as stream:
        [done] = [event for event in stream if event.type == "response.output_text.done"]
        final = stream.get_final_response()
    assert done.parsed == City(name="Oslo", people=717710) == final.output_parsed
    assert upstream.about(whole)[-1].body["response_format"]["type"] == "json_schema"
    wire = client.responses.retrieve(final.id).to_dict(mode="json")
    assert wire["text"]["format"]["type"] == "json_schema", "the response says what it was asked for"


def test_a_whole_response_is_parsed(client):
    parsed = client.responses.parse(model="up/x", input='verbatim {"name":"Rome","people":1}', text_format=City)
    assert parsed.output_parsed == City(name="Rome", people=1)


def test_the_helper_has_tools(client):
    tool = openai.pydantic_function_tool(City)
    flat = {"type": "function", **tool["function"]}
    with client.responses.stream(model="up/x", input='call City {"name":"Bonn","people":2}', tools=[flat]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads(deltas[-1].snapshot) == {"name": "Bonn", "people": 2}
    [call] = final.output
    assert call.type == "function_call" and json.loads(call.arguments) == {"name": "Bonn", "people": 2}


def test_every_character_comes_through(client):
    assert told(client, "tricky").text == TRICKY
    assert client.responses.create(model="up/x", input="tricky").output_text == TRICKY


def test_reasoning_is_an_item_of_its_own(client, name):
    fold = told(client, f"think {name}")
    reasoning, message = fold.end["output"]
    assert (reasoning["type"], message["type"]) == ("reasoning", "message")
    assert reasoning["summary"] == []
    assert [part["text"] for part in reasoning["content"]] == [f"Let me think about {name}."]
    assert fold.text == f"I have thought about {name}."


@pytest.mark.parametrize("verb, reason", [("length", "max_output_tokens"), ("filter", "content_filter")])
def test_an_answer_that_was_cut_is_incomplete(client, name, verb, reason):
    fold = told(client, f"{verb} {name}")
    assert fold.end["status"] == "incomplete" and fold.end["incomplete_details"]["reason"] == reason
    assert fold.text == FEW and fold.end["output"][0]["status"] == "incomplete"
    whole = client.responses.create(model="up/x", input=f"{verb} {name}")
    judge.response(whole)
    assert whole.status == "incomplete" and whole.output_text == FEW


def test_the_model_is_told_everything(client, upstream, name):
    response = client.responses.create(
        model="up/x",
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Speak of the sea."},
            {"role": "user", "content": "One?"},
            {"type": "message", "role": "assistant", "content": "One."},
            {"role": "user", "content": [{"type": "input_text", "text": "And two"}, {"type": "input_text", "text": name}]},
        ],
        temperature=0.25, top_p=0.5, max_output_tokens=99, reasoning={"effort": "low"}, text={"verbosity": "low"},
        metadata={"who": "me"}, parallel_tool_calls=False, truncation="auto", user="someone", extra_body={"top_k": 3},
    )
    [asked] = upstream.about(name)
    roles = [message["role"] for message in asked.messages]
    assert roles[0] in ("system", "developer") and roles[-3:] == ["user", "assistant", "user"]
    said = json.dumps(asked.messages)
    assert "Be brief." in said and "Speak of the sea." in said and asked.last == f"And two\n{name}"
    body = asked.body
    assert (body["temperature"], body["top_p"]) == (0.25, 0.5)
    assert 99 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert (body["reasoning_effort"], body["verbosity"], body["top_k"]) == ("low", "low", 3)
    wire = judge.response(response)
    echo = {"instructions": "Be brief.", "temperature": 0.25, "top_p": 0.5, "max_output_tokens": 99,
            "metadata": {"who": "me"}, "parallel_tool_calls": False, "truncation": "auto"}
    assert {key: wire[key] for key in echo} == echo
    assert wire["reasoning"]["effort"] == "low" and wire["text"]["verbosity"] == "low"
    assert client.responses.retrieve(response.id).to_dict(mode="json") == wire


def test_input_items_are_listed(client, name):
    response = client.responses.create(
        model="up/x", input=[{"role": "user", "content": f"part {n} of {name}"} for n in range(5)])
    items = list(client.responses.input_items.list(response.id, order="asc"))
    said = [item.content[0].text for item in items]
    assert said == [f"part {n} of {name}" for n in range(5)]
    assert all(item.type == "message" and item.role == "user" and item.id for item in items)
    # In pages, and backwards, which is how the API has it when nothing is said.
    paged = list(client.responses.input_items.list(response.id, limit=2))
    assert [item.id for item in paged] == [item.id for item in reversed(items)]


def test_a_deleted_response_is_gone(client, server, name):
    raw = client.responses.with_raw_response.create(model="up/x", input=f"hello {name}")
    response = raw.parse()
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(response.id)
    status, _, _ = server.request("GET", f"/v1/sessions/{raw.headers['steerage-session']}")
    assert status in (404, 410)


def test_headers_name_the_request_and_the_session(client, server, name):
    raw = client.responses.with_raw_response.create(model="up/x", input=f"hello {name}")
    response = raw.parse()
    assert raw.headers["x-request-id"] == raw.request_id == response._request_id
    session = raw.headers["steerage-session"]
    assert text_of(server.log(session)) == response.output_text
    assert session in response.id and response.conversation.id == session
    with client.responses.with_streaming_response.create(model="up/x", input=f"hello {name}", stream=True) as streamed:
        assert streamed.headers["x-request-id"] != raw.request_id
        other = streamed.headers["steerage-session"]
        judge.events(streamed.parse())
    assert other != session and of(server.log(other), "run.completed")


def test_a_conversation_is_a_session(client, server, upstream, name):
    session = f"c-{name}"
    first = client.responses.create(model="up/x", input=f"hello {name}", conversation=session)
    second = client.responses.create(model="up/x", input=f"and then {name}", conversation={"id": session})
    assert first.conversation.id == second.conversation.id == session
    said = [message["content"] for message in upstream.about(f"and then {name}")[0].messages]
    assert said == [f"hello {name}", f"You said hello {name}.", f"and then {name}"]
    assert len(of(server.log(session), "run.completed")) == 2
    # What the native API says there is in it, too.
    server.control(session, {"type": "send", "content": f"natively {name}"})
    end = time.monotonic() + 10
    while len(of(server.log(session), "run.completed")) < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    third = client.responses.create(model="up/x", input=f"again {name}", conversation=session)
    assert third.output_text == f"You said again {name}."
    assert f"natively {name}" in json.dumps(upstream.about(f"again {name}")[0].messages)
    assert client.responses.retrieve(first.id).output_text == f"You said hello {name}."


def test_a_native_run_is_a_response(client, server, name):
    """What another door began can be read through this one."""
    session = f"n-{name}"
    server.request("POST", "/v1/sessions", {"id": session, "model": "up/x", "input": f"fast 9 {name}"})
    server.request("GET", f"/v1/sessions/{session}/events?until=idle", headers={"accept": "text/event-stream"})
    [started] = of(server.log(session), "run.started")
    epoch, seq = started["run_id"].rsplit("_", 2)[1:]
    response = client.responses.retrieve(f"resp_{session}_{epoch}_{seq}")
    judge.response(response)
    assert response.output_text == text_of(server.log(session)) != ""


def test_the_framing_of_the_stream(server, name):
    body = json.dumps({"model": "up/x", "input": f"think {name}", "stream": True}).encode()
    request = urllib.request.Request(f"{server.base_url}/responses", data=body, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        raw = answer.read().decode()
    *blocks, rest = raw.split("\n\n")
    assert rest == ""
    events = [block for block in blocks if not block.startswith(":")]
    assert len(events) > 10
    for n, block in enumerate(events):
        event, data = block.split("\n")
        parsed = json.loads(data.removeprefix("data: "))
        assert event == f"event: {parsed['type']}" and parsed["sequence_number"] == n


async def test_everything_asynchronously(aclient, name):
    stream = await aclient.responses.create(model="up/x", input=f"fast 30 {name}", stream=True)
    fold = judge.events([event async for event in stream])
    assert fold.text == f"{words(30)}to the end of {name}."
    async with aclient.responses.stream(model="up/x", input=f"fast 30 {name}") as helper:
        final = await helper.get_final_response()
    assert final.output_text == fold.text
    assert (await aclient.responses.retrieve(fold.id)).output_text == fold.text
    items = [item async for item in aclient.responses.input_items.list(fold.id)]
    assert len(items) == 1
    parsed = await aclient.responses.parse(model="up/x", input='verbatim {"name":"Rome","people":1}', text_format=City)
    assert parsed.output_parsed == City(name="Rome", people=1)


def test_the_types_know_the_items(client, name):
    """What comes back is of the SDK's classes, not of a fallback."""
    response = client.responses.create(model="up/x", input=f"think {name}")
    assert [type(item) for item in response.output] == [responses.ResponseReasoningItem, responses.ResponseOutputMessage]
