"""What the edge's scripts share: a server in a process of its own, what the system says of it, clients beside it.

Everything is on loopback, on free ports, and each process is ended by the id under which it was started.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Longest that a server may take to listen: opening a store of thousands of sessions is in it.
START_MAX_S = 30
# Longest that a server may take from SIGTERM to its end: the drain's grace and some ten seconds.
STOP_MAX_S = 40
# A request of a healthy client every so often.
HEALTH_EVERY_S = 0.01
# Longest that a healthy client waits for anything before that counts as a failure.
HEALTHY_MAX_S = 5


class Failure(Exception):
    """Something that should hold does not."""


def expect(holds: object, what: str) -> None:
    if not holds:
        raise Failure(what)


def raise_file_limit() -> int:
    """As many files as this process may have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def share(values: list[float], part: float) -> float:
    """The value that this part of them does not exceed; not a number where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def wait_until(what: str, within_s: float, holds: Callable[[], object], every_s: float = 0.05) -> float:
    """The seconds that it took until something held."""
    began = time.monotonic()
    while not holds():
        expect(time.monotonic() - began < within_s, f"not within {within_s} s: {what}")
        time.sleep(every_s)
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """One steerage, which may be started again on the same port and the same store."""

    def __init__(self, binary: str, work: Path, settings: str = "", store: str = "memory", port: int = 0) -> None:
        self.binary, self.work, self.port, self.store = binary, work, port or free_port(), store
        work.mkdir(parents=True, exist_ok=True)
        self.config = work / "steerage.toml"
        self.config.write_text(settings)
        self.log = work / "server.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> Server:
        mine = {k: v for k, v in os.environ.items() if not k.startswith("STEERAGE_")}
        mine["NO_COLOR"] = "1"
        command = [self.binary, "serve", "--config", str(self.config), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--store", self.store]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=mine)

        def listens() -> bool:
            expect(self.process.poll() is None, f"the server did not start:\n{self.log.read_text(errors='replace')}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_until("the server listens", START_MAX_S, listens, 0.005)
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> float:
        """SIGTERM; the seconds until it ended, with 0."""
        began = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"the server did not end within {STOP_MAX_S} s of SIGTERM") from None
        expect(code == 0, f"the server ended with {code}")
        return time.monotonic() - began

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def check(self) -> None:
        """It lives, and has not panicked."""
        expect(self.process.poll() is None, f"the server has ended:\n{self.log.read_text(errors='replace')[-4000:]}")
        said = self.log.read_text(errors="replace")
        expect("panicked" not in said, f"the server panicked:\n{said[-4000:]}")

    def memory_kib(self, field: str = "VmRSS") -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise Failure(f"no {field}")

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def held(self) -> set[int]:
        """The peers' ports of connections of which the server has a descriptor, from the kernel's own table."""
        held = set()
        for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            local, remote, inode = fields[1], fields[2], fields[9]
            if int(local.split(":")[1], 16) == self.port and inode != "0":
                held.add(int(remote.split(":")[1], 16))
        # A listener's peer is nobody.
        return held - {0}

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
        """One request on a connection of its own: status, headers, body."""
        return call(self.port, method, path, body, headers)

    def ask(self, method: str, path: str, body: object = None) -> dict:
        status, _, answer = self.call(method, path, body)
        expect(status in (200, 201), f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)

    def log_of(self, session: str) -> list[dict]:
        events, after = [], ""
        while True:
            page = self.ask("GET", f"/v1/sessions/{session}/events{after}")
            events += page["events"]
            if page["caught_up"]:
                return events
            after = f"?after={page['last_event_id']}"


def call(port: int, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    with contextlib.closing(connection):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"accept": "application/json"} | ({"content-type": "application/json"} if data else {}) | (headers or {})
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def get(port: int, path: str, more: str = "") -> bytes:
    """A request head of HTTP/1.1."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{more}\r\n".encode()


def upgrade(port: int, path: str) -> bytes:
    """That of a WebSocket (RFC 6455)."""
    more = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    return get(port, path, more + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One of HTTP/2 (RFC 9113 §4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(port: int, path: str) -> bytes:
    """A request on a new HTTP/2 connection, its fields spelt out (RFC 7541 §6.2.2); windows wide open."""
    host = f"127.0.0.1:{port}".encode()
    literal = lambda index, value: bytes([index, len(value)]) + value  # noqa: E731
    # :method GET and :scheme http are in the static table; :path is 4 there, :authority 1.
    head = b"\x82\x86" + literal(4, path.encode()) + literal(1, host)
    settings = frame(4, 0, 0, struct.pack(">HI", 4, 2**31 - 1))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + frame(8, 0, 0, struct.pack(">I", 2**30)) + frame(1, 5, 1, head)


def long_session(server: Server, bytes_least: int) -> str:
    """A session whose log is at least so long, and which rests."""
    body = {"model": "demo/story", "params": {"tokens_per_second": 100_000}}
    session = server.ask("POST", "/v1/sessions", body)["session_id"]
    size = 0
    while size < bytes_least:
        path = f"/v1/sessions/{session}"
        before = server.ask("GET", path)["last_event_id"]
        server.ask("POST", f"{path}/control", {"type": "send", "content": "tell me a story"})
        wait_until("a story ends", 20, lambda p=path: server.ask("GET", p)["state"] == "idle")
        after = f"{path}/events?after={before}&until=idle"
        size += len(server.call("GET", after, headers={"accept": "text/event-stream"})[2])
    return session


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"steerage-{name}-") as folder:
        yield Path(folder)


class Healthy:
    """A client that does nothing wrong: it asks for /healthz on a connection that it keeps, and reads a story."""

    def __init__(self, server: Server) -> None:
        self.server, self.stopping = server, threading.Event()
        self.answers_s: list[float] = []
        self.gaps_s: list[float] = []
        self.failures: list[str] = []
        # Long enough for everything that is done beside it, a delta every 25 ms.
        body = {"model": "demo/story", "params": {"tokens_per_second": 40}}
        self.session = server.ask("POST", "/v1/sessions", body)["session_id"]
        self.threads = [threading.Thread(target=self.run, args=(one,), daemon=True) for one in (self.health, self.read)]

    def __enter__(self) -> Healthy:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(HEALTHY_MAX_S + 1)

    def run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it was, this client had a failure
            self.failures.append(f"{work.__name__}: {error!r}")

    def health(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=HEALTHY_MAX_S)
        with contextlib.closing(connection):
            while not self.stopping.is_set():
                began = time.monotonic()
                connection.request("GET", "/healthz")
                response = connection.getresponse()
                response.read()
                expect(response.status == 200, f"/healthz: {response.status}")
                self.answers_s.append(time.monotonic() - began)
                self.stopping.wait(HEALTH_EVERY_S)

    def say(self) -> None:
        path = f"/v1/sessions/{self.session}/control"
        status, _, answer = self.server.call("POST", path, {"type": "send", "content": "tell me a story"})
        expect(status == 200, f"send: {status} {answer[:200]!r}")

    def read(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port), HEALTHY_MAX_S) as stream:
            stream.sendall(get(self.server.port, f"/v1/sessions/{self.session}/events?from=now"))
            self.say()
            last, rest = 0.0, b""
            while not self.stopping.is_set():
                piece = stream.recv(65536)
                expect(piece, "the stream of a healthy reader ended")
                now = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line == b"event: text.delta":
                        if last:
                            self.gaps_s.append(now - last)
                        last = now
                    elif line.startswith(b"event: run."):
                        last = 0.0
                        if line == b"event: run.completed":
                            self.say()

    def check(self, least: int = 20) -> None:
        expect(not self.failures, f"a healthy client beside it: {self.failures}")
        expect(len(self.answers_s) >= least and len(self.gaps_s) >= least, "the healthy client was served throughout")

    def __str__(self) -> str:
        def of(values: list[float]) -> str:
            return " / ".join(f"{1000 * share(values, part):.1f}" for part in (0.5, 0.99, 1))

        answers, gaps = of(self.answers_s), of(self.gaps_s)
        return f"/healthz p50/p99/max {answers} ms ({len(self.answers_s)}), gaps of deltas {gaps} ms ({len(self.gaps_s)})"
