#!/usr/bin/env python3
"""A real server behind real proxies, with the configurations of examples/proxy. Started by scripts/proxy-test.

One server, and in front of it nginx, HAProxy, an nginx that holds event streams back on purpose, and one that was told
nothing at all. Of the two examples only the addresses are changed, how many connections there may be, and the longest
silence, which is 15 s here so that heartbeats are seen to matter. Everything is on loopback, on free ports, and ends by
itself.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Nothing takes longer, whatever goes wrong.
ALL_MAX_S = 180
# Longest silence that the proxies allow here, and how long a stream is silent: one is above a heartbeat (10 s), the other
# above two of the former.
SILENCE_MAX_S = 15
SILENT_S = 31
# A token every 25 ms.
STORY = {"model": "demo/story", "params": {"tokens_per_second": 40}}
# The longest body that the server takes.
BODY_MAX = 4 * 1024 * 1024

# What a network does that nobody has asked for event streams. nginx speaks HTTP/1.0 to a server unless it is told not to: an
# answer then has no chunks, and nginx passes a buffer on when it is full.
BUFFERING = """
server {
    listen 80;
    proxy_buffering on;
    proxy_ignore_headers X-Accel-Buffering;
    proxy_buffer_size 256k;
    proxy_buffers 8 256k;
    proxy_busy_buffers_size 512k;
    location / { proxy_pass http://127.0.0.1:8787; }
    location ~ /ws$ {
        proxy_http_version 1.1;
        proxy_set_header Connection upgrade;
        proxy_set_header Upgrade $http_upgrade;
        proxy_pass http://127.0.0.1:8787;
    }
}
"""

# The least that is a proxy: here the server's own X-Accel-Buffering is all that speaks for its streams.
BARE = """
server {
    listen 80;
    location / { proxy_pass http://127.0.0.1:8787; }
}
"""

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {work}/{name}.pid;
error_log {work}/{name}.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {work}/{name}-body;
    proxy_temp_path {work}/{name}-proxy;
    fastcgi_temp_path {work}/{name}-fastcgi;
    uwsgi_temp_path {work}/{name}-uwsgi;
    scgi_temp_path {work}/{name}-scgi;
    # What others have set further out must not matter to the example.
    gzip on;
    gzip_min_length 1;
    gzip_types *;
    include {work}/{name}-site.conf;
}}
"""


class Failure(Exception):
    """Something that should hold does not."""


def expect(holds: object, what: str) -> None:
    if not holds:
        raise Failure(what)


# -------------------------------------------------------------------------------------------------------------- processes


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Failure(f"{process.args[0]} did not start:\n{log.read_text(errors='replace')}")


class World:
    """The processes of this test; each is ended by the id under which it was started."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.processes: list[subprocess.Popen] = []
        self.ports: dict[str, int] = {}

    def start(self, name: str, port: int, command: list[str], env: dict[str, str] | None = None) -> None:
        log = self.work / f"{name}.out"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        self.processes.append(process)
        wait_for_port(port, process, log)
        self.ports[name] = port

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def server(self) -> None:
        port = free_port()
        mine = {k: v for k, v in os.environ.items() if not k.startswith("STEERAGE_")}
        command = [self.options.steerage, "serve", "--listen", f"127.0.0.1:{port}", "--store", "memory"]
        self.start("direct", port, command, mine)

    def nginx(self, name: str, site: str) -> None:
        port = free_port()
        site = replaced(site, "listen 80;", f"listen 127.0.0.1:{port};")
        site = replaced(site, "127.0.0.1:8787", f"127.0.0.1:{self.ports['direct']}")
        name, title = name.replace(" ", "-"), name
        (self.work / f"{name}-site.conf").write_text(site)
        user = "user root;" if os.geteuid() == 0 else ""
        config = self.work / f"{name}.conf"
        config.write_text(NGINX.format(user=user, work=self.work, name=name))
        self.start(title, port, [self.options.nginx, "-p", str(self.work), "-e", "stderr", "-c", str(config)])

    def haproxy(self, text: str) -> None:
        port = free_port()
        text = replaced(text, "bind :80", f"bind 127.0.0.1:{port}")
        text = replaced(text, "127.0.0.1:8787", f"127.0.0.1:{self.ports['direct']}")
        # A machine may allow fewer files than the example wants.
        text = replaced(text, "maxconn 10000", "maxconn 200")
        config = self.work / "haproxy.cfg"
        config.write_text(text)
        env = dict(os.environ)
        home = Path(self.options.haproxy).parents[2]
        if (home / "usr" / "lib").is_dir() and home != Path("/"):
            env["LD_LIBRARY_PATH"] = ":".join(str(path) for path in (home / "usr" / "lib").glob("*-linux-*"))
        self.start("haproxy", port, [self.options.haproxy, "-db", "-f", str(config)], env)


def replaced(text: str, old: str, new: str) -> str:
    expect(old in text, f"the configuration has no `{old}`")
    return text.replace(old, new)


# ------------------------------------------------------------------------------------------------------------------- HTTP


def call(port: int, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
    """One request on a connection of its own: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    with contextlib.closing(connection):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"accept": "application/json"} | ({"content-type": "application/json"} if data else {}) | (headers or {})
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def ask(port: int, method: str, path: str, body: object = None) -> dict:
    status, _, answer = call(port, method, path, body)
    expect(status in (200, 201), f"{method} {path}: {status} {answer[:300]!r}")
    return json.loads(answer)


class Stream:
    """An event stream, read byte by byte as it comes. Each event is kept with the moment of its last byte."""

    def __init__(
        self,
        port: int,
        method: str,
        path: str,
        body: object = None,
        cursor: str | None = None,
        compressed: bool = True,
    ) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
        # What browsers and SDKs ask for, too: an answer must not be compressed all the same.
        headers = {"accept": "text/event-stream", "content-type": "application/json"}
        if compressed:
            headers["accept-encoding"] = "gzip, deflate"
        if cursor:
            headers["last-event-id"] = cursor
        self.connection.request(method, path, json.dumps(body).encode() if body else None, headers)
        self.response = self.connection.getresponse()
        expect(self.response.status == 200, f"{method} {path}: {self.response.status}")
        encoding = self.response.getheader("content-encoding")
        expect(encoding is None, f"{method} {path}: the stream is compressed ({encoding})")
        self.comments = 0

    def events(self) -> Iterator[tuple[float, str | None, str]]:
        """Moment, id and data of each whole event; what has neither is a comment."""
        rest = b""
        while piece := self.response.read1(65536):
            now = time.monotonic()
            *whole, rest = (rest + piece).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line[1:])
                if "data" in fields:
                    yield now, fields.get("id"), fields["data"]
                else:
                    self.comments += 1

    def close(self) -> None:
        # The response holds the socket, too.
        self.response.close()
        self.connection.close()


class WebSocket:
    """RFC 6455, as much of it as a client of text messages needs."""

    def __init__(self, port: int, path: str, origin: str | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 40)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += [f"Origin: {origin}"] if origin else []
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        self.status = int(head.split(b" ")[1])

    def more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError
        self.rest += piece

    def take(self, count: int) -> bytes:
        while len(self.rest) < count:
            self.more()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def send(self, message: object, opcode: int = 1) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        mask = os.urandom(4)
        length = len(data)
        size = bytes([128 | length]) if length < 126 else bytes([254]) + struct.pack(">H", length)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(bytes([128 | opcode]) + size + mask + masked)

    def messages(self) -> Iterator[tuple[float, dict]]:
        whole = b""
        while True:
            try:
                first, length = self.take(2)
                if length == 126:
                    (length,) = struct.unpack(">H", self.take(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", self.take(8))
                data = self.take(length)
            except EOFError:
                return
            opcode = first & 15
            if opcode == 8:
                return
            if opcode == 9:
                self.send(data, 10)
            if opcode in (0, 1):
                whole += data
                if first & 128:
                    yield time.monotonic(), json.loads(whole)
                    whole = b""

    def close(self) -> None:
        self.socket.close()


# ------------------------------------------------------------------------------------------------------------ what is held


def new_session(world: World, **more: object) -> str:
    body = STORY | more
    return ask(world.ports["direct"], "POST", "/v1/sessions", body)["session_id"]


def say(world: World, session: str, text: str = "tell me a story") -> None:
    ask(world.ports["direct"], "POST", f"/v1/sessions/{session}/control", {"type": "send", "content": text})


def log_of(world: World, session: str) -> list[dict]:
    """The log, from the server itself."""
    events, after = [], ""
    while True:
        page = ask(world.ports["direct"], "GET", f"/v1/sessions/{session}/events{after}")
        events += page["events"]
        if page["caught_up"]:
            return events
        after = f"?after={page['last_event_id']}"


def wait_until(what: str, within_s: float, holds: Callable[[], object]) -> float:
    began = time.monotonic()
    while not holds():
        expect(time.monotonic() - began < within_s, f"{what} within {within_s} s")
        time.sleep(0.1)
    return time.monotonic() - began


def rests(world: World, session: str) -> bool:
    # Not by its events: whoever reads those is a reader, and a session may wait for its last one to leave.
    return ask(world.ports["direct"], "GET", f"/v1/sessions/{session}")["state"] != "running"


def expect_cancelled(world: World, session: str, what: str) -> None:
    kinds = [event["type"] for event in log_of(world, session)]
    expect(kinds.count("run.cancelled") == 1 and "run.completed" not in kinds, f"{what}: the run is cancelled")
    expect("text.delta" not in kinds[kinds.index("run.cancelled") :], f"{what}: nothing is said after the cancel")


class Arrivals:
    """When the deltas of a story came: how long after it was asked for, how long apart, how many at a time."""

    def __init__(self, asked: float, moments: list[float]) -> None:
        self.count = len(moments)
        self.first = moments[0] - asked if moments else float("inf")
        gaps = [b - a for a, b in zip(moments, moments[1:])]
        self.longest = max(gaps, default=0)
        ordered = sorted(gap for gap in gaps if gap > 0.001)
        self.median = ordered[len(ordered) // 2] if ordered else 0.0
        self.distinct = 1 + len(ordered)
        # Deltas that came together: within a millisecond of each other.
        self.burst, run = 1, 1
        for gap in gaps:
            run = run + 1 if gap <= 0.001 else 1
            self.burst = max(self.burst, run)

    def one_by_one(self) -> bool:
        # A busy machine may join a few.
        return self.count > 100 and self.distinct > 0.7 * self.count and self.burst <= 20 and self.first < 1.5

    def __str__(self) -> str:
        return (
            f"{self.count} deltas at {self.distinct} moments, the first after {self.first * 1000:.0f} ms, median gap "
            f"{self.median * 1000:.1f} ms, longest {self.longest * 1000:.0f} ms, at most {self.burst} at a time"
        )


def is_delta(data: str) -> bool:
    return '"type":"text.delta"' in data


def sse_arrivals(world: World) -> dict[str, Arrivals]:
    """One story, read through every door at the same time."""
    session = new_session(world)
    path = f"/v1/sessions/{session}/events"
    # The bare one would compress the stream.
    streams = {
        name: Stream(port, "GET", path, compressed=name != "bare nginx")
        for name, port in world.ports.items()
        if name != "buffering"
    }
    # That one is opened in its thread, when the story runs: not even its headers come before the end.
    held = f"{path}?after={log_of(world, session)[0]['id']}&until=idle"
    seen: dict[str, list[tuple[float, str | None, str]]] = {}

    def read(name: str) -> None:
        stream = streams.get(name) or Stream(world.ports[name], "GET", held, compressed=False)
        seen[name] = []
        for event in stream.events():
            seen[name].append(event)
            if '"type":"run.completed"' in event[2]:
                break
        stream.close()

    readers = [threading.Thread(target=read, args=(name,), daemon=True) for name in streams]
    for reader in readers:
        reader.start()
    time.sleep(0.3)
    asked = time.monotonic()
    say(world, session)
    readers.append(threading.Thread(target=read, args=("buffering",), daemon=True))
    readers[-1].start()
    for reader in readers:
        reader.join(40)
        expect(not reader.is_alive(), "a stream ends with its story")
    log = log_of(world, session)
    for name in world.ports:
        events = [json.loads(data) for _, event_id, data in seen[name] if event_id]
        want = log[1:] if name == "buffering" else log
        expect(events == want, f"{name}: what was read is the log")
    return {name: Arrivals(asked, [at for at, _, data in seen[name] if is_delta(data)]) for name in world.ports}


def ws_arrivals(world: World, name: str) -> Arrivals:
    session = new_session(world)
    one = WebSocket(world.ports[name], f"/v1/sessions/{session}/ws")
    expect(one.status == 101, f"{name}: the upgrade is answered with {one.status}")
    asked = time.monotonic()
    one.send({"type": "send", "command_id": "c1", "content": "tell me a story"})
    events, moments, receipt = [], [], False
    for at, message in one.messages():
        receipt |= message["type"] == "receipt"
        if "id" in message:
            events.append(message)
        if message["type"] == "text.delta":
            moments.append(at)
        if message["type"] == "run.completed":
            break
    one.close()
    expect(receipt, f"{name}: the command has its receipt")
    expect(events == log_of(world, session), f"{name}: what came over the WebSocket is the log")
    return Arrivals(asked, moments)


def ws_cancel(world: World, name: str) -> str:
    """Stop over the WebSocket, in mid-answer; and the other WebSocket doors, the same origin and a foreign one."""
    port = world.ports[name]
    session = new_session(world, input="tell me a story")
    one = WebSocket(port, f"/v1/sessions/{session}/ws", f"http://127.0.0.1:{port}")
    expect(one.status == 101, f"{name}: a page of the same origin is let in ({one.status})")
    deltas, cancelled_at, took = 0, 0.0, None
    for at, message in one.messages():
        deltas += message["type"] == "text.delta"
        if deltas == 20 and not cancelled_at:
            cancelled_at = time.monotonic()
            one.send({"type": "cancel", "command_id": "stop"})
        if message["type"] == "receipt":
            expect(message["command_id"] == "stop", "the receipt is of the cancel")
            took = at - cancelled_at
            break
    one.close()
    expect(took is not None and took < 2, f"{name}: the cancel is answered at once ({took})")
    expect_cancelled(world, session, name)
    for path in ("/v1/ai-sdk/chat/ws", "/v1/responses", f"/v1/sessions/{session}/ws"):
        for origin, status in ((f"http://127.0.0.1:{port}", 101), ("http://elsewhere.example", 403)):
            other = WebSocket(port, path, origin)
            other.close()
            expect(other.status == status, f"{name}: {path} for a page of {origin}: {other.status}, not {status}")
    return f"answered after {took * 1000:.0f} ms"


def responses_ws(world: World, name: str) -> str:
    """The WebSocket of the Responses API streams."""
    one = WebSocket(world.ports[name], "/v1/responses")
    asked = time.monotonic()
    one.send({"type": "response.create", "model": "demo/story", "input": "tell me a story"})
    moments = []
    for at, message in one.messages():
        if message["type"] == "response.output_text.delta":
            moments.append(at)
        expect(message["type"] not in ("error", "response.failed"), f"{name}: {message}")
        if len(moments) == 40:
            break
    one.close()
    arrivals = Arrivals(asked, moments)
    expect(arrivals.distinct > 28 and arrivals.first < 1.5, f"{name}: one by one: {arrivals}")
    return str(arrivals)


def post_stream(world: World, name: str) -> str:
    """A stream that is the answer to a POST, in OpenAI's dialect."""
    asked = time.monotonic()
    body = {"model": "demo/story", "stream": True, "messages": [{"role": "user", "content": "tell me a story"}]}
    stream = Stream(world.ports[name], "POST", "/v1/chat/completions", body)
    moments, last = [], ""
    for at, _, data in stream.events():
        last = data
        if '"content":' in data:
            moments.append(at)
    arrivals = Arrivals(asked, moments)
    expect(last == "[DONE]", f"{name}: the stream ends with [DONE]")
    expect(arrivals.one_by_one(), f"{name}: one by one: {arrivals}")
    return str(arrivals)


def resume(world: World, name: str) -> str:
    """Cut again and again, also in the middle of an event: what was read is the log."""
    session = new_session(world, input="tell me a story")
    events, cuts, cursor = [], 0, None
    while not (events and events[-1]["type"] == "run.completed"):
        stream = Stream(world.ports[name], "GET", f"/v1/sessions/{session}/events", cursor=cursor)
        for count, (_, event_id, data) in enumerate(stream.events()):
            if event_id:
                cursor = event_id
                events.append(json.loads(data))
            if (count == 40 and cuts < 6) or events and events[-1]["type"] == "run.completed":
                break
        cuts += 1
        stream.close()
    expect(cuts > 3, f"{name}: the stream was cut {cuts} times")
    log = log_of(world, session)
    expect(events == log, f"{name}: {len(events)} events were read, the log has {len(log)}")
    return f"{cuts} connections, {len(events)} events"


def long_poll(world: World, name: str) -> str:
    """Pages as they grow, and one that waits for the first event; prompt, also where streams are held back."""
    port, session = world.ports[name], new_session(world)
    path = f"/v1/sessions/{session}/events"
    page = ask(port, "GET", path)
    events, after = page["events"], page["last_event_id"]
    threading.Timer(2, say, (world, session)).start()
    began = time.monotonic()
    polls, moments = 0, []
    while not (events and events[-1]["type"] == "run.completed"):
        page = ask(port, "GET", f"{path}?after={after}&wait_s=14")
        events += page["events"]
        after = page["last_event_id"]
        polls += 1
        moments += [time.monotonic()] * any(event["type"] == "text.delta" for event in page["events"])
        expect(time.monotonic() - began < 40, f"{name}: the story ends")
        time.sleep(0.1)
    waited = moments[0] - began - 2
    expect(waited < 1.5, f"{name}: the first delta came {waited:.1f} s after it was asked for")
    expect(len(moments) > 20, f"{name}: the story came in {len(moments)} pages")
    expect(events == log_of(world, session), f"{name}: the pages are the log")
    return f"first delta after {waited * 1000:.0f} ms, the story in {len(moments)} pages"


def commands(world: World, name: str) -> str:
    """Cancel by POST; one whose sender leaves at once; bodies at the server's limit and above it."""
    port = world.ports[name]
    session = new_session(world, input="tell me a story")
    time.sleep(0.5)
    began = time.monotonic()
    receipt = ask(port, "POST", f"/v1/sessions/{session}/control", {"type": "cancel"})
    took = time.monotonic() - began
    expect(receipt["status"] == "applied" and took < 2, f"{name}: {receipt} after {took:.1f} s")
    expect_cancelled(world, session, name)

    for number in range(10):
        session = new_session(world, input="tell me a story")
        body = b'{"type":"cancel"}'
        head = f"POST /v1/sessions/{session}/control HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(f"{name}: cancel {number} of one who leaves", 3, lambda: rests(world, session))
        expect_cancelled(world, session, f"{name}: cancel {number} of one who leaves")

    whole = json.dumps(STORY).encode()
    status, _, answer = call(port, "POST", "/v1/sessions", whole + b" " * (BODY_MAX - len(whole)))
    expect(status == 201, f"{name}: a body of 4 MiB: {status} {answer[:200]!r}")
    status, _, answer = call(port, "POST", "/v1/sessions", whole + b" " * (BODY_MAX + 1 - len(whole)))
    expect(status == 413 and b"payload_too_large" in answer, f"{name}: a body of 4 MiB and one: {status} {answer[:200]!r}")
    return f"cancel answered after {took * 1000:.0f} ms, 10 of 10 by senders who left"


def silence(world: World, name: str) -> str:
    """A stream without events for twice the longest silence that the proxy allows."""
    session = new_session(world)
    stream = Stream(world.ports[name], "GET", f"/v1/sessions/{session}/events")
    threading.Timer(SILENT_S, say, (world, session)).start()
    began, found = time.monotonic(), False
    for _, _, data in stream.events():
        if is_delta(data):
            found = True
            break
    lasted = time.monotonic() - began
    stream.close()
    expect(found and lasted > SILENT_S, f"{name}: the stream ended after {lasted:.0f} s")
    # One is the opening comment.
    expect(stream.comments >= 3, f"{name}: {stream.comments} comments")
    ask(world.ports["direct"], "POST", f"/v1/sessions/{session}/control", {"type": "cancel"})
    return f"{lasted:.0f} s, {stream.comments - 1} heartbeats, then events on the same connection"


def leaving(world: World, name: str) -> str:
    """A session that is to be cancelled a second after its last reader has left."""
    session = new_session(world, input="tell me a story", on_disconnect={"cancel_after_s": 1})
    stream = Stream(world.ports[name], "GET", f"/v1/sessions/{session}/events")
    for _, _, data in stream.events():
        if is_delta(data):
            break
    stream.close()
    took = wait_until(f"{name}: a client that leaves is noticed", 5, lambda: rests(world, session))
    expect_cancelled(world, session, name)
    return f"cancelled {took:.1f} s after the client left"


def one_by_one(arrivals: Arrivals, name: str) -> str:
    expect(arrivals.one_by_one(), f"{name}: not one by one: {arrivals}")
    return str(arrivals)


def held_back(arrivals: Arrivals) -> str:
    expect(not arrivals.one_by_one(), f"the test does not see that events are held back: {arrivals}")
    expect(arrivals.first > 3, f"events are held back: {arrivals}")
    return str(arrivals)


def run(world: World) -> int:
    ways = ("direct", "nginx", "haproxy")
    proxies = ("nginx", "haproxy")
    checks: list[tuple[str, Callable[[], str]]] = []
    for name in ways:
        checks.append((f"{name}: a WebSocket delivers one by one", lambda n=name: one_by_one(ws_arrivals(world, n), n)))
    for name in proxies:
        for title, check in (
            ("a cancel over the WebSocket, and every WebSocket door", ws_cancel),
            ("the WebSocket of the Responses API", responses_ws),
            ("a POST that streams", post_stream),
            ("cut and resumed with Last-Event-ID", resume),
            ("long-poll", long_poll),
            ("commands and bodies", commands),
            ("a silent stream outlives the proxy's patience", silence),
            ("a client that leaves is noticed", leaving),
        ):
            checks.append((f"{name}: {title}", lambda n=name, c=check: c(world, n)))
    checks.append(("buffering: long-poll is prompt all the same", lambda: long_poll(world, "buffering")))
    checks.append(
        ("buffering: a WebSocket is prompt all the same", lambda: one_by_one(ws_arrivals(world, "buffering"), "buffering"))
    )

    failed = 0

    def report(title: str, result: Callable[[], str]) -> None:
        nonlocal failed
        try:
            print(f"ok      {title}: {result()}", flush=True)
        except Exception as error:  # every way to fail is a failure of that check alone
            failed += 1
            print(f"FAILED  {title}: {type(error).__name__}: {error}", flush=True)

    # The long silences run beside all else; the rest a few at a time, so that a small machine does not blur the times.
    with concurrent.futures.ThreadPoolExecutor(8) as many, concurrent.futures.ThreadPoolExecutor(4) as few:
        silent = [(title, many.submit(check)) for title, check in checks if "silent" in title]
        try:
            arrivals = sse_arrivals(world)
        except Exception as error:  # the same
            report("one story, read through every proxy", lambda e=error: (_ for _ in ()).throw(e))
            arrivals = {}
        for name, one in arrivals.items():
            if name == "buffering":
                report("buffering: SSE is held back, and the test sees it", lambda o=one: held_back(o))
            else:
                report(f"{name}: SSE delivers one by one", lambda o=one, n=name: one_by_one(o, n))
        rest = [(title, few.submit(check)) for title, check in checks if "silent" not in title]
        for title, future in rest + silent:
            report(title, future.result)
    total = len(checks) + max(1, len(arrivals))
    print(f"proxy-test: {total - failed} of {total} hold")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for tool in ("steerage", "nginx", "haproxy"):
        parser.add_argument(f"--{tool}", required=True)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="steerage-proxy-") as folder:
        world = World(options, Path(folder))

        def over(number: int, _: object) -> None:
            # First what is waited for: then every thread comes to its end.
            world.stop()
            late = f"proxy-test: not done after {ALL_MAX_S} s"
            raise SystemExit(late if number == signal.SIGALRM else "proxy-test: ended from outside")

        signal.signal(signal.SIGALRM, over)
        signal.signal(signal.SIGTERM, over)
        signal.alarm(ALL_MAX_S)
        try:
            world.server()
            examples = ROOT / "examples" / "proxy"
            site = (examples / "nginx.conf").read_text()
            world.nginx("nginx", replaced(site, "proxy_read_timeout 1h;", f"proxy_read_timeout {SILENCE_MAX_S}s;"))
            text = (examples / "haproxy.cfg").read_text()
            world.haproxy(re.sub(r"(timeout (?:client|server|tunnel)) 1h", rf"\1 {SILENCE_MAX_S}s", text))
            world.nginx("buffering", BUFFERING)
            world.nginx("bare nginx", BARE)
            return run(world)
        except Failure as failure:
            print(f"FAILED  {failure}")
            return 1
        finally:
            world.stop()


if __name__ == "__main__":
    sys.exit(main())
