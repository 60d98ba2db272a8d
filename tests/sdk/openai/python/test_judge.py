"""The judge itself: a stream that lacks, doubles, swaps or alters anything is not let through."""

import copy

import pytest

from harness import judge

TOOLS = [{"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False} for name in ("lookup", "get_weather")]


@pytest.fixture
def stream(client, name, request):
    more = {"tools": TOOLS} if request.param == "both" else {}
    events = client.responses.create(model="up/x", input=f"{request.param} {name}", stream=True, **more)
    return [event.to_dict(mode="json") for event in events]


def refused(events):
    with pytest.raises((AssertionError, KeyError, IndexError, ValueError)):
        judge.events(events)


@pytest.mark.parametrize("stream", ["think", "both", "slow 5"], indirect=True)
def test_the_judge_notices(stream):
    judge.events(stream)
    for n in range(len(stream)):
        refused(stream[:n] + stream[n + 1 :])
        refused(stream[: n + 1] + stream[n:])
        if n:
            refused([*stream[: n - 1], stream[n], stream[n - 1], *stream[n + 1 :]])
        # Renumbered, so that only what is told can betray it.
        if stream[n]["type"] not in ("response.in_progress", "response.mcp_call.in_progress"):
            betrayed = stream[:n] + stream[n + 1 :]
            refused([{**event, "sequence_number": number} for number, event in enumerate(betrayed)])
        if isinstance(stream[n].get("delta"), str):
            altered = copy.deepcopy(stream)
            altered[n]["delta"] += "x"
            refused(altered)
    refused([*stream, {**stream[-1], "sequence_number": len(stream)}])
    altered = copy.deepcopy(stream)
    altered[-1]["response"]["output"].pop()
    refused(altered)


@pytest.mark.parametrize("break_it", [
    lambda wire: wire.pop("usage"),
    lambda wire: wire.update(status="complete"),
    lambda wire: wire.update(something_new=1),
    lambda wire: wire.update(completed_at=None),
    lambda wire: wire["output"][0].update(status="in_progress"),
    lambda wire: wire["output"][0]["content"][0].pop("annotations"),
    lambda wire: wire["usage"].pop("output_tokens_details"),
])
def test_the_judge_notices_in_an_object(client, name, break_it):
    wire = client.responses.create(model="up/x", input=f"hello {name}").to_dict(mode="json")
    judge.response(wire)
    break_it(wire)
    if not judge.NEWEST and "something_new" in wire:
        return
    with pytest.raises((AssertionError, ValueError)):
        judge.response(wire)
