"""Runs that go on without their client: lost, found again at any event, polled, cancelled."""

import time

import openai
import pytest

from harness import judge
from harness.server import of, text_of
from harness.upstream import words

FEW = "These words come at once and then nothing more "
OVER = ("completed", "failed", "incomplete", "cancelled")


def begin(client, text, **more):
    return client.responses.create(model="up/x", input=text, background=True, **more)


def poll(client, response, patience=20):
    """As the documentation has it."""
    end = time.monotonic() + patience
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < end, "it does not end"
        time.sleep(0.02)
        response = client.responses.retrieve(response.id)
    return response


def until_seen(client, response, text, patience=10):
    end = time.monotonic() + patience
    while client.responses.retrieve(response.id).output_text != text:
        assert time.monotonic() < end, "it is not shown"
        time.sleep(0.02)


def test_polling(client, upstream, name):
    response = begin(client, f"slow 30 {name}")
    judge.response(response)
    assert response.status in ("queued", "in_progress") and response.background is True
    seen = []
    while (now := client.responses.retrieve(response.id)).status not in OVER:
        judge.response(now)
        seen.append(now.output_text)
        time.sleep(0.02)
    whole = f"{words(30)}to the end of {name}."
    judge.response(now)
    assert now.status == "completed" and now.output_text == whole
    assert len(set(seen)) > 2 and all(whole.startswith(part) for part in seen), "what is there so far is shown"
    assert len(upstream.about(name)) == 1


def test_it_is_found_at_every_event(client, name):
    """Cut at every n, the stream goes on at n + 1."""
    whole = list(begin(client, f"tokens 60 {name}", stream=True))
    fold = judge.events(whole)
    wires = [event.to_dict(mode="json") for event in whole]
    assert len(whole) > 40
    assert [e.to_dict(mode="json") for e in client.responses.retrieve(fold.id, stream=True)] == wires
    for n in range(len(whole)):
        rest = client.responses.retrieve(fold.id, stream=True, starting_after=n)
        assert [event.to_dict(mode="json") for event in rest] == wires[n + 1 :], n
    assert list(client.responses.retrieve(fold.id, stream=True, starting_after=10_000)) == []


def test_it_is_dropped_and_found_while_it_runs(client, upstream, name):
    """Twelve clients in a row have a part each, of a run that goes on all the while."""
    stream = begin(client, f"slow 80 {name}", stream=True)
    seen = []
    for turn in range(12):
        for event in stream:
            seen.append(event)
            if len(seen) >= 6 * (turn + 1):
                break
        stream.close()
        stream = client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    seen += stream
    fold = judge.events(seen)
    assert fold.text == f"{words(80)}to the end of {name}."
    [asked] = upstream.about(name)
    assert not asked.closed.is_set()


def test_a_stream_without_background_is_found_too(client, name):
    stream = client.responses.create(model="up/x", input=f"slow 40 {name}", stream=True)
    seen = [next(iter(stream)) for _ in range(8)]
    stream.close()
    seen += client.responses.retrieve(seen[0].response.id, stream=True, starting_after=7)
    assert judge.events(seen).text == f"{words(40)}to the end of {name}."


def test_cut_at_many_bytes(server, proxy, client, name):
    """The network breaks after so many bytes, again and again; what arrives is the whole answer."""
    fold = judge.events(begin(client, f"tokens 60 {name}", stream=True))
    whole = list(client.responses.retrieve(fold.id, stream=True))
    wires = [event.to_dict(mode="json") for event in whole]
    with openai.OpenAI(base_url=proxy.url, api_key="none", timeout=20) as far:
        for bytes_per_try in [*range(700, 4000, 211), 5000, 9001, 15_013]:
            seen = resumed(far, proxy, fold.id, bytes_per_try)
            assert seen == wires, bytes_per_try


def resumed(client, proxy, response_id, bytes_per_try):
    """Reads a response over connections that break after so many bytes."""
    seen, tries = [], 0
    while True:
        tries += 1
        assert tries < 2000
        # A try that brings nothing is followed by one that may bring a little more.
        proxy.limit(bytes_per_try + 400 * (tries % 7))
        after = {"starting_after": seen[-1]["sequence_number"]} if seen else {}
        try:
            for event in client.responses.retrieve(response_id, stream=True, **after):
                seen.append(event.to_dict(mode="json"))
        # What the SDKs make of a body that breaks off is their HTTP library's error, or their own.
        except Exception as error:  # noqa: BLE001
            assert is_broken(error), error
        if seen and seen[-1]["type"] in judge.TERMINAL:
            return seen


def is_broken(error):
    return isinstance(error, openai.APIConnectionError) or type(error).__name__ in ("RemoteProtocolError", "ReadError")


def test_cut_while_it_runs(server, proxy, name):
    with openai.OpenAI(base_url=proxy.url, api_key="none", timeout=20) as far:
        proxy.limit(4000)
        seen = []
        try:
            for event in begin(far, f"slow 60 {name}", stream=True):
                seen.append(event.to_dict(mode="json"))
        except Exception as error:  # noqa: BLE001
            assert is_broken(error), error
        assert 0 < len(seen) < 50
        tries = 0
        while seen[-1]["type"] not in judge.TERMINAL:
            tries += 1
            proxy.limit(1777 + 400 * (tries % 7))
            try:
                stream = far.responses.retrieve(
                    seen[0]["response"]["id"], stream=True, starting_after=seen[-1]["sequence_number"])
                for event in stream:
                    seen.append(event.to_dict(mode="json"))
            except Exception as error:  # noqa: BLE001
                assert is_broken(error), error
    assert judge.events(seen).text == f"{words(60)}to the end of {name}."


def test_the_helper_goes_on_where_it_was(client, name):
    """The helper replays all and filters by itself; so does one on a run that is not over."""
    whole = list(begin(client, f"tokens 30 {name}", stream=True))
    fold = judge.events(whole)
    for n in range(0, len(whole), 3):
        with client.responses.stream(response_id=fold.id, starting_after=n) as stream:
            events = list(stream)
            assert stream.get_final_response().output_text == fold.text
        assert [event.sequence_number for event in events] == list(range(n + 1, len(whole)))
    running = begin(client, f"slow 30 {name}")
    with client.responses.stream(response_id=running.id, starting_after=5) as stream:
        assert stream.get_final_response().output_text == f"{words(30)}to the end of {name}."


def test_cancel(client, server, upstream, name):
    response = begin(client, f"hold {name}")
    until_seen(client, response, FEW)
    cancelled = client.responses.cancel(response.id)
    judge.response(cancelled)
    assert upstream.about(name)[0].closed.wait(2), "the model goes on"
    assert (cancelled.status, cancelled.output_text) == ("cancelled", FEW)
    assert cancelled.output[0].status == "incomplete"
    # Twice is the same as once, and so is reading it.
    again = client.responses.cancel(response.id)
    assert again.to_dict(mode="json") == cancelled.to_dict(mode="json")
    assert client.responses.retrieve(response.id).to_dict(mode="json") == cancelled.to_dict(mode="json")
    fold = judge.events(client.responses.retrieve(response.id, stream=True))
    assert fold.end == cancelled.to_dict(mode="json") and fold.text == FEW


def test_cancel_is_seen_by_who_watches(client, upstream, name):
    stream = begin(client, f"hold {name}", stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta" and event.delta.endswith("more "):
            client.responses.cancel(seen[0].response.id)
    fold = judge.events(seen)
    assert seen[-1].type == "response.incomplete" and fold.end["status"] == "cancelled" and fold.text == FEW
    assert upstream.about(name)[0].closed.wait(2)


def test_cancel_without_background(client, upstream, name):
    stream = client.responses.create(model="up/x", input=f"hold {name}", stream=True)
    seen = []
    while not seen or seen[-1].type != "response.content_part.added":
        seen.append(next(stream))
    cancelled = client.responses.cancel(seen[0].response.id)
    assert cancelled.status == "cancelled"
    assert upstream.about(name)[0].closed.wait(2)
    assert judge.events([*seen, *stream]).end["status"] == "cancelled"


def test_cancel_before_the_first_token(client, upstream, name):
    response = begin(client, f"wait {name}")
    cancelled = client.responses.cancel(response.id)
    judge.response(cancelled)
    assert cancelled.status == "cancelled" and cancelled.output == []
    assert all(asked.closed.wait(2) for asked in upstream.about(name))


def test_cancel_of_what_is_over_changes_nothing(client, name):
    response = client.responses.create(model="up/x", input=f"hello {name}")
    assert client.responses.cancel(response.id).to_dict(mode="json") == response.to_dict(mode="json")


def test_ten_cancels_at_once(client, server, name):
    from concurrent.futures import ThreadPoolExecutor

    raw = client.responses.with_raw_response.create(model="up/x", input=f"hold {name}", background=True)
    response = raw.parse()
    until_seen(client, response, FEW)
    with ThreadPoolExecutor(10) as pool:
        all_of_them = list(pool.map(lambda _: client.responses.cancel(response.id).to_dict(mode="json"), range(10)))
    assert all(each == all_of_them[0] for each in all_of_them) and all_of_them[0]["status"] == "cancelled"
    assert len(of(server.log(raw.headers["steerage-session"]), "run.cancelled")) == 1


def test_stopped_and_steered_through_the_native_api(client, server, upstream, name):
    """One session, two doors: who cancels is not who began."""
    raw = client.responses.with_raw_response.create(model="up/x", input=f"hold {name}", background=True)
    response = raw.parse()
    until_seen(client, response, FEW)
    session = raw.headers["steerage-session"]
    assert server.control(session, {"type": "cancel"})["status"] == "applied"
    assert upstream.about(name)[0].closed.wait(2)
    after = client.responses.retrieve(response.id)
    assert (after.status, after.output_text) == ("cancelled", FEW) and text_of(server.log(session)) == FEW


def test_a_steered_response_names_its_successor(client, server, name):
    raw = client.responses.with_raw_response.create(model="up/x", input=f"hold {name}", background=True)
    response = raw.parse()
    until_seen(client, response, FEW)
    server.control(raw.headers["steerage-session"], {"type": "steer", "content": f"rather {name}"})
    steered = client.responses.retrieve(response.id)
    judge.response(steered)
    assert (steered.status, steered.incomplete_details.reason) == ("incomplete", "steered")
    assert steered.output_text == FEW and steered.output[0].status == "incomplete"
    successor = client.responses.retrieve(steered.metadata["steerage_successor"])
    successor = poll(client, successor)
    judge.response(successor)
    assert successor.output_text == f"You said rather {name}."
    assert successor.previous_response_id == response.id
    # Each of the two is one stream.
    assert judge.events(client.responses.retrieve(response.id, stream=True)).end["status"] == "incomplete"
    assert judge.events(client.responses.retrieve(successor.id, stream=True)).text == successor.output_text


def test_a_cancel_reaches_what_it_was_steered_into(client, server, upstream, name):
    """Who knows only the first id can stop it all the same."""
    raw = client.responses.with_raw_response.create(model="up/x", input=f"hold {name}", background=True)
    response = raw.parse()
    until_seen(client, response, FEW)
    server.control(raw.headers["steerage-session"], {"type": "steer", "content": f"hold on {name}"})
    successor = client.responses.retrieve(client.responses.retrieve(response.id).metadata["steerage_successor"])
    until_seen(client, successor, FEW)
    assert client.responses.cancel(response.id).status == "incomplete", "the steered one stays what it was"
    assert upstream.about(f"hold on {name}")[0].closed.wait(2), "the model goes on"
    assert client.responses.retrieve(successor.id).status == "cancelled"


def test_background_is_not_for_what_is_not_stored(client, name):
    with pytest.raises(openai.BadRequestError) as caught:
        begin(client, f"hello {name}", store=False)
    assert caught.value.param in ("background", "store")


async def test_dropped_and_found_asynchronously(aclient, name):
    stream = await aclient.responses.create(model="up/x", input=f"slow 40 {name}", background=True, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 10:
            break
    await stream.close()
    rest = await aclient.responses.retrieve(seen[0].response.id, stream=True, starting_after=9)
    seen += [event async for event in rest]
    assert judge.events(seen).text == f"{words(40)}to the end of {name}."
    response = await aclient.responses.create(model="up/x", input=f"hold {name}", background=True)
    assert (await aclient.responses.cancel(response.id)).status == "cancelled"
