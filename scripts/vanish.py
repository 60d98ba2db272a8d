#!/usr/bin/env python3
"""Readers that vanish, and what connections leave behind (R14). Started by scripts/vanish in a network namespace of its own.

A reader vanishes by a rule that drops every packet from and to its port: neither side hears anything of the other any
more. The moment at which the server's end of each connection is gone is read from the kernel's own table.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import subprocess
import sys
import time

from edge_world import Failure, Server, expect, get, http2, raise_file_limit, share, upgrade, wait_until, work_folder

# What R14 promises: the resources of a vanished reader are freed within this, without its help.
FREED_MAX_S = 30
# How exact the moment is at which a connection is found to be gone.
LOOK_EVERY_S = 0.1
# Descriptors that an idle server may have more than before: none are expected, the store's own come and go.
LEAKED_MAX = 2
# Ordinary connections that are open at the same time.
ORDINARY_AT_ONCE = 50
# Readers of one session, below the server's bound.
READERS_PER_SESSION = 50

RULES = """
table inet vanish {
    set ports { type inet_service; }
    chain arriving {
        type filter hook input priority 0;
        tcp sport @ports drop
        tcp dport @ports drop
    }
}
"""


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


def request(transport: str, port: int, session: str) -> bytes:
    events = f"/v1/sessions/{session}/events"
    match transport:
        case "HTTP/1.1":
            return get(port, events)
        case "HTTP/2":
            return http2(port, events)
        case _:
            return upgrade(port, f"/v1/sessions/{session}/ws")


TRANSPORTS = ("HTTP/1.1", "HTTP/2", "WebSocket")


def opened(transport: str, port: int, session: str) -> socket.socket:
    """A reader that has had the first event of its session."""
    one = socket.create_connection(("127.0.0.1", port), 10)
    one.sendall(request(transport, port, session))
    said = b""
    while b"session.created" not in said:
        piece = one.recv(65536)
        expect(piece, f"{transport}: the server closed after {said[:200]!r}")
        said += piece
    return one


def vanish(server: Server, peers: int, talks: bool) -> dict[str, list[float]]:
    """The seconds until the server let go of each of `peers` readers per transport, of silent sessions or of stories."""
    sessions, body = [], {"model": "demo/story", "params": {"tokens_per_second": 2}}
    while len(sessions) * READERS_PER_SESSION < peers * len(TRANSPORTS):
        sessions.append(server.ask("POST", "/v1/sessions", body)["session_id"])
        if talks:
            server.ask("POST", f"/v1/sessions/{sessions[-1]}/control", {"type": "send", "content": "tell me a story"})
    files = server.files()
    with contextlib.ExitStack() as stack:
        transport_of, where = {}, 0
        for transport in TRANSPORTS:
            for _ in range(peers):
                one = stack.enter_context(opened(transport, server.port, sessions[where // READERS_PER_SESSION]))
                transport_of[one.getsockname()[1]] = transport
                where += 1
        expect(server.held() >= set(transport_of), "the kernel's table has every connection")
        ports = ", ".join(map(str, transport_of))
        nft(f"add element inet vanish ports {{ {ports} }}")
        began, freed = time.monotonic(), {transport: [] for transport in TRANSPORTS}
        left = dict(transport_of)
        while left and time.monotonic() < began + FREED_MAX_S + 10:
            time.sleep(LOOK_EVERY_S)
            held, now = server.held(), time.monotonic()
            for gone in [one for one in left if one not in held]:
                freed[left.pop(gone)].append(now - began)
        nft("flush set inet vanish ports")
    server.check()
    expect(not left, f"{len(left)} of {len(transport_of)} are still held after {FREED_MAX_S + 10} s: {set(left.values())}")
    for session in sessions:
        server.call("DELETE", f"/v1/sessions/{session}")
    wait_until("files are given back", 10, lambda: server.files() <= files)
    return freed


def ordinary(server: Server, count: int) -> None:
    """Connections that come and go, each a little differently, and are closed by FIN or by a reset."""
    body = {"model": "demo/echo", "input": "good day"}
    sessions = [server.ask("POST", "/v1/sessions", body)["session_id"] for _ in range(8)]
    opened_at_once: list[socket.socket] = []
    began = time.monotonic()
    for number in range(count):
        session = sessions[number % len(sessions)]
        if number % 4 == 3:
            one = socket.create_connection(("127.0.0.1", server.port), 10)
            one.sendall(get(server.port, "/healthz"))
            expect(one.recv(12) == b"HTTP/1.1 200", "an ordinary answer")
        else:
            one = opened(TRANSPORTS[number % 4], server.port, session)
        if number % 2:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened_at_once.append(one)
        if len(opened_at_once) == ORDINARY_AT_ONCE:
            for one in opened_at_once:
                one.close()
            opened_at_once.clear()
    for one in opened_at_once:
        one.close()
    took = time.monotonic() - began
    print(f"vanish: {count} ordinary connections in {took:.0f} s, {count / took:.0f} a second")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=50, help="readers that vanish at once, per transport (50)")
    parser.add_argument("--cycles", type=int, default=2, help="times that they do, of silent sessions and of stories in turn (2)")
    parser.add_argument("--ordinary", type=int, default=2_000, help="connections that come and go (2000)")
    parser.add_argument("binary")
    options = parser.parse_args()
    raise_file_limit()
    # The rules must not come to where others are.
    interfaces = [name for _, name in socket.if_nameindex()]
    expect(interfaces == ["lo"], f"a namespace of its own has a loopback and nothing else: {interfaces}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with work_folder("vanish") as work:
        server = Server(options.binary, work / "server").start()
        try:
            nft(RULES)
            # Whatever is opened once is opened now.
            ordinary(server, 40)
            wait_until("the first connections end", 10, lambda: not server.held())
            files, memory = server.files(), server.memory_kib()
            freed: dict[str, list[float]] = {transport: [] for transport in TRANSPORTS}
            for cycle in range(options.cycles):
                for transport, times in vanish(server, options.peers, bool(cycle % 2)).items():
                    freed[transport] += times
            for transport, times in freed.items():
                p50, p99, most = (share(times, part) for part in (0.5, 0.99, 1))
                print(f"vanish: {transport}: {len(times)} freed after p50 {p50:.1f} s, p99 {p99:.1f} s, max {most:.1f} s")
                expect(most <= FREED_MAX_S, f"{transport}: one was held for {most:.1f} s")
            ordinary(server, options.ordinary)
            wait_until("the last connections end", 10, lambda: not server.held())
            with contextlib.suppress(Failure):
                wait_until("files are given back", 10, lambda: server.files() <= files)
            after = server.files()
            print(f"vanish: descriptors {files} → {after}, RSS {memory} → {server.memory_kib()} KiB")
            expect(after <= files + LEAKED_MAX, f"{after - files} descriptors were leaked")
            server.check()
        except Failure as failure:
            print(f"FAILED  {failure}")
            return 1
        finally:
            server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
