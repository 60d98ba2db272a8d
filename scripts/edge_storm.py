#!/usr/bin/env python3
"""A restart with thousands of readers (R20): all of them come back as they were told to, and have everything once. Started
by scripts/edge-load.

A hundred sessions on disk, each with an answer that goes on, and fifty readers each, some of them EventSources of a real
browser. The server gets SIGTERM, in another run kill -9, and is started again on the same port. A reader comes back as an
EventSource does: after the newest `retry:`, or the time that a `reconnect` names, and again after as long where nobody
listens yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time

from edge_world import ROOT, Failure, Server, expect, get, raise_file_limit, share, work_folder

# What R20 promises: from the moment at which the server listens again.
CAUGHT_UP_MAX_S = 15
# Slow enough that readers written in Python keep up on the cores that they share with the server.
TOKENS_PER_SECOND = 1
# Readers that connect at first, a second.
OPENED_PER_S = 1_000
# Answers go on for so long after everyone is back.
AFTER_S = 3
# `drain_grace_s`: no answer ends by itself meanwhile, each is handed over.
GRACE_S = 1
# The server's memory at its peak: what it has without readers, and some for each.
ALONE_MAX_KIB, PER_READER_MAX_KIB = 64 * 1024, 64


class Reader(asyncio.Protocol):
    """One, as an EventSource: through any number of connections."""

    def __init__(self, port: int, session: str) -> None:
        self.port, self.session = port, session
        self.rest, self.cursor, self.retry_s, self.told_s = b"", "", 3.0, None
        self.position, self.events, self.connections, self.refused = 0, 0, 0, 0
        self.caught_up: list[float] = []
        self.problems: list[str] = []
        self.transport: asyncio.Transport | None = None
        self.ending = False

    async def connect(self) -> None:
        while not self.ending:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)
                return
            except OSError:
                self.refused += 1
                await asyncio.sleep(self.retry_s)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.rest, self.head = transport, b"", True
        self.connections += 1
        more = f"last-event-id: {self.cursor}\r\n" if self.cursor else ""
        transport.write(get(self.port, f"/v1/sessions/{self.session}/events", f"accept: text/event-stream\r\n{more}"))

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if self.head:
            head, found, rest = self.rest.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.problems.append(f"answered {head[:40]!r}")
            self.head, self.rest = False, rest
        # A chunk is a whole number of events, so that its size stands between two of them.
        *blocks, self.rest = self.rest.split(b"\n\n")
        for block in blocks:
            if (at := block.find(b"id: ")) >= 0 and b"\ndata: " in block:
                cursor = block[at + 4 : block.index(b"\n", at)].decode()
                position = int(cursor.rpartition(".")[2])
                if position != self.position + 1:
                    self.problems.append(f"{cursor} after position {self.position}")
                self.cursor, self.position, self.events = cursor, position, self.events + 1
            elif b"event: caught_up" in block:
                self.caught_up.append(time.monotonic())
            elif b"event: reconnect" in block:
                self.told_s = int(re.search(rb'"after_ms":(\d+)', block)[1]) / 1000
            elif b"event: reset" in block:
                self.problems.append("was reset")
            elif (at := block.find(b"retry: ")) >= 0:
                self.retry_s = int(block[at + 7 : block.index(b"\n", at)]) / 1000

    def connection_lost(self, _: Exception | None) -> None:
        if self.ending:
            return
        wait = self.told_s if self.told_s is not None else self.retry_s
        self.told_s = None
        loop = asyncio.get_running_loop()
        loop.call_later(wait, lambda: setattr(self, "task", loop.create_task(self.connect())))


class Browser:
    """Real EventSources, in a process of their own."""

    def __init__(self, port: int, chromium: str, sessions: list[str]) -> None:
        command = ["node", str(ROOT / "tests" / "browser" / "storm.mjs"), str(port), chromium, *sessions]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        expect(said.strip() == "ready", f"the browser is ready: {said!r}")

    def seen(self) -> list[dict]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def storm(options: argparse.Namespace, manner: str) -> None:
    with work_folder("storm") as work:
        server = Server(options.binary, work / "server", f"drain_grace_s = {GRACE_S}\n", f"disk:{work / 'store'}").start()
        readers: list[Reader] = []
        browser = None
        try:
            sessions = []
            body = {"model": "demo/story", "params": {"tokens_per_second": TOKENS_PER_SECOND}, "input": "tell me a story"}
            for _ in range(options.sessions):
                sessions.append((await asyncio.to_thread(server.ask, "POST", "/v1/sessions", body))["session_id"])
            began = time.monotonic()
            for number in range(options.readers - options.browsers):
                readers.append(Reader(server.port, sessions[number % len(sessions)]))
                await readers[-1].connect()
                await asyncio.sleep(max(0.0, began + number / OPENED_PER_S - time.monotonic()))
            if options.browsers:
                chosen = [sessions[number % len(sessions)] for number in range(options.browsers)]
                browser = await asyncio.to_thread(Browser, server.port, options.chromium, chosen)
            while not all(reader.caught_up for reader in readers):
                expect(time.monotonic() - began < 60, "all readers have caught up before the storm")
                await asyncio.sleep(0.1)
            connected = len(server.held())
            expect(connected >= options.readers, f"{connected} connections before the storm")
            before = server.memory_kib()
            stopped = time.monotonic()
            if manner == "SIGTERM":
                await asyncio.to_thread(server.stop)
            else:
                await asyncio.to_thread(server.kill)
            gone = time.monotonic()
            await asyncio.to_thread(server.start)
            up, up_ms = time.monotonic(), time.time() * 1000

            def back(reader: Reader) -> bool:
                return bool(reader.caught_up) and reader.caught_up[-1] > up - 0.05

            while not all(back(reader) for reader in readers):
                expect(time.monotonic() - up < 4 * CAUGHT_UP_MAX_S, f"{sum(not back(one) for one in readers)} did not come back")
                await asyncio.sleep(0.05)
            await asyncio.sleep(AFTER_S)
            took = [next(at for at in reader.caught_up if at > up - 0.05) - up for reader in readers]
            of_browser: list[float] = []
            if browser:
                seen = await asyncio.to_thread(browser.seen)
                for one in seen:
                    expect(one["state"] == 1, f"an EventSource is in state {one['state']}, opened {one['opened']} times")
                    again = [at for at in one["caughtUp"] if at > up_ms - 50]
                    expect(again, "an EventSource has not come back")
                    of_browser.append((again[0] - up_ms) / 1000)
                    whole = list(range(1, len(one["positions"]) + 1))
                    expect(one["positions"] == whole, f"an EventSource has seen {one['positions']}")
            problems = [problem for reader in readers for problem in reader.problems]
            expect(not problems, f"{len(problems)} readers had a gap, a duplicate or a refusal: {problems[:3]}")
            tails = {}
            for session in sessions:
                tails[session] = (await asyncio.to_thread(server.log_of, session))[-1]["seq"]
            await asyncio.sleep(0.5)
            behind = [reader for reader in readers if reader.position < tails[reader.session]]
            expect(not behind, f"{len(behind)} readers are not at the tail")
            server.check()
            peak, refused = server.memory_kib("VmHWM"), sum(reader.refused for reader in readers)
            events = sum(reader.events for reader in readers)
            print(
                f"storm: {manner}: {len(readers)} readers and {len(of_browser)} EventSources of {options.sessions} sessions; "
                f"gone after {gone - stopped:.2f} s, listening {up - gone:.2f} s later, {refused} connections refused meanwhile"
            )
            p50, p99, most = (share(took, part) for part in (0.5, 0.99, 1))
            print(f"storm: {manner}: caught up after p50 {p50:.2f} s, p99 {p99:.2f} s, max {most:.2f} s of the listener being up")
            if of_browser:
                print(f"storm: {manner}: EventSources after p50 {share(of_browser, 0.5):.2f} s, max {max(of_browser):.2f} s; none gave up")
            print(
                f"storm: {manner}: {events} events, 0 lost, 0 doubled; RSS {before // 1024} MiB before, "
                f"{peak // 1024} MiB at the peak after ({peak / options.readers:.0f} KiB per reader)"
            )
            expect(max(took + of_browser) <= CAUGHT_UP_MAX_S, f"the last was back after {max(took + of_browser):.1f} s")
            expect(peak <= ALONE_MAX_KIB + PER_READER_MAX_KIB * options.readers, f"{peak} KiB for {options.readers} readers")
        finally:
            for reader in readers:
                reader.ending = True
                if reader.transport:
                    reader.transport.abort()
            if browser:
                browser.end()
            server.kill()


async def run(options: argparse.Namespace) -> int:
    failed = 0
    for manner in ("SIGTERM", "kill -9"):
        try:
            await storm(options, manner)
        except Failure as failure:
            failed += 1
            print(f"FAILED  {manner}: {failure}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--chromium", default="")
    parser.add_argument("--readers", type=int, default=5_000, help="in all (5000)")
    parser.add_argument("--sessions", type=int, default=100, help="that they read (100)")
    parser.add_argument("--browsers", type=int, default=20, help="EventSources of a real browser among them (20)")
    options = parser.parse_args()
    files = raise_file_limit()
    if files < options.readers + 500:
        print(f"edge-load: CANNOT BE DONE HERE: {files} files may be open, too few for the readers", file=sys.stderr)
        return 77
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
