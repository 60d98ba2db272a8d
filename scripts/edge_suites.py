#!/usr/bin/env python3
"""Suites that others wrote, against a real server. Started by scripts/edge-suites.

    edge_suites.py autobahn BINARY_WITH_ECHO WSTEST
    edge_suites.py slow BINARY
    edge_suites.py load BINARY
"""

from __future__ import annotations

import collections
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from edge_world import Failure, Healthy, Server, expect, long_session, raise_file_limit, share, work_folder

# Each suite ends within this, whatever goes wrong.
SUITE_MAX_S = 240
# Cases of Autobahn without compression, which the server does not offer.
AUTOBAHN_CASES = 301
# Cases that may end with our side closing TCP without having answered a Close frame: none should. Today the server does
# not answer one that its peer sends first (src/http/ws.rs), in all of these.
AUTOBAHN_UNANSWERED_MAX = 0
# Slow connections at once, how many are opened a second, and how long each waits between its drops.
SLOW, SLOW_PER_S, SLOW_EVERY_S = 400, 200, 5
# A healthy client is asked for so long without anything beside it.
ALONE_S = 4
# What a healthy client may wait at p99 while others are slow: far above what is measured, for machines that are busy.
HEALTHY_P99_MAX_S = 0.25


def run(command: list[str], cwd: Path, within_s: float = SUITE_MAX_S) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=within_s
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{command[0]} did not end within {within_s} s") from None
    said = done.stdout.decode(errors="replace")
    expect(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said[-3000:]}")
    return said


def autobahn(work: Path, binary: str, wstest: str) -> None:
    server = Server(binary, work / "server").start()
    try:
        url = f"ws://127.0.0.1:{server.port}/echo"
        # 12 and 13 are compression.
        spec = {"outdir": str(work / "report"), "servers": [{"agent": "steerage", "url": url}], "cases": ["*"]}
        (work / "fuzz.json").write_text(json.dumps(spec | {"exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}))
        began = time.monotonic()
        run([wstest, "-m", "fuzzingclient", "-s", str(work / "fuzz.json")], work)
        took = time.monotonic() - began
        server.check()
    finally:
        server.kill()
    cases = json.loads((work / "report" / "index.json").read_text())["steerage"]
    behaviours = collections.Counter(case["behavior"] for case in cases.values())
    closes = collections.Counter(case["behaviorClose"] for case in cases.values())
    print(f"autobahn: {len(cases)} cases in {took:.0f} s: {dict(behaviours)}; how they closed: {dict(closes)}")
    wrong = {name: case for name, case in cases.items() if case["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL")}
    for name, case in wrong.items():
        print(f"  {name}: {case['behavior']}, closed {case['behaviorClose']}, code {case['remoteCloseCode']}")
    expect(not wrong, f"autobahn: {len(wrong)} cases failed: {', '.join(wrong)}")
    expect(len(cases) == AUTOBAHN_CASES, f"autobahn: {len(cases)} cases, not {AUTOBAHN_CASES}")
    badly = {close: count for close, count in closes.items() if close not in ("OK", "INFORMATIONAL", "UNCLEAN")}
    expect(not badly, f"autobahn: closes {badly}")
    expect(closes["UNCLEAN"] <= AUTOBAHN_UNANSWERED_MAX, f"autobahn: {closes['UNCLEAN']} closes were not answered")


def slow_kind(server: Server, work: Path, name: str, within_s: float, options: list[str]) -> None:
    """So many connections of one kind, and a healthy client. The server has to have let go of all of them in time."""
    command = ["slowhttptest", "-c", str(SLOW), "-r", str(SLOW_PER_S), "-i", str(SLOW_EVERY_S)]
    command += ["-l", str(int(within_s) + 5), "-p", "3", *options]
    most = 0
    with Healthy(server) as healthy:
        time.sleep(0.5)
        before, began = len(server.held()), time.monotonic()
        with (work / "slow.out").open("wb") as out:
            tool = subprocess.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            took = 0.0
            while tool.poll() is None and time.monotonic() < began + within_s + 30:
                time.sleep(0.1)
                held = len(server.held()) - before
                most = max(most, held)
                # Its own look at whether the service is there is a connection more.
                if not took and most > SLOW * 0.9 and held <= 1:
                    took = time.monotonic() - began
        finally:
            tool.kill()
            tool.wait()
    healthy.check()
    server.check()
    said = re.sub(r"\x1b\[[0-9;]*m", "", (work / "slow.out").read_text(errors="replace"))
    numbers = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)\s*$", said, re.MULTILINE)}
    status, available = re.search(r"Exit status: (.*)", said), re.findall(r"service available:\s+(\w+)", said)
    print(f"slow: {name}: at most {most} at once, the last let go after {took:.0f} s; {healthy}")
    expect(most >= SLOW * 0.9, f"{name}: only {most} connections came at once")
    expect(0 < took <= within_s, f"{name}: the server let go of the last after {took:.1f} s")
    # The last status is from before the last second: some were still there. What the server has cut, a reader that takes
    # 32 bytes at a time does not see before it has read what its kernel holds.
    came = numbers.get("connected", 0) + numbers.get("closed", 0)
    expect((came, numbers.get("error"), numbers.get("pending")) == (SLOW, 0, 0), f"{name}: {numbers}")
    expect(status and ("-X" in options or status[1].strip() == "No open connections left"), f"{name}: {status and status[1]}")
    expect(available and set(available) == {"YES"}, f"{name}: the tool found the service {set(available)}")
    for values, what in ((healthy.answers_s, "answers"), (healthy.gaps_s, "gaps of deltas")):
        late = share(values, 0.99)
        expect(late < HEALTHY_P99_MAX_S, f"{name}: p99 of the {what} of a healthy client is {late:.3f} s")


def slow(work: Path, binary: str) -> None:
    server = Server(binary, work / "server").start()
    try:
        with Healthy(server) as healthy:
            time.sleep(ALONE_S)
        healthy.check()
        print(f"slow: nobody else: {healthy}")
        session = long_session(server, 400_000)
        url = f"http://127.0.0.1:{server.port}"
        # `header_timeout_s`, the total for a body, `stall_timeout_s`; each with the time that it takes to open them all.
        heads, bodies = ["-H", "-x", "24"], ["-B", "-x", "24", "-s", "8192", "-f", "application/json"]
        slow_kind(server, work, "slow heads (-H)", 15, [*heads, "-u", f"{url}/healthz"])
        slow_kind(server, work, "slow bodies (-B)", 36, [*bodies, "-u", f"{url}/v1/sessions"])
        # 32 bytes every 5 s, of a log of 400 kB, with a receive window of 512 to 1,024 bytes.
        reads = ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32"]
        slow_kind(server, work, "slow readers (-X)", 22, [*reads, "-u", f"{url}/v1/sessions/{session}/events"])
    finally:
        server.kill()


def h2load(work: Path, title: str, requests: int, options: list[str], url: str) -> None:
    said = run(["h2load", "-n", str(requests), *options, url], work)
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    finished = re.search(r"finished in ([\d.]+m?s), ([\d.]+) req/s, (\S+)", said)
    expect(counts and finished, f"{title}: h2load said\n{said[-2000:]}")
    total, done, succeeded, failed, errored = map(int, counts.groups())
    print(f"load: {title}: {succeeded} of {total} in {finished[1]}, {finished[2]} requests/s, {finished[3]}")
    expect((total, done, succeeded, failed, errored) == (requests, requests, requests, 0, 0), f"{title}: {counts[0]}")
    expect(f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx" in said, f"{title}: {said[-1000:]}")


def load(work: Path, binary: str) -> None:
    server = Server(binary, work / "server").start()
    try:
        session = long_session(server, 40_000)
        base = f"http://127.0.0.1:{server.port}"
        health, events = f"{base}/healthz", f"{base}/v1/sessions/{session}/events?until=idle"
        stream = ["-H", "accept: text/event-stream"]
        h2load(work, "/healthz, HTTP/1.1, 50 connections", 20_000, ["--h1", "-c", "50"], health)
        h2load(work, "/healthz, HTTP/2, 20 connections of 20 streams", 20_000, ["-c", "20", "-m", "20"], health)
        h2load(work, "/healthz, HTTP/2, 2 connections of 100 streams", 20_000, ["-c", "2", "-m", "100"], health)
        h2load(work, "event streams, HTTP/1.1, 50 connections", 500, ["--h1", "-c", "50", *stream], events)
        h2load(work, "event streams, HTTP/2, 10 connections of 20 streams", 500, ["-c", "10", "-m", "20", *stream], events)
        seen = server.call("GET", f"/v1/sessions/{session}/events?until=idle", headers={"accept": "text/event-stream"})[2]
        said = run(["nghttp", "-H", "accept: text/event-stream", events], work)
        # Each stream has a retry of its own.
        plain = lambda text: re.sub(r"(?m)^retry: \d+$", "retry", text)  # noqa: E731
        expect(plain(said) == plain(seen.decode()), "nghttp reads the same stream as a client of HTTP/1.1")
        print(f"load: nghttp: one event stream of {len(said)} bytes, as over HTTP/1.1")
        server.check()
    finally:
        server.kill()


def main() -> int:
    raise_file_limit()
    suite, *rest = sys.argv[1:]
    with work_folder(suite) as work:
        try:
            {"autobahn": autobahn, "slow": slow, "load": load}[suite](work, *rest)
        except Failure as failure:
            print(f"FAILED  {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
