"""Chat completions: whole, streamed, through the helpers, and what goes on beside them."""

import json
import time

import openai
import pydantic
import pytest

from harness import judge
from harness.server import of, text_of
from harness.upstream import TRICKY, words

FEW = "These words come at once and then nothing more "


class City(pydantic.BaseModel):
    name: str
    people: int


def ask(text, **more):
    return {"model": "up/x", "messages": [{"role": "user", "content": text}], **more}


def session_of(raw):
    return raw.headers["steerage-session"]


def test_a_whole_answer(client, upstream, name):
    answer = client.chat.completions.create(**ask(f"hello {name}"))
    wire = judge.completion(answer)
    [choice] = answer.choices
    assert choice.message.content == f"You said hello {name}."
    assert (choice.finish_reason, choice.message.role, choice.message.refusal) == ("stop", "assistant", None)
    assert wire["model"] == "up/x"
    assert answer.usage.prompt_tokens == 11 and answer.usage.total_tokens == 11 + answer.usage.completion_tokens
    assert len(upstream.about(name)) == 1


def test_a_stream(client, name):
    told = judge.chunks(client.chat.completions.create(**ask(f"fast 30 {name}"), stream=True))
    assert told["text"] == f"{words(30)}to the end of {name}."
    assert told["finish"] == "stop" and told["usage"] is None


def test_a_stream_with_usage(client, name):
    stream = client.chat.completions.create(**ask(f"fast 5 {name}"), stream=True, stream_options={"include_usage": True})
    told = judge.chunks(stream, include_usage=True)
    assert told["usage"]["prompt_tokens"] == 11 and told["usage"]["total_tokens"] > 11
    assert {"cached_tokens", "reasoning_tokens"} <= {
        *told["usage"]["prompt_tokens_details"], *told["usage"]["completion_tokens_details"]}


def test_every_character_comes_through(client):
    assert judge.chunks(client.chat.completions.create(**ask("tricky"), stream=True))["text"] == TRICKY
    assert client.chat.completions.create(**ask("tricky")).choices[0].message.content == TRICKY
    said = f"verbatim {TRICKY}".replace("\n", " ")
    assert client.chat.completions.create(**ask(said)).choices[0].message.content == said.removeprefix("verbatim ")


def test_the_stream_helper(client, name):
    with client.chat.completions.stream(**ask(f"fast 20 {name}")) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    text = f"{words(20)}to the end of {name}."
    assert "".join(event.delta for event in events if event.type == "content.delta") == text
    assert [event.content for event in events if event.type == "content.done"] == [text]
    assert final.choices[0].message.content == text and final.choices[0].finish_reason == "stop"


def test_the_stream_helper_parses_what_is_structured(client, upstream):
    whole = '{"name":"Oslo","people":717710}'
    with client.chat.completions.stream(**ask(f"verbatim {whole}"), response_format=City) as stream:
        for event in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Oslo", people=717710)
    schema = upstream.about(whole)[-1].body["response_format"]
    assert schema["type"] == "json_schema" and schema["json_schema"]["strict"] is True


def test_a_whole_answer_is_parsed(client):
    parsed = client.chat.completions.parse(**ask('verbatim {"name":"Rome","people":1}'), response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Rome", people=1)


def test_the_stream_helper_has_tools(client):
    tool = openai.pydantic_function_tool(City)
    with client.chat.completions.stream(**ask('call City {"name":"Bonn","people":2}'), tools=[tool]) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert done.parsed_arguments == City(name="Bonn", people=2)
    [call] = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == City(name="Bonn", people=2)
    assert final.choices[0].finish_reason == "tool_calls"


def test_reasoning_is_told_apart(client, name):
    told = judge.chunks(client.chat.completions.create(**ask(f"think {name}"), stream=True))
    assert told["reasoning"] == f"Let me think about {name}." and told["text"] == f"I have thought about {name}."
    message = client.chat.completions.create(**ask(f"think {name}")).choices[0].message
    assert message.content == f"I have thought about {name}."
    assert message.model_extra["reasoning_content"] == f"Let me think about {name}."


@pytest.mark.parametrize("verb, reason", [("length", "length"), ("filter", "content_filter")])
def test_an_answer_that_was_cut_says_so(client, name, verb, reason):
    answer = client.chat.completions.create(**ask(f"{verb} {name}")).choices[0]
    assert (answer.finish_reason, answer.message.content) == (reason, FEW)
    told = judge.chunks(client.chat.completions.create(**ask(f"{verb} {name}"), stream=True))
    assert (told["finish"], told["text"]) == (reason, FEW)
    error = {"length": openai.LengthFinishReasonError, "filter": openai.ContentFilterFinishReasonError}[verb]
    with pytest.raises(error):
        client.chat.completions.parse(**ask(f"{verb} {name}"), response_format=City)


def test_the_model_is_told_everything(client, upstream, name):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": [{"type": "text", "text": "And two"}, {"type": "text", "text": name}]},
    ]
    client.chat.completions.create(
        model="up/x", messages=messages, temperature=0.25, top_p=0.5, seed=7, stop=["never"], max_completion_tokens=99,
        presence_penalty=0.5, reasoning_effort="low", metadata={"who": "me"}, user="someone", extra_body={"top_k": 3},
        extra_headers={"X-Conversation-Id": "must not go on", "x-own": "must not go on"},
    )
    [asked] = upstream.about(name)
    assert [(message["role"], message["content"]) for message in asked.messages] == [
        ("system", "Be brief."), ("user", "One?"), ("assistant", "One."), ("user", f"And two\n{name}")]
    body = asked.body
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.25, 0.5, 7, ["never"])
    assert 99 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert (body["presence_penalty"], body["reasoning_effort"], body["top_k"]) == (0.5, "low", 3)
    assert body["model"] == "x"
    assert not {"x-conversation-id", "x-own"} & {header.lower() for header in asked.headers}


def test_headers_name_the_request_and_the_session(client, server, name):
    raw = client.chat.completions.with_raw_response.create(**ask(f"hello {name}"))
    answer = raw.parse()
    assert raw.headers["x-request-id"] and raw.request_id == raw.headers["x-request-id"]
    assert answer._request_id == raw.headers["x-request-id"]
    assert answer.id == f"chatcmpl-{session_of(raw)}"
    assert text_of(server.log(session_of(raw))) == answer.choices[0].message.content
    other = client.chat.completions.with_raw_response.create(**ask(f"hello {name}"))
    assert other.headers["x-request-id"] != raw.headers["x-request-id"] and session_of(other) != session_of(raw)


def test_who_leaves_stops_nothing(client, server, upstream, name):
    with client.chat.completions.with_streaming_response.create(**ask(f"slow 60 {name}"), stream=True) as raw:
        session = raw.headers["steerage-session"]
        for seen, _ in enumerate(raw.parse()):
            if seen == 10:
                break
    for _ in range(300):
        if of(server.log(session), "run.completed"):
            break
        time.sleep(0.02)
    assert text_of(server.log(session)) == f"{words(60)}to the end of {name}."
    [asked] = upstream.about(name)
    assert asked.ended and not asked.closed.is_set()


def test_a_lost_completion_is_had_again(client, name):
    with client.chat.completions.with_streaming_response.create(**ask(f"slow 60 {name}"), stream=True) as raw:
        stream = raw.parse()
        first = [next(stream) for _ in range(12)]
    completion_id = first[0].id
    rest = client.get(
        f"/chat/completions/{completion_id}", cast_to=openai.types.chat.ChatCompletionChunk, stream=True,
        stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
        options={"params": {"stream": "true", "starting_after": 11}},
    )
    told = judge.chunks([*first, *rest])
    assert told["text"] == f"{words(60)}to the end of {name}."
    again = client.chat.completions.retrieve(completion_id)
    judge.completion(again)
    assert again.choices[0].message.content == told["text"]


def test_every_cut_of_a_stream_is_mended(client, name):
    whole = list(client.chat.completions.create(**ask(f"tokens 40 {name}"), stream=True))
    told = judge.chunks(whole)
    for taken in range(len(whole) + 2):
        rest = client.get(
            f"/chat/completions/{told['id']}", cast_to=openai.types.chat.ChatCompletionChunk, stream=True,
            stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
            options={"params": {"stream": "true", **({"starting_after": taken - 1} if taken else {})}},
        )
        assert [chunk.to_dict() for chunk in rest] == [chunk.to_dict() for chunk in whole[taken:]], taken


def test_it_is_stopped_through_the_native_api(client, server, upstream, name):
    with client.chat.completions.with_streaming_response.create(**ask(f"hold {name}"), stream=True) as raw:
        session, stream = raw.headers["steerage-session"], raw.parse()
        seen = ""
        while len(seen) < len(FEW):
            seen += next(stream).choices[0].delta.content or ""
        assert server.control(session, {"type": "cancel"})["status"] == "applied"
        assert upstream.about(name)[0].closed.wait(5), "the model goes on"
        with pytest.raises(openai.APIError) as caught:
            for chunk in stream:
                seen += chunk.choices[0].delta.content or ""
    assert caught.value.code == "cancelled" and seen == FEW
    assert text_of(server.log(session)) == FEW


def test_it_is_steered_through_the_native_api(client, server, upstream, name):
    with client.chat.completions.with_streaming_response.create(**ask(f"hold {name}"), stream=True) as raw:
        session, stream = raw.headers["steerage-session"], raw.parse()
        chunks = []
        while "more " not in "".join(c.choices[0].delta.content or "" for c in chunks):
            chunks.append(next(stream))
        assert server.control(session, {"type": "steer", "content": f"rather {name}"})["status"] == "applied"
        told = judge.chunks([*chunks, *stream])
    assert told["text"] == f"{FEW}\n\nYou said rather {name}." and told["finish"] == "stop"
    assert upstream.about(name)[0].closed.wait(5)


def test_a_completion_stays_what_it_was(client, server, name):
    """Its session may go on by the native door; the completion is its first run."""
    raw = client.chat.completions.with_raw_response.create(**ask(f"hello {name}"))
    session, answer = session_of(raw), raw.parse()
    server.control(session, {"type": "send", "content": f"and natively {name}"})
    end = time.monotonic() + 10
    while len(of(server.log(session), "run.completed")) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    again = client.chat.completions.retrieve(answer.id)
    assert again.choices[0].message.content == f"You said hello {name}."


def test_the_framing_of_the_stream(server, name):
    import urllib.request

    body = json.dumps(ask(f"fast 5 {name}", stream=True)).encode()
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions", data=body, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        raw = answer.read().decode()
    *blocks, rest = raw.split("\n\n")
    assert rest == "" and blocks[-1] == "data: [DONE]"
    # A comment alone is no event, and harmless as long as there are no ids.
    chunks = [block for block in blocks[:-1] if not block.startswith(":")]
    assert len(chunks) >= 3
    for block in chunks:
        assert block.startswith("data: {") and "\n" not in block
        json.loads(block.removeprefix("data: "))


async def test_everything_asynchronously(aclient, name):
    stream = await aclient.chat.completions.create(**ask(f"fast 30 {name}"), stream=True)
    told = judge.chunks([chunk async for chunk in stream])
    assert told["text"] == f"{words(30)}to the end of {name}."
    async with aclient.chat.completions.stream(**ask('verbatim {"name":"Oslo","people":3}'), response_format=City) as helper:
        final = await helper.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Oslo", people=3)
    answer = await aclient.chat.completions.create(**ask(f"hello {name}"))
    assert answer.choices[0].message.content == f"You said hello {name}."
