"""The WebSocket that the SDK opens with ``client.responses.connect()``: create, steer, lanes, and what goes wrong."""

import time

import openai
import pytest
from openai.types import responses

from harness import judge
from harness.server import of, text_of
from harness.upstream import words

FEW = "These words come at once and then nothing more "
TOOLS = [{"type": "function", "name": name, "description": "A test's own.", "strict": False,
          "parameters": {"type": "object", "properties": {}, "additionalProperties": True}} for name in ("lookup", "get_weather")]


class Socket:
    """A connection whose events are kept apart: those of responses, in order, and those that answer a steer."""

    def __init__(self, connection):
        self.connection, self.steers = connection, []

    def create(self, text, **more):
        request = {"model": "up/x", "input": text, **more}
        # The older SDK has no word for lanes, and sends them all the same.
        if {"stream_id", "generate"} & more.keys() and not judge.NEWEST:
            self.connection.send({"type": "response.create", **request})
        else:
            self.connection.response.create(**request)

    def steer(self, response_id, text):
        # Nor for this.
        if hasattr(self.connection.response, "steer"):
            self.connection.response.steer(input=text, previous_response_id=response_id)
        else:
            self.connection.send({"type": "response.steer", "input": text, "previous_response_id": response_id})

    def next(self):
        return self.connection.recv()

    def until(self, matches, seen=None):
        """Events of responses up to the one that matches; what is said of steers goes aside."""
        seen = [] if seen is None else seen
        while True:
            event = self.next()
            if event.type.startswith("response.steer."):
                judge_steer(event)
                self.steers.append(event)
            else:
                seen.append(event)
            if matches(event):
                return seen

    def until_end(self, seen=None):
        return self.until(lambda event: event.type in judge.TERMINAL, seen)

    def until_shown(self, text):
        shown = []

        def matches(event):
            if event.type == "response.output_text.delta":
                shown.append(event.delta)
            return text in "".join(shown)  # Several words may be one delta.

        return self.until(matches)


def judge_steer(event):
    # Input that the types do not allow comes back as it was.
    if judge.NEWEST and not (event.type == "response.steer.failed" and event.error.code == "invalid_input"):
        name = "".join(part.capitalize() for part in event.type.split(".")) + "Event"
        judge.is_of(getattr(responses, name), event)


def wire(event):
    return event.to_dict(mode="json")


@pytest.fixture
def socket(client):
    with client.responses.connect() as connection:
        yield Socket(connection)


def test_create(socket, client, name):
    socket.create(f"fast 20 {name}")
    fold = judge.events(socket.until_end())
    assert fold.text == f"{words(20)}to the end of {name}." and fold.end["status"] == "completed"
    assert client.responses.retrieve(fold.id).to_dict(mode="json") == fold.end
    # One after the other on the same socket.
    socket.create(f"hello {name}", previous_response_id=fold.id)
    second = judge.events(socket.until_end())
    assert second.text == f"You said hello {name}." and second.end["previous_response_id"] == fold.id


def test_steer(socket, client, upstream, name):
    socket.create(f"hold {name}", instructions="Be brief.", metadata={"who": "me"})
    seen = socket.until_shown("more ")
    first_id = seen[0].response.id
    socket.steer(first_id, f"rather {name}")
    first = judge.events(socket.until_end(seen))
    assert (first.end["status"], first.end["incomplete_details"]) == ("incomplete", {"reason": "steered"})
    assert first.text == FEW and first.end["output"][0]["status"] == "incomplete"
    second = judge.events(socket.until_end())
    assert second.text == f"You said rather {name}." and second.end["status"] == "completed"
    assert second.id == first.end["metadata"]["steerage_successor"]
    assert second.end["previous_response_id"] == first_id
    # It goes on with the same settings.
    assert second.end["instructions"] == "Be brief." and second.end["metadata"].get("who") == "me"
    [accepted] = socket.steers
    assert accepted.type == "response.steer.accepted"
    steer = wire(accepted)["steer"]
    assert steer["id"] and steer["previous_response_id"] == first_id
    assert upstream.about(f"hold {name}")[0].closed.wait(2)
    told = upstream.about(f"rather {name}")[0].messages
    assert [message["role"] for message in told][-1] == "user" and told[-1]["content"].endswith(f"rather {name}")
    for fold in (first, second):
        assert client.responses.retrieve(fold.id).to_dict(mode="json") == fold.end
        assert judge.events(client.responses.retrieve(fold.id, stream=True)).end == fold.end


def test_steer_twice(socket, name):
    socket.create(f"hold {name}")
    seen = socket.until_shown("more ")
    socket.steer(seen[0].response.id, f"hold on {name}")
    first = judge.events(socket.until_end(seen))
    seen = socket.until_shown("more ")
    socket.steer(seen[0].response.id, f"rather {name}")
    second = judge.events(socket.until_end(seen))
    third = judge.events(socket.until_end())
    assert [fold.end["status"] for fold in (first, second, third)] == ["incomplete", "incomplete", "completed"]
    assert third.text == f"You said rather {name}."
    assert (second.end["previous_response_id"], third.end["previous_response_id"]) == (first.id, second.id)


def test_two_steers_at_once(socket, server, name):
    """The second is on its way before the first is seen to be taken: nothing that was said is lost."""
    socket.create(f"hold {name}")
    seen = socket.until_shown("more ")
    first_id = seen[0].response.id
    steers = [f"hold on {name}", f"rather {name}"]
    for steer in steers:
        socket.steer(first_id, steer)
    folds = [judge.events(socket.until_end(seen))]
    while folds[-1].end["status"] != "completed" or len(folds) < 2:
        folds.append(judge.events(socket.until_end()))
    assert [event.type for event in socket.steers] == ["response.steer.accepted"] * 2
    session = folds[0].end["conversation"]["id"]
    said = [event["content"] for event in of(server.log(session), "input.added")]
    assert said == [f"hold {name}", *steers]


def test_steer_with_message_items(socket, name):
    socket.create(f"hold {name}")
    seen = socket.until_shown("more ")
    socket.steer(seen[0].response.id, [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"rather {name}"}]}])
    socket.until_end(seen)
    assert judge.events(socket.until_end()).text == f"You said rather {name}."


def test_a_response_of_another_door_is_steered(socket, client, name):
    """The socket need not have begun it, nor need the run have been meant for one."""
    response = client.responses.create(model="up/x", input=f"hold {name}", background=True)
    end = time.monotonic() + 5
    while client.responses.retrieve(response.id).output_text != FEW and time.monotonic() < end:
        time.sleep(0.02)
    socket.steer(response.id, f"rather {name}")
    event = socket.next()
    assert event.type == "response.steer.accepted", wire(event)
    end = time.monotonic() + 5
    while (steered := client.responses.retrieve(response.id)).status == "in_progress" and time.monotonic() < end:
        time.sleep(0.02)
    successor = steered.metadata["steerage_successor"]
    fold = judge.events(client.responses.retrieve(successor, stream=True))
    assert fold.text == f"You said rather {name}."


def failed(socket, response_id, text="too late"):
    socket.steer(response_id, text)
    event = socket.next()
    assert event.type == "response.steer.failed", wire(event)
    judge_steer(event)
    told = wire(event)
    assert told["error"]["type"] == "invalid_request_error" and told["error"]["message"]
    assert told["steer"]["previous_response_id"] == response_id
    return told


def test_a_steer_of_what_is_over_comes_back(socket, name):
    socket.create(f"hello {name}")
    fold = judge.events(socket.until_end())
    told = failed(socket, fold.id)
    assert told["error"]["code"] == "response_already_completed" and told["steer"]["input"] == "too late"


def test_a_steer_of_what_is_cancelled_comes_back(socket, client, name):
    socket.create(f"hold {name}")
    seen = socket.until_shown("more ")
    client.responses.cancel(seen[0].response.id)
    fold = judge.events(socket.until_end(seen))
    assert fold.end["status"] == "cancelled"
    assert failed(socket, fold.id)["error"]["code"] in ("response_not_active", "response_already_completed")


def test_a_steer_of_nothing_comes_back(socket):
    for unknown in ("resp_nobody_aaaaaa_1", "not an id"):
        assert failed(socket, unknown)["error"]["code"] == "response_not_found"


def test_a_steer_that_says_nothing_comes_back(socket, name):
    socket.create(f"hold {name}")
    seen = socket.until_shown("more ")
    for bad in ("", [], [{"type": "message", "role": "system", "content": "x"}],
                [{"type": "function_call_output", "call_id": "x", "output": "y"}]):
        assert failed(socket, seen[0].response.id, bad)["error"]["code"] == "invalid_input"


def test_a_steer_waits_for_an_approval(socket, server, name):
    socket.create("What is the weather in Lisbon?", model="demo/tools")
    fold = judge.events(socket.until_end())
    [request] = [item for item in fold.end["output"] if item["type"] == "mcp_approval_request"]
    socket.steer(fold.id, f"and say {name}")
    seen = socket.until(lambda event: event.type in ("response.steer.pending", "response.steer.failed"))
    assert seen == []
    pending = wire(socket.steers[-1])
    assert pending["type"] == "response.steer.pending" and pending["reason"] == "waiting_for_required_input"
    [stub] = pending["required_input"]
    assert stub == {"type": "mcp_approval_response", "approval_request_id": request["id"]}
    socket.create([{**stub, "approve": True}], model="demo/tools", previous_response_id=fold.id)
    last = judge.events(socket.until_end())
    log = server.log(fold.end["conversation"]["id"])
    assert any(name in event["content"] for event in of(log, "input.added")), "what was said is not lost"
    assert len(of(log, "tool.completed")) == 1 and last.end["status"] in ("completed", "incomplete")


def test_a_steer_waits_for_an_output(socket, upstream, name):
    socket.create(f"both {name}", tools=TOOLS)
    fold = judge.events(socket.until_end())
    calls = {item["call_id"]: item["name"] for item in fold.end["output"]}
    socket.steer(fold.id, f"and mind {name}")
    socket.until(lambda event: event.type in ("response.steer.pending", "response.steer.failed"))
    pending = wire(socket.steers[-1])
    assert pending["type"] == "response.steer.pending", pending
    assert {stub["call_id"]: stub["name"] for stub in pending["required_input"]} == calls
    filled = [{"type": "function_call_output", "call_id": stub["call_id"], "output": "x"} for stub in pending["required_input"]]
    socket.create(filled, tools=TOOLS, previous_response_id=fold.id)
    last = judge.events(socket.until_end())
    # The queued text goes before the request's input; the outputs are the outputs all the same.
    roles = [message["role"] for message in upstream.requests[-1].messages] if upstream.requests else []
    told = [asked for asked in upstream.requests if any(f"and mind {name}" in str(m["content"]) for m in asked.messages)]
    assert told, f"what was said is lost: {roles}"
    assert last.end["status"] == "completed"


def test_tools_round_the_socket(socket, name):
    socket.create(f"both {name}", tools=TOOLS)
    first = judge.events(socket.until_end())
    outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": "x"} for item in first.end["output"]]
    socket.create(outputs, tools=TOOLS, previous_response_id=first.id)
    assert judge.events(socket.until_end()).text == "The tools gave x and x."


def test_two_lanes(socket, name):
    socket.create(f"slow 30 left {name}", stream_id="left")
    socket.create(f"slow 30 right {name}", stream_id="right")
    lanes = {"left": [], "right": []}
    order = []
    while not all(lane and lane[-1]["type"] in judge.TERMINAL for lane in lanes.values()):
        event = wire(socket.next())
        lane = event.pop("stream_id")
        lanes[lane].append(event)
        order.append(lane)
    for lane, events in lanes.items():
        assert judge.events(events).text == f"{words(30)}to the end of {lane} {name}."
    assert order != sorted(order) and order != sorted(order, reverse=True), "they run side by side"


def test_a_lane_is_steered(socket, name):
    socket.create(f"hold {name}", stream_id="left")
    seen = socket.until_shown("more ")
    socket.steer(seen[0].response.id, f"rather {name}")
    socket.until_end(seen)
    after = socket.until_end()
    assert {wire(event)["stream_id"] for event in seen + after} == {"left"}
    assert wire(socket.steers[0])["stream_id"] == "left"


def test_the_sdks_own_lanes(client, name):
    """Newer SDKs sort the lanes by themselves."""
    helper = pytest.importorskip("openai.lib.responses_websocket", reason="this SDK version has no lanes")
    limits = helper.ResponsesWebSocketLimits(
        max_lanes=4, max_events_per_lane=4000, max_events=8000, max_bytes_per_lane=1 << 24, max_bytes=1 << 25)
    with client.responses.connect() as connection, helper.ResponsesWebSocketSession(connection, limits=limits) as session:
        lanes = {word: session.lane(word) for word in ("left", "right")}
        for word, lane in lanes.items():
            lane.send({"type": "response.create", "model": "up/x", "input": f"slow 20 {word} {name}"})
        for word, lane in lanes.items():
            final = lane.get_final_response(timeout=20)
            assert final.output_text == f"{words(20)}to the end of {word} {name}."


def error_of(socket, status=400):
    event = wire(socket.next())
    assert event["type"] == "error" and event["status"] == status, event
    assert event["error"]["type"] == "invalid_request_error" and event["error"]["message"]
    return event["error"]


def test_what_is_wrong_is_named_and_the_socket_stays(socket, name):
    socket.connection.send({"type": "response.nothing"})
    error_of(socket)
    socket.connection.send_raw("{") if hasattr(socket.connection, "send_raw") else socket.connection.send({"no": "type"})
    error_of(socket)
    socket.create(f"hello {name}", previous_response_id="resp_nobody_aaaaaa_1")
    assert error_of(socket)["code"] == "previous_response_not_found"
    socket.create(f"hello {name}", background=True)
    assert error_of(socket)["param"] == "background"
    socket.create(f"hello {name}", generate=False)
    assert error_of(socket)["param"] == "generate"
    socket.create([{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/x.png"}]}])
    assert error_of(socket)["param"].startswith("input[0].content[0]")
    socket.create(f"hello {name}", model="nobody/x")
    event = wire(socket.next())
    assert (event["type"], event["status"], event["error"]["code"]) == ("error", 404, "model_not_found")
    socket.create(f"hello {name}", stream_id="not a lane")
    assert error_of(socket)["code"] == "invalid_stream_id"
    socket.create(f"hello {name}")
    assert judge.events(socket.until_end()).text == f"You said hello {name}."


def test_a_lost_socket_stops_nothing(client, name):
    with client.responses.connect() as connection:
        socket = Socket(connection)
        socket.create(f"slow 40 {name}")
        seen = socket.until_shown("word5 ")
    rest = client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    fold = judge.events([*seen, *rest])
    assert fold.text == f"{words(40)}to the end of {name}."


def test_what_the_upstream_refuses_ends_the_response(socket, name):
    socket.create(f"status 400 {name}")
    fold = judge.events(socket.until_end())
    assert fold.end["status"] == "failed" and name in fold.end["error"]["message"]


async def test_asynchronously(aclient, server, name):
    async with aclient.responses.connect() as connection:
        await connection.response.create(model="up/x", input=f"hold {name}")
        seen, shown = [], ""
        while not shown.endswith("more "):
            seen.append(await connection.recv())
            shown += getattr(seen[-1], "delta", "")
        message = {"type": "response.steer", "input": f"rather {name}", "previous_response_id": seen[0].response.id}
        await connection.send(message)
        ends = []
        async for event in connection:
            if event.type in judge.TERMINAL:
                ends.append(event.response)
                if len(ends) == 2:
                    break
    assert [end.status for end in ends] == ["incomplete", "completed"]
    assert ends[1].output_text == f"You said rather {name}."
    session = ends[0].conversation.id
    assert text_of(server.log(session)) == FEW + ends[1].output_text


def test_a_plain_request_is_told_what_to_do(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/responses", cast_to=object)
    assert caught.value.status_code in (400, 404, 405, 426) and caught.value.message
