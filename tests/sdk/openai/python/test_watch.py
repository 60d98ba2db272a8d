"""One session, every door at once: each client has the same text."""

import json
import threading
import time
import urllib.request

from websockets.sync.client import connect

from harness import judge
from harness.server import text_of
from harness.upstream import words


def sse(url):
    """The data of an event stream."""
    request = urllib.request.Request(url, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        for line in answer:
            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                yield json.loads(line.removeprefix(b"data: "))


def native_sse(server, session):
    return text_of(sse(f"{server.url}/v1/sessions/{session}/events?until=idle"))


def native_socket(server, session):
    events = []
    with connect(f"{server.url.replace('http', 'ws')}/v1/sessions/{session}/ws?from=start", max_size=None) as socket:
        for message in socket:
            events.append(json.loads(message))
            if events[-1]["type"] == "run.completed":
                return text_of(events)
    raise AssertionError("the socket ended before the run")


def ai_sdk(server, session):
    chunks = list(sse(f"{server.url}/v1/ai-sdk/chat/{session}/stream"))
    assert chunks[-1]["type"] == "finish"
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


def test_four_clients_and_one_text(client, server, upstream, name):
    raw = client.responses.with_raw_response.create(model="up/x", input=f"slow 100 {name}", background=True)
    response, session = raw.parse(), raw.headers["steerage-session"]
    texts, problems = {}, []

    def watch(door, read):
        try:
            texts[door] = read()
        except Exception as problem:  # noqa: BLE001
            problems.append((door, problem))

    def chat():
        chunk = judge.ChatCompletionChunk
        import openai

        return judge.chunks(client.get(
            f"/chat/completions/chatcmpl-{session}", cast_to=chunk, stream=True, stream_cls=openai.Stream[chunk],
            options={"params": {"stream": "true"}}))["text"]

    doors = {
        "native SSE": lambda: native_sse(server, session),
        "native WebSocket": lambda: native_socket(server, session),
        "AI SDK": lambda: ai_sdk(server, session),
        "Responses": lambda: judge.events(client.responses.retrieve(response.id, stream=True)).text,
        "Responses, later": lambda: time.sleep(0.4) or judge.events(client.responses.retrieve(response.id, stream=True)).text,
        "chat": chat,
    }
    threads = [threading.Thread(target=watch, args=door) for door in doors.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert problems == []
    whole = f"{words(100)}to the end of {name}."
    assert texts == dict.fromkeys(doors, whole)
    assert len(upstream.about(name)) == 1


def test_a_chat_of_the_ai_sdk_is_read_and_stopped_from_here(client, server, upstream, name):
    """What useChat began is a run like any other."""
    body = {"id": f"ui-{name}", "model": "up/x", "messages": [
        {"id": "m1", "role": "user", "parts": [{"type": "text", "text": f"hold {name}"}]}]}
    request = urllib.request.Request(
        f"{server.url}/v1/ai-sdk/chat", data=json.dumps(body).encode(), headers={"content-type": "application/json"})
    answer = urllib.request.urlopen(request, timeout=30)
    end = time.monotonic() + 10
    while "more " not in text_of(log := server.log(f"ui-{name}")):
        assert time.monotonic() < end
        time.sleep(0.02)
    [started] = [event for event in log if event["type"] == "run.started"]
    epoch, seq = started["run_id"].rsplit("_", 2)[1:]
    cancelled = client.responses.cancel(f"resp_ui-{name}_{epoch}_{seq}")
    judge.response(cancelled)
    assert cancelled.status == "cancelled" and "nothing more" in cancelled.output_text
    assert upstream.about(name)[0].closed.wait(2)
    assert b'"abort"' in answer.read()
    answer.close()
