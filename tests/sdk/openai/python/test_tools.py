"""The client's own functions: called, answered, parallel, in both APIs."""

import json

import openai
import pytest

from harness import judge
from harness.server import of

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": True}
CHAT_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A test's own.", "parameters": PARAMETERS}}
    for name in ("lookup", "get_weather")
]
TOOLS = [{"type": "function", "name": tool["function"]["name"], "description": "A test's own.", "parameters": PARAMETERS,
          "strict": False} for tool in CHAT_TOOLS]


def answer_of(name):
    return {"lookup": "nothing found", "get_weather": json.dumps({"celsius": 7})}[name]


def chat_loop(client, name, stream=False):
    """As the documentation has it; gives the final text and how often the model was asked."""
    messages = [{"role": "user", "content": f"both {name}"}]
    for turn in range(1, 5):
        if stream:
            with client.chat.completions.stream(model="up/x", messages=messages, tools=CHAT_TOOLS) as helper:
                completion = helper.get_final_completion()
        else:
            completion = client.chat.completions.create(model="up/x", messages=messages, tools=CHAT_TOOLS)
            judge.completion(completion)
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content, turn
        assert completion.choices[0].finish_reason == "tool_calls"
        messages.append(message)
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": answer_of(call.function.name)})
    raise AssertionError("the model calls tools for ever")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_calls_two_at_once(client, upstream, name, stream):
    text, turns = chat_loop(client, name, stream)
    assert (text, turns) == ('The tools gave nothing found and {"celsius": 7}.', 2)
    first, second = upstream.about(name)
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["lookup", "get_weather"]
    assert [message["role"] for message in second.messages] == ["user", "assistant", "tool", "tool"]
    calls = second.messages[1]["tool_calls"]
    assert [call["id"] for call in calls] == [message["tool_call_id"] for message in second.messages[2:]]


def test_a_chat_streams_its_calls(client, name):
    stream = client.chat.completions.create(
        model="up/x", messages=[{"role": "user", "content": f"both {name}"}], tools=CHAT_TOOLS, stream=True)
    told = judge.chunks(stream)
    assert told["finish"] == "tool_calls"
    assert [(call["name"], json.loads(call["arguments"])) for call in told["calls"]] == [
        ("lookup", {}), ("get_weather", {"city": "Oslo"})]


def test_a_chat_lacks_an_answer(client, upstream, name):
    first = client.chat.completions.create(
        model="up/x", messages=[{"role": "user", "content": f"both {name}"}], tools=CHAT_TOOLS)
    message = first.choices[0].message
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="up/x", tools=CHAT_TOOLS, messages=[
            {"role": "user", "content": f"both {name}"}, message,
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "x"}])
    assert message.tool_calls[1].id in caught.value.message
    assert "must be followed by tool messages" in caught.value.message
    assert len(upstream.about(name)) == 1


def test_tool_choice_none_offers_no_tools(client, upstream, name):
    client.chat.completions.create(
        model="up/x", messages=[{"role": "user", "content": f"hello {name}"}], tools=CHAT_TOOLS, tool_choice="none")
    assert not upstream.about(name)[0].body.get("tools")


def test_tool_choice_goes_on(client, upstream, name):
    choice = {"type": "function", "function": {"name": "lookup"}}
    client.chat.completions.create(model="up/x", messages=[{"role": "user", "content": f"hello {name}"}], tools=CHAT_TOOLS,
                                   tool_choice=choice, parallel_tool_calls=False)
    body = upstream.about(name)[0].body
    assert body["tool_choice"] == choice and body["parallel_tool_calls"] is False


def responses_loop(client, name, chained, stream=False):
    given, previous, history = [{"role": "user", "content": f"both {name}"}], None, []
    for turn in range(1, 5):
        history += given
        more = {"previous_response_id": previous, "input": given} if chained else {"input": history}
        if stream:
            with client.responses.stream(model="up/x", tools=TOOLS, **more) as helper:
                response = helper.get_final_response()
            judge.response(client.responses.retrieve(response.id))
        else:
            response = client.responses.create(model="up/x", tools=TOOLS, **more)
            judge.response(response)
        assert response.status == "completed"
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text, turn
        # The helper's own fields are not for the wire.
        history += [{k: v for k, v in item.to_dict(mode="json").items() if k != "parsed_arguments"} for item in response.output]
        given = [{"type": "function_call_output", "call_id": call.call_id, "output": answer_of(call.name)} for call in calls]
        previous = response.id
    raise AssertionError("the model calls tools for ever")


@pytest.mark.parametrize("chained", [True, False])
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_calls_two_at_once(client, upstream, name, chained, stream):
    text, turns = responses_loop(client, name, chained, stream)
    assert (text, turns) == ('The tools gave nothing found and {"celsius": 7}.', 2)
    _, second = upstream.about(name)
    assert [message["role"] for message in second.messages] == ["user", "assistant", "tool", "tool"]


def test_a_response_streams_its_calls(client, name):
    fold = judge.events(client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS, stream=True))
    assert [(item["type"], item["name"], json.loads(item["arguments"])) for item in fold.end["output"]] == [
        ("function_call", "lookup", {}), ("function_call", "get_weather", {"city": "Oslo"})]
    assert fold.end["status"] == "completed"
    assert [tool["name"] for tool in fold.end["tools"]] == ["lookup", "get_weather"]


def test_a_chain_goes_on_after_its_tools(client, upstream, name):
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS)
    outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": "x"} for item in first.output]
    second = client.responses.create(model="up/x", previous_response_id=first.id, input=outputs, tools=TOOLS)
    third = client.responses.create(model="up/x", previous_response_id=second.id, input=f"and now {name}")
    assert third.output_text == f"You said and now {name}."
    roles = [message["role"] for message in upstream.about(f"and now {name}")[0].messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_outputs_may_be_parts(client, name):
    first = client.responses.create(model="up/x", input=f'call lookup {{"q":"{name}"}}', tools=TOOLS)
    output = [{"type": "input_text", "text": "part one,"}, {"type": "input_text", "text": "part two"}]
    second = client.responses.create(model="up/x", previous_response_id=first.id, tools=TOOLS, input=[
        {"type": "function_call_output", "call_id": first.output[0].call_id, "output": output}])
    assert second.output_text == "The tools gave part one,\npart two."


def test_outputs_and_a_message(client, upstream, name):
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS)
    outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": "x"} for item in first.output]
    second = client.responses.create(model="up/x", previous_response_id=first.id, tools=TOOLS, input=[
        *outputs, {"role": "user", "content": f"by the way {name}"}])
    assert second.output_text == f"You said by the way {name}."
    roles = [message["role"] for message in upstream.about(f"by the way {name}")[0].messages]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


def test_a_response_lacks_an_output(client, upstream, name):
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS)
    calls = [item.call_id for item in first.output]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="up/x", previous_response_id=first.id, tools=TOOLS, input=[
            {"type": "function_call_output", "call_id": calls[0], "output": "x"}])
    assert f"No tool output found for function call {calls[1]}" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="up/x", tools=TOOLS, input=[
            {"type": "function_call_output", "call_id": "call_nobody", "output": "x"}])
    assert "No tool call found for function call output with call_id call_nobody" in caught.value.message
    assert len(upstream.about(name)) == 1


def test_the_same_outputs_twice_are_two_branches(client, upstream, name):
    """Nothing is used up: the chain is copied."""
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS)
    for value in ("x", "y"):
        outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": value} for item in first.output]
        again = client.responses.create(model="up/x", previous_response_id=first.id, input=outputs, tools=TOOLS)
        assert again.output_text == f"The tools gave {value} and {value}."


def test_in_a_conversation_outputs_are_given_to_the_calls(client, server, name):
    session = f"c-{name}"
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS, conversation=session)
    outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": "x"} for item in first.output]
    second = client.responses.create(model="up/x", input=outputs, tools=TOOLS, conversation=session)
    judge.response(second)
    assert second.output_text == "The tools gave x and x."
    assert len(of(server.log(session), "tool.completed")) == 2


def test_a_refused_output_has_done_nothing(client, server, name):
    session = f"c-{name}"
    first = client.responses.create(model="up/x", input=f"both {name}", tools=TOOLS, conversation=session)
    outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": "x"} for item in first.output]
    nobody = {"type": "function_call_output", "call_id": "call_nobody", "output": "x"}
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="up/x", input=[*outputs, nobody], tools=TOOLS, conversation=session)
    assert of(server.log(session), "tool.completed") == []
    second = client.responses.create(model="up/x", input=outputs, tools=TOOLS, conversation=session)
    assert second.output_text == "The tools gave x and x."


async def test_asynchronously(aclient, name):
    first = await aclient.responses.create(model="up/x", input=f"both {name}", tools=TOOLS)
    outputs = [{"type": "function_call_output", "call_id": item.call_id, "output": "x"} for item in first.output]
    second = await aclient.responses.create(model="up/x", previous_response_id=first.id, input=outputs, tools=TOOLS)
    assert second.output_text == "The tools gave x and x."


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdks_own_tool_loop(client, name, stream):
    """The runner that newer SDKs have goes round by itself, and is strict about what it is given."""
    runner = pytest.importorskip("openai.lib.responses_tool_runner", reason="this SDK version has no tool runner")
    done = []

    def function(tool):
        def execute(arguments):
            done.append((tool["name"], arguments))
            return answer_of(tool["name"])
        return runner.RegisteredFunction(tool, execute)

    loop = runner.ResponsesToolRunner(functions=[function(tool) for tool in TOOLS])
    response = loop.run(client, {"model": "up/x", "input": f"both {name}"}, max_steps=4, stream=stream)
    assert response.output_text == 'The tools gave nothing found and {"celsius": 7}.'
    assert done == [("lookup", {}), ("get_weather", {"city": "Oslo"})]


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdks_own_tool_loop_asks_a_person(client, server, name, stream):
    runner = pytest.importorskip("openai.lib.responses_tool_runner", reason="this SDK version has no tool runner")
    asked = []

    def approve(request):
        asked.append((request.name, request.server_label))
        return True

    own = {"type": "mcp", "server_label": "steerage", "require_approval": "always"}
    nothing = {**TOOLS[0], "name": "nothing"}
    loop = runner.ResponsesToolRunner(functions=[runner.RegisteredFunction(nothing, lambda _: "nothing")])
    said = f'call get_weather {{"city":"{name}"}}'
    response = loop.run(client, {"model": "up/x", "input": said, "tools": [own]}, max_steps=4, stream=stream, approve_mcp=approve)
    assert response.output_text.startswith("The tools gave ") and name in response.output_text
    assert asked == [("get_weather", "steerage")]
