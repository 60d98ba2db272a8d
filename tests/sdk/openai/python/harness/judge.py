"""The judge of what goes over the wire: every event and object that a client was given is held against the SDK's own
types, strictly, and an event stream against the order that the API promises."""

import functools
import typing

import openai
from openai.types import responses
from openai.types.chat import ChatCompletion, ChatCompletionChunk

NEWEST = int(openai.__version__.split(".")[0]) >= 3

# What the types do not have, and either the API itself or every local server gives.
EXTENSIONS = {"reasoning_content", "store"}

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


def members(union):
    union = typing.get_args(union)[0] if typing.get_origin(union) is typing.Annotated else union
    for member in typing.get_args(union):
        if isinstance(member, type):
            yield member
        else:
            yield from members(member)


@functools.cache
def event_types():
    """Event type to the class that the SDK has for it."""
    known = [*members(responses.ResponseStreamEvent)]
    if hasattr(responses, "ResponsesServerEvent"):
        known += members(responses.ResponsesServerEvent)
    types = {}
    for member in known:
        if hasattr(member, "model_fields") and "type" in member.model_fields:
            for name in typing.get_args(member.model_fields["type"].annotation):
                if isinstance(name, str):
                    types.setdefault(name, member)
    return types


def plain(thing):
    """As it was on the wire."""
    return thing if isinstance(thing, dict) else thing.to_dict(mode="json")


def extras(model, path=""):
    """Keys that the type does not have."""
    if isinstance(model, list):
        for n, each in enumerate(model):
            yield from extras(each, f"{path}[{n}]")
    elif isinstance(model, openai.BaseModel):
        for name in (model.model_extra or {}).keys() - EXTENSIONS:
            yield f"{path}.{name}"
        for name in model.__class__.model_fields:
            yield from extras(getattr(model, name, None), f"{path}.{name}")


def as_before(thing):
    """In the words of the API as the older major version knows it, which has only read what is newer as it came."""
    if isinstance(thing, list):
        return [as_before(each) for each in thing]
    if not isinstance(thing, dict):
        return thing
    thing = {key: as_before(value) for key, value in thing.items()}
    if thing.get("reason") == "steered":
        thing["reason"] = "max_output_tokens"
    if thing.get("type") == "mcp_call" and isinstance(thing.get("error"), dict):
        thing["error"] = thing["error"]["type"]
    return thing


def is_of(model, thing, allowed=()):
    """The thing satisfies the type: nothing required is missing, nothing has another type, nothing is unknown."""
    wire = plain(thing)
    parsed = model.model_validate(wire if NEWEST else as_before(wire))
    if NEWEST:
        # The newest types have dropped a key that the older ones ask for.
        allowed = (*allowed, ".name") if wire.get("type") == "response.function_call_arguments.done" else allowed
        unknown = [key for key in extras(parsed) if key not in allowed]
        assert not unknown, f"keys that {model.__name__} does not have: {unknown} in {wire}"
    return wire


def response(thing):
    """A response object: of its type, complete, and in agreement with itself."""
    wire = is_of(responses.Response, thing)
    given = {
        "id", "object", "created_at", "model", "output", "parallel_tool_calls", "tool_choice", "tools", "status", "error",
        "incomplete_details", "instructions", "metadata", "temperature", "top_p", "background", "previous_response_id",
        "max_output_tokens", "reasoning", "text", "truncation", "usage",
    }
    assert given <= wire.keys(), f"a response without {given - wire.keys()}"
    assert wire["object"] == "response" and wire["id"].startswith("resp_")
    assert wire["created_at"] == int(wire["created_at"])
    status = wire["status"]
    assert (status == "failed") == bool(wire["error"]), wire
    assert (status == "incomplete") == bool(wire["incomplete_details"]), wire
    assert (wire.get("completed_at") is not None) == (status == "completed"), wire
    assert "output_text" not in wire
    for item in wire["output"]:
        if status == "completed" and "status" in item:
            ends = ("completed", "failed") if item["type"] == "mcp_call" else ("completed",)
            assert item["status"] in ends, item
    return wire


def completion(thing):
    wire = is_of(ChatCompletion, thing)
    assert wire["object"] == "chat.completion" and wire["id"].startswith("chatcmpl-")
    return wire


def chunks(things, include_usage=False):
    """The chunks of one whole chat completion; gives text, reasoning, calls, finish reason and usage."""
    wires = [is_of(ChatCompletionChunk, thing) for thing in things]
    assert len({(w["id"], w["created"], w["model"], w["object"]) for w in wires}) == 1
    assert wires[0]["choices"][0]["delta"]["role"] == "assistant"
    told = {"id": wires[0]["id"], "text": "", "reasoning": "", "calls": [], "finish": None, "usage": None}
    for n, wire in enumerate(wires):
        if include_usage:
            assert "usage" in wire
        else:
            assert wire.get("usage") is None
        if not wire["choices"]:
            assert include_usage and n == len(wires) - 1
            told["usage"] = wire["usage"]
            continue
        assert told["finish"] is None, "a chunk after the finish"
        [choice] = wire["choices"]
        delta = choice["delta"]
        told["text"] += delta.get("content") or ""
        told["reasoning"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or []:
            if call["index"] == len(told["calls"]):
                assert call["id"] and call["type"] == "function" and call["function"]["name"]
                told["calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
            told["calls"][call["index"]]["arguments"] += call["function"].get("arguments") or ""
        told["finish"] = choice["finish_reason"]
    assert told["finish"], "it has no end"
    return told


class Fold:
    """What a client makes of the events of one response."""

    def __init__(self):
        self.next, self.id, self.end = 0, None, None
        self.items, self.open = [], {}
        self.text = ""

    def push(self, event, allowed=()):
        kind = event.type if not isinstance(event, dict) else event["type"]
        assert kind in event_types(), f"the SDK has no event {kind}"
        wire = is_of(event_types()[kind], event, allowed)
        assert self.end is None, f"{kind} after the end"
        assert wire["sequence_number"] == self.next, f"{wire['sequence_number']} where {self.next} is due"
        self.next += 1
        getattr(self, "_" + kind.removeprefix("response.").replace(".", "_"))(wire)
        return wire

    def all(self, events, allowed=()):
        for event in events:
            self.push(event, allowed)
        return self

    def _object(self, wire, status):
        response(wire["response"])
        assert self.next == 1 or self.id == wire["response"]["id"], "another response in the same stream"
        self.id = wire["response"]["id"]
        assert wire["response"]["status"] in status, wire["response"]["status"]

    def _created(self, wire):
        assert self.next == 1
        self._object(wire, ("queued", "in_progress"))

    def _in_progress(self, wire):
        assert self.next == 2
        self._object(wire, ("in_progress",))

    def _output_item_added(self, wire):
        assert wire["output_index"] == len(self.items), "output indexes have no gaps"
        item = wire["item"]
        assert item["id"] not in [known["id"] for known in self.items], "an id is used once"
        self.items.append(item)
        self.open[wire["output_index"]] = {"parts": [], "done": []}

    def _item(self, wire):
        item = self.items[wire["output_index"]]
        assert wire["item_id"] == item["id"]
        assert wire["output_index"] in self.open, "the item is not open"
        return item

    def _content_part_added(self, wire):
        self._item(wire)
        parts = self.open[wire["output_index"]]["parts"]
        assert wire["content_index"] == len(parts)
        assert wire["part"]["text"] == ""
        parts.append("")

    def _delta(self, wire):
        self._item(wire)
        assert wire["delta"] != "", "an empty delta"
        self.open[wire["output_index"]]["parts"][wire["content_index"]] += wire["delta"]

    def _output_text_delta(self, wire):
        self._delta(wire)
        self.text += wire["delta"]

    _reasoning_text_delta = _delta

    def _text_done(self, wire):
        self._item(wire)
        assert wire["text"] == self.open[wire["output_index"]]["parts"][wire["content_index"]]
        self.open[wire["output_index"]]["done"].append(f"text {wire['content_index']}")

    _output_text_done = _reasoning_text_done = _text_done

    def _content_part_done(self, wire):
        self._item(wire)
        assert wire["part"]["text"] == self.open[wire["output_index"]]["parts"][wire["content_index"]]
        self.open[wire["output_index"]]["done"].append(f"part {wire['content_index']}")

    def _arguments_delta(self, wire):
        self._item(wire)
        call = self.open[wire["output_index"]]
        call["arguments"] = call.get("arguments", "") + wire["delta"]

    def _arguments_done(self, wire):
        self._item(wire)
        assert wire["arguments"] == self.open[wire["output_index"]].get("arguments", "")
        self.open[wire["output_index"]]["done"].append("arguments")

    _function_call_arguments_delta = _mcp_call_arguments_delta = _arguments_delta
    _function_call_arguments_done = _mcp_call_arguments_done = _arguments_done

    def _mcp_call_in_progress(self, wire):
        self._item(wire)

    _mcp_call_completed = _mcp_call_failed = _mcp_call_in_progress

    def _output_item_done(self, wire):
        index, item = wire["output_index"], wire["item"]
        begun = self.items[index]
        assert (begun["id"], begun["type"]) == (item["id"], item["type"])
        said = self.open.pop(index)
        if item["type"] in ("message", "reasoning"):
            assert [part["text"] for part in item["content"]] == said["parts"]
            due = [f"{what} {n}" for n in range(len(said["parts"])) for what in ("text", "part")]
            assert said["done"] == due, f"{said['done']} where {due} are due"
        elif item["type"] in ("function_call", "mcp_call"):
            assert item["arguments"] == said.get("arguments", "")
            # A call that was cut has no end of its arguments.
            assert said["done"] == ["arguments"] or item["status"] == "incomplete"
        self.items[index] = item

    def _over(self, wire):
        assert not self.open, f"items are open at the end: {self.open}"
        self.end = wire["response"]
        assert self.end["output"] == self.items, "what was told is what is kept"

    def _completed(self, wire):
        self._object(wire, ("completed",))
        self._over(wire)

    def _incomplete(self, wire):
        self._object(wire, ("incomplete", "cancelled"))
        self._over(wire)

    def _failed(self, wire):
        self._object(wire, ("failed",))
        self._over(wire)


def events(things, whole=True):
    """The events of one response from its first to its last."""
    fold = Fold().all(things)
    assert fold.end or not whole, "it has no end"
    return fold
