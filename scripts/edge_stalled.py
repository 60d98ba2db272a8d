#!/usr/bin/env python3
"""Readers that have stopped reading (R13): what each costs, what others notice, and when they are cut. Started by
scripts/edge-load.

Twenty sessions, each with a long log and an answer that goes on at 40 tokens/s, and one healthy reader. Then 50 more
readers come to each and take nothing. First with a server that is told to bear them, so that they can be measured; then
with one as it is by default, so that they are cut.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import edge_upstream
from edge_world import Failure, Server, expect, frame, get, http2, raise_file_limit, share, upgrade, work_folder

SESSIONS = 20
RATE = 40
# Tokens in a log before anybody reads: above a megabyte, more than anything on the way holds.
PAST = 6_000
# What a reader may cost (reliability.md, R13): the server's memory and the kernel's for its end of the socket.
BUDGET_KIB = 384
# Memory of the client's end: what is not held there is held by the server.
RECEIVE_BYTES = 4_096
# Stalled for so long before anything is measured: until every buffer is full.
SETTLE_S = 4
# What may be added to `stall_timeout_s` (15) before the last is cut.
CUT_MAX_S = 15 + 10
# Latency of a healthy reader beside the stalled ones, at p99.
HEALTHY_P99_MAX_MS = 50
PATIENT = "[connections]\nstall_timeout_s = 600\nunacknowledged_max_s = 19\n"
KINDS = {
    "HTTP/1.1": "takes nothing",
    "HTTP/2": "takes nothing",
    "HTTP/2, no room": "answers pings, grants no room",
    "HTTP/2, 100 streams": "the same, 100 readers on a connection",
    "WebSocket": "takes nothing",
}


def connected(port: int) -> socket.socket:
    one = socket.socket()
    # Before it is connected: the window that is offered follows from it.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    one.settimeout(30)
    one.connect(("127.0.0.1", port))
    return one


def streams(port: int, paths: list[str]) -> bytes:
    """The first request opens the connection; all further ones have heads of their own."""
    said, host = b"", f"127.0.0.1:{port}".encode()
    for number, path in enumerate(paths):
        head = b"\x82\x86" + bytes([4, len(path)]) + path.encode() + bytes([1, len(host)]) + host
        said += frame(1, 5, 2 * number + 1, head)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + said


async def answer_pings(one: socket.socket) -> None:
    """Takes what comes, answers pings and settings, and grants nothing."""
    one.setblocking(False)
    loop, rest = asyncio.get_running_loop(), b""
    with contextlib.suppress(OSError):
        while piece := await loop.sock_recv(one, 65_536):
            rest += piece
            while len(rest) >= 9 and len(rest) >= 9 + int.from_bytes(rest[:3]):
                length, kind, flags = int.from_bytes(rest[:3]), rest[3], rest[4]
                payload, rest = rest[9 : 9 + length], rest[9 + length :]
                if kind in (4, 6) and not flags & 1:
                    await loop.sock_sendall(one, frame(kind, 1, 0, payload if kind == 6 else b""))


def stall(kind: str, port: int, sessions: list[str], readers: int) -> list[socket.socket]:
    """So many readers that have asked and take nothing."""
    path = lambda number: f"/v1/sessions/{sessions[number % len(sessions)]}/events"  # noqa: E731
    held = []
    for number in range(0, readers, 100 if "100" in kind else 1):
        one = connected(port)
        match kind:
            case "HTTP/1.1":
                one.sendall(get(port, path(number)))
            case "WebSocket":
                one.sendall(upgrade(port, path(number).removesuffix("events") + "ws"))
            case "HTTP/2":
                one.sendall(http2(port, path(number)))
            case "HTTP/2, no room":
                one.sendall(streams(port, [path(number)]))
            case _:
                one.sendall(streams(port, [path(number + one) for one in range(100)]))
        held.append(one)
    return held


class Reader(asyncio.Protocol):
    """A healthy one: how late each token is."""

    def __init__(self, request: bytes, late_ms: list[float], problems: list[str]) -> None:
        self.request, self.late_ms, self.problems, self.rest, self.ending = request, late_ms, problems, "", False

    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.time_ns() // 1000
        *lines, self.rest = (self.rest + data.decode()).split("\n")
        for line in lines:
            if line.startswith("data: ") and (sent := edge_upstream.sent_us(line)):
                self.late_ms.append((now - sent) / 1000)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ending:
            self.problems.append(f"a healthy reader's stream ended: {error}")


def socket_kib(port: int) -> float:
    """What the kernel holds for the server's ends: what waits to be sent or read, and what is set aside for it."""
    said = subprocess.run(
        ["ss", "-tmnH", "state", "established", f"( sport = :{port} )"], capture_output=True, text=True, check=True
    ).stdout
    held = 0
    for memory in re.findall(r"skmem:\(([^)]*)\)", said):
        fields = {name: int(value) for name, value in re.findall(r"([a-z]+)(\d+)", memory)}
        held += fields["r"] + fields["w"] + fields["f"]
    return held / 1024


class Scene:
    """A server with its sessions and their healthy readers."""

    def __init__(self, work: Path, binary: str, upstream: int, settings: str) -> None:
        settings += f'[upstreams.mock]\nurl = "http://127.0.0.1:{upstream}/v1"\n'
        self.server = Server(binary, work, settings)
        self.late_ms: list[float] = []
        self.problems: list[str] = []
        self.readers: list[Reader] = []
        self.sessions: list[str] = []

    async def begin(self, live_s: int) -> None:
        await asyncio.to_thread(self.server.start)
        for _ in range(SESSIONS):
            body = {"model": "mock/m", "input": f"fast {PAST}"}
            made = await asyncio.to_thread(self.server.ask, "POST", "/v1/sessions", body)
            self.sessions.append(made["session_id"])
        for session in self.sessions:
            path = f"/v1/sessions/{session}"
            while (await asyncio.to_thread(self.server.ask, "GET", path))["state"] != "idle":
                await asyncio.sleep(0.1)
            said = {"type": "send", "content": f"live {live_s * RATE} {RATE}"}
            await asyncio.to_thread(self.server.ask, "POST", f"{path}/control", said)
            request = get(self.server.port, f"{path}/events?from=now")
            reader = Reader(request, self.late_ms, self.problems)
            await asyncio.get_running_loop().create_connection(lambda r=reader: r, "127.0.0.1", self.server.port)
            self.readers.append(reader)

    async def watch(self, seconds: float) -> list[float]:
        """How late tokens were, in so many seconds."""
        self.late_ms.clear()
        await asyncio.sleep(seconds)
        late, least = list(self.late_ms), SESSIONS * RATE * seconds * 0.9
        expect(not self.problems, f"{self.problems[:1]}")
        expect(len(late) >= least, f"healthy readers had {len(late)} tokens, fewer than {least:.0f}")
        return late

    def end(self) -> None:
        for reader in self.readers:
            reader.ending = True
        self.server.kill()


async def measured(scene: Scene, kind: str, readers: int, seconds: int) -> str:
    await scene.begin(3 * seconds + 60)
    server = scene.server
    alone = await scene.watch(seconds)
    memory, sockets, connections = server.memory_kib(), socket_kib(server.port), len(server.held())
    held = await asyncio.to_thread(stall, kind, server.port, scene.sessions, readers)
    answering = [asyncio.create_task(answer_pings(one)) for one in held] if "no room" in kind or "100" in kind else []
    try:
        await asyncio.sleep(SETTLE_S)
        memory = (server.memory_kib() - memory) / readers
        sockets = (socket_kib(server.port) - sockets) / readers
        came = len(server.held()) - connections
        expect(came == len(held), f"{came} of {len(held)} connections are there")
        beside = await scene.watch(seconds)
        server.check()
    finally:
        for task in answering:
            task.cancel()
        for one in held:
            one.close()
    p50, p99 = (f"{share(alone, part):.1f} → {share(beside, part):.1f}" for part in (0.5, 0.99))
    expect(memory + sockets <= BUDGET_KIB, f"a reader costs {memory:.0f} and {sockets:.0f} KiB")
    late = share(beside, 0.99)
    expect(late < HEALTHY_P99_MAX_MS, f"p99 of healthy readers is {late:.0f} ms")
    return f"{memory:.0f} | {sockets:.0f} | {p50} | {p99}"


async def cut(scene: Scene, kind: str, readers: int) -> str:
    await scene.begin(CUT_MAX_S + 60)
    server = scene.server
    # The newest of the healthy ones may not have been accepted yet.
    while (before := len(server.held())) != SESSIONS:
        await asyncio.sleep(0.02)
    held = await asyncio.to_thread(stall, kind, server.port, scene.sessions, readers)
    answering = [asyncio.create_task(answer_pings(one)) for one in held] if "no room" in kind or "100" in kind else []
    opened = time.monotonic()
    try:
        while (came := len(server.held()) - before) < len(held):
            expect(time.monotonic() - opened < SETTLE_S, f"{came} of {len(held)} connections are there")
            await asyncio.sleep(0.02)
        while (count := len(server.held()) - before) > 0:
            late = time.monotonic() - opened
            expect(late < CUT_MAX_S, f"{count} of {len(held)} are still there {late:.0f} s after the last came")
            await asyncio.sleep(0.1)
        took = time.monotonic() - opened
        await scene.watch(2)
        server.check()
    finally:
        for task in answering:
            task.cancel()
        for one in held:
            one.close()
    return f"{took:.0f}"


async def run(options: argparse.Namespace) -> int:
    upstream, port = await edge_upstream.start()
    failed = 0
    print(f"{options.readers} readers that take nothing, {SESSIONS} healthy ones beside them")
    print("| transport | that | server, KiB each | its sockets, KiB each | p50 of others, ms | p99, ms | cut after, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, manner in KINDS.items():
        cells = []
        for title, settings in (("measured", PATIENT), ("cut", "")):
            with work_folder("stalled") as work:
                scene = Scene(work, options.binary, port, settings)
                try:
                    if title == "measured":
                        cells.append(await measured(scene, kind, options.readers, options.seconds))
                    else:
                        cells.append(await cut(scene, kind, options.readers))
                except Failure as failure:
                    failed += 1
                    print(f"FAILED  {kind}, {title}: {failure}")
                    cells.append("–")
                finally:
                    scene.end()
                    await asyncio.sleep(0.2)
        print(f"| {kind} | {manner} | {' | '.join(cells)} |", flush=True)
    upstream.close()
    print(f"stalled: {2 * len(KINDS) - failed} of {2 * len(KINDS)} hold")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--readers", type=int, default=1_000, help="that take nothing, per transport (1000)")
    parser.add_argument("--seconds", type=int, default=8, help="for which latency is measured, before and beside (8)")
    options = parser.parse_args()
    raise_file_limit()
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
