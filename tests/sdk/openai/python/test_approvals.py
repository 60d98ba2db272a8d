"""A tool of the server that needs a person's yes: the request, the answer, and every way in which one comes late."""

import time

import openai
import pytest

from harness import judge
from harness.server import of

QUESTION = "What is the weather in Lisbon?"
FAST = {"tokens_per_second": 300}
OWN = [{"type": "mcp", "server_label": "steerage", "require_approval": "always"}]


def session_of(response):
    return response.conversation.id


def asked(client, **more):
    """A response that waits for a yes, and the request."""
    response = client.responses.create(model="demo/tools", input=QUESTION, extra_body=FAST, **more)
    judge.response(response)
    assert response.status == "completed"
    [request] = [item for item in response.output if item.type == "mcp_approval_request"]
    assert (request.name, request.server_label) == ("get_weather", "steerage")
    assert request.arguments == '{"city":"Lisbon"}' and request.id.startswith("mcpr_")
    return response, request


def answer(request, approve=True, **more):
    return [{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve, **more}]


def decide(client, response, request, approve=True, reason=None, **more):
    given = answer(request, approve, **({"reason": reason} if reason else {}))
    decided = client.responses.create(model="demo/tools", previous_response_id=response.id, input=given, **more)
    return decided


def calls(response):
    return [item for item in response.output if item.type == "mcp_call"]


def test_yes(client, server):
    response, request = asked(client)
    decided = decide(client, response, request)
    judge.response(decided)
    [call] = calls(decided)
    assert (call.name, call.approval_request_id, call.error) == ("get_weather", request.id, None)
    assert "Lisbon" in call.output and call.arguments == request.arguments
    assert "In Lisbon it is" in decided.output_text
    assert decided.previous_response_id == response.id and decided.id != response.id
    log = server.log(session_of(response))
    assert [len(of(log, kind)) for kind in ("run.started", "tool.started", "tool.completed", "run.completed")] == [1, 1, 1, 1]


def test_no_with_a_reason(client, server):
    response, request = asked(client)
    decided = decide(client, response, request, approve=False, reason="too nosy")
    judge.response(decided)
    assert "refused" in decided.output_text and "too nosy" in decided.output_text
    assert all(call.error for call in calls(decided))
    assert of(server.log(session_of(response)), "tool.started") == []


def test_the_stream_of_both_turns(client):
    first = judge.events(client.responses.create(model="demo/tools", input=QUESTION, extra_body=FAST, stream=True))
    [request] = [item for item in first.end["output"] if item["type"] == "mcp_approval_request"]
    second = judge.events(client.responses.create(model="demo/tools", previous_response_id=first.id, stream=True, input=[
        {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}]))
    kinds = [item["type"] for item in second.end["output"]]
    assert kinds == ["mcp_call", "message"]
    # Both can be had again, from any event.
    for fold in (first, second):
        whole = list(client.responses.retrieve(fold.id, stream=True))
        assert judge.events(whole).end == fold.end
        for n in range(0, len(whole), 5):
            rest = list(client.responses.retrieve(fold.id, stream=True, starting_after=n))
            assert [event.sequence_number for event in rest] == list(range(n + 1, len(whole)))


def test_through_the_helper(client):
    with client.responses.stream(model="demo/tools", input=QUESTION, extra_body=FAST) as stream:
        first = stream.get_final_response()
    [request] = [item for item in first.output if item.type == "mcp_approval_request"]
    with client.responses.stream(model="demo/tools", previous_response_id=first.id, input=answer(request)) as stream:
        second = stream.get_final_response()
    assert "In Lisbon it is" in second.output_text


def test_without_a_predecessor(client):
    """The request itself says where it belongs."""
    response, request = asked(client)
    decided = client.responses.create(model="demo/tools", input=answer(request))
    assert "In Lisbon it is" in decided.output_text and decided.previous_response_id == response.id


def test_with_the_whole_history(client):
    """Who keeps the conversation by themselves sends all of it."""
    response, request = asked(client)
    history = [{"role": "user", "content": QUESTION}, *response.output, *answer(request)]
    decided = client.responses.create(model="demo/tools", input=history)
    assert "In Lisbon it is" in decided.output_text


def test_twice_runs_it_once(client, server):
    """The same again is the same response, as an SDK that lost the answer sends it; the contrary is refused."""
    response, request = asked(client)
    decided = decide(client, response, request)
    again = decide(client, response, request)
    assert again.to_dict(mode="json") == decided.to_dict(mode="json")
    with pytest.raises(openai.BadRequestError) as caught:
        decide(client, response, request, approve=False)
    assert request.id in caught.value.message or caught.value.param
    assert len(of(server.log(session_of(response)), "tool.started")) == 1
    assert client.responses.retrieve(decided.id).output_text == decided.output_text


def test_ten_at_once_run_it_once(client, server):
    from concurrent.futures import ThreadPoolExecutor

    response, request = asked(client)

    def attempt(_):
        return decide(client, response, request).id

    with ThreadPoolExecutor(10) as pool:
        ids = set(pool.map(attempt, range(10)))
    assert len(ids) == 1
    assert len(of(server.log(session_of(response)), "tool.started")) == 1


def test_an_unknown_request(client):
    response, _ = asked(client)
    for unknown in ("mcpr_nobody", f"mcpr_{session_of(response)}_aaaaaa_99"):
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="demo/tools", previous_response_id=response.id, input=[
                {"type": "mcp_approval_response", "approval_request_id": unknown, "approve": True}])


def test_a_refused_request_has_done_nothing(client, server, name):
    """What is wrong in one place of it is wrong as a whole: the corrected request does all, once."""
    response, request = asked(client)
    words = {"role": "user", "content": f"and mind {name}"}
    says = lambda log: sum(name in event["content"] for event in of(log, "input.added"))  # noqa: E731
    wrong = [{**answer(request)[0], "approval_request_id": request.id + "9"}, words]
    both = [*answer(request), *answer(request, approve=False), words]
    for given in (wrong, both):
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="demo/tools", previous_response_id=response.id, input=given)
    assert of(server.log(session_of(response)), "approval.resolved") == []
    decided = client.responses.create(model="demo/tools", previous_response_id=response.id, input=[*answer(request), words])
    deadline = time.monotonic() + 10
    while not of(log := server.log(session_of(response)), "tool.completed") or not says(log):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(of(log, "tool.started")) == 1 and decided.status in ("completed", "incomplete")
    assert says(log) == 1


def test_after_the_time_is_over(client, server, name):
    session = f"late-{name}"
    tool = {"name": "get_weather", "executor": "builtin", "approval_timeout_s": 1}
    status, *_ = server.request("POST", "/v1/sessions", {
        "id": session, "model": "demo/tools", "input": QUESTION, "tools": [tool], "params": FAST})
    assert status == 201
    deadline = time.monotonic() + 10
    while not of(server.log(session), "approval.resolved"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log = server.log(session)
    epoch, seq = of(log, "approval.requested")[0]["approval_id"].rsplit("_", 2)[1:]
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="demo/tools", input=[
            {"type": "mcp_approval_response", "approval_request_id": f"mcpr_{session}_{epoch}_{seq}", "approve": True}])
    assert of(server.log(session), "tool.started") == []


@pytest.mark.parametrize("door", ["native", "here"])
def test_after_a_cancel(client, server, door):
    response, request = asked(client)
    # What waits is over as a response, and what it waits in is not.
    if door == "native":
        server.control(session_of(response), {"type": "cancel"})
    else:
        for _ in range(2):
            assert client.responses.cancel(response.id).to_dict(mode="json") == response.to_dict(mode="json")
    with pytest.raises(openai.BadRequestError):
        decide(client, response, request)
    log = server.log(session_of(response))
    assert of(log, "tool.started") == [] and len(of(log, "run.cancelled")) == 1


def test_decided_through_the_native_api(client, server):
    """Who approves is not who asked."""
    response, request = asked(client)
    session = session_of(response)
    approval = of(server.log(session), "approval.requested")[0]["approval_id"]
    server.control(session, {"type": "approve", "approval_id": approval})
    with pytest.raises(openai.BadRequestError):
        decide(client, response, request, approve=False)
    # The turn that it has begun is a response like any other.
    deadline = time.monotonic() + 10
    while not of(server.log(session), "run.completed"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = client.responses.retrieve(f"{response.id}.2")
    judge.response(second)
    assert "In Lisbon it is" in second.output_text


def test_for_a_model_of_somebody_else(client, server, upstream, name):
    """The server's own tools are offered to any model."""
    said = f'call get_weather {{"city":"{name}"}}'
    response = client.responses.create(model="up/x", input=said, tools=OWN)
    judge.response(response)
    [request] = [item for item in response.output if item.type == "mcp_approval_request"]
    decided = client.responses.create(model="up/x", previous_response_id=response.id, input=answer(request), tools=OWN)
    judge.response(decided)
    assert calls(decided)[0].output and decided.output_text.startswith("The tools gave ")
    assert [tool["function"]["name"] for tool in upstream.about(said)[0].body["tools"]] == ["get_weather"]


def test_a_tool_that_needs_no_approval(client, name):
    tools = [{"type": "mcp", "server_label": "steerage", "require_approval": "never"}]
    said = f'call get_weather {{"city":"{name}"}}'
    fold = judge.events(client.responses.create(model="up/x", input=said, tools=tools, stream=True))
    assert [item["type"] for item in fold.end["output"]] == ["mcp_call", "message"]
    assert fold.end["output"][0].get("approval_request_id") is None


def test_another_label_is_refused(client, upstream, name):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="up/x", input=f"hello {name}", tools=[
            {"type": "mcp", "server_label": "other", "server_url": "https://example.com", "require_approval": "never"}])
    assert caught.value.param.startswith("tools[0]") and upstream.about(name) == []


def test_a_new_question_instead_of_an_answer(client, upstream):
    """Who goes on without deciding gets an answer all the same, in a session of its own."""
    response, _ = asked(client)
    other = client.responses.create(model="up/x", previous_response_id=response.id, input="never mind")
    assert other.output_text == "You said never mind."


async def test_asynchronously(aclient):
    response = await aclient.responses.create(model="demo/assistant", input=QUESTION, extra_body=FAST)
    [request] = [item for item in response.output if item.type == "mcp_approval_request"]
    decided = await aclient.responses.create(
        model="demo/assistant", previous_response_id=response.id, input=answer(request), background=True)
    while decided.status in ("queued", "in_progress"):
        decided = await aclient.responses.retrieve(decided.id)
    assert "In Lisbon it is" in decided.output_text
