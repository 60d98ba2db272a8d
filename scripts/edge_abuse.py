#!/usr/bin/env python3
"""Peers of HTTP/2 that mean it ill, and requests of HTTP/1 that a server must not be led astray by: H16 to H20 and H24 of
the catalogue of bad inputs. Started by scripts/edge-suites, with the Python package `h2`.

Each row ends in an error of its connection (RFC 9113 §5.4.1) or is bounded, the server's memory stays where it was, and a
healthy client beside it notices nothing.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

from edge_world import Failure, Healthy, Server, expect, frame, get, long_session, raise_file_limit, share, wait_until, work_folder
from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ERRORS = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 6: "FRAME_SIZE_ERROR",
          7: "REFUSED_STREAM", 8: "CANCEL", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM"}  # fmt: skip
# A flood goes on for so long, or until so much was taken: enough to fill a memory that is not bounded.
FLOOD_S, FLOOD_BYTES = 4, 64 * 1024 * 1024
# What the server's memory may grow by over one row: the allocator's slack and a few buffers, a quarter of a flood.
RSS_GROWTH_MAX_KIB = 16 * 1024
# `stall_timeout_s` with the 5 s of a look and a second of good-bye, and some of ours.
STALLED_MAX_S = 24
# `streams_max`.
STREAMS_MAX = 100
# What a healthy client may wait at p99 beside a flood, on a machine whose cores the flood's sender takes, too.
HEALTHY_P99_MAX_S = 0.25


class Peer:
    """A client of HTTP/2 that keeps to no rule but those of its row."""

    def __init__(self, server: Server, settings: dict[int, int] | None = None) -> None:
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.closed, self.rest = False, b""
        self.decoder, self.statuses = Decoder(), {}
        said = b"".join(struct.pack(">HI", *one) for one in (settings or {}).items())
        self.send(PREFACE + frame(SETTINGS, 0, 0, said))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def head(self, path: str = "/healthz", more: list[tuple[str, str]] | None = None, method: str = "GET") -> bytes:
        fields = [(":method", method), (":scheme", "http"), (":path", path)]
        fields += [(":authority", f"127.0.0.1:{self.server.port}"), *(more or [])]
        return Encoder().encode([(name, value, True) for name, value in fields])

    def send(self, data: bytes) -> bool:
        """`False` when the server has gone."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            self.closed = True
        return not self.closed

    def read(self, for_s: float, until: Callable[[], object] = lambda: False) -> None:
        """Takes frames in, and answers what is asked, until something holds, the server closes or the time is over."""
        end = time.monotonic() + for_s
        while not self.closed and not until() and (left := end - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionError:
                piece = b""
            self.closed = not piece
            self.rest += piece
            while len(self.rest) >= 9:
                length = int.from_bytes(self.rest[:3])
                if len(self.rest) < 9 + length:
                    break
                kind, flags, stream = self.rest[3], self.rest[4], int.from_bytes(self.rest[5:9])
                payload, self.rest = self.rest[9 : 9 + length], self.rest[9 + length :]
                self.frames.append((kind, flags, stream, payload))
                if kind == HEADERS:
                    self.statuses[stream] = int(dict(self.decoder.decode(payload)).get(":status", 0))
                if kind == PING and not flags & ACK:
                    self.send(frame(PING, ACK, 0, payload))
                if kind == SETTINGS and not flags & ACK:
                    self.send(frame(SETTINGS, ACK, 0))

    def of(self, kind: int) -> list[tuple[int, int, int, bytes]]:
        return [one for one in self.frames if one[0] == kind]

    def goaway(self) -> str | None:
        """The error that the server says it ends the connection with; it may say good-bye first."""
        codes = [int.from_bytes(payload[4:8]) for _, _, _, payload in self.of(GOAWAY)]
        return ERRORS.get(codes[-1], str(codes[-1])) if codes else None

    def flood(self, piece: bytes, reads: bool = False) -> tuple[int, float]:
        """Sends this again and again. The bytes that the server took, and for how long it took some."""
        self.socket.setblocking(False)
        began = last = time.monotonic()
        taken = 0
        while not self.closed and taken < FLOOD_BYTES and time.monotonic() < began + FLOOD_S:
            try:
                taken += self.socket.send(piece[taken % len(piece) :] if taken % len(piece) else piece)
                last = time.monotonic()
            except BlockingIOError:
                select.select([self.socket] if reads else [], [self.socket], [], 0.05)
            except ConnectionError:
                self.closed = True
            if reads:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    self.closed |= not self.socket.recv(1 << 20)
        self.socket.setblocking(True)
        return taken, last - began


# ------------------------------------------------------------------------------------------------------------------- rows


def ended(peer: Peer, error: str | tuple[str, ...], within_s: float = 5) -> str:
    """The connection ends, with this error."""
    began = time.monotonic()
    peer.read(within_s)
    expect(peer.closed, f"the connection is still there after {within_s} s")
    # Whoever sends on after the end gets a reset, which may overtake the frame that says why.
    said = peer.goaway()
    expect(said is None or said in error, f"the connection ended with {said}")
    return f"{said or 'reset'} after {time.monotonic() - began:.1f} s"


def rapid_resets(server: Server) -> str:
    with Peer(server) as peer:
        head = peer.head()
        for stream in range(1, 2001, 2):
            reset = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            if not peer.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, head) + reset):
                break
        return f"1,000 streams opened and reset: {ended(peer, 'ENHANCE_YOUR_CALM')}"


def resets_of_ours(server: Server) -> str:
    """CVE-2025-8671: the peer makes the server reset its streams."""
    with Peer(server) as peer:
        head = peer.head()
        for stream in range(1, 4001, 2):
            # More room than there can be (RFC 9113 §6.9.1): an error of this stream alone.
            update = frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**31 - 1))
            if not peer.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, head) + update):
                break
        return f"2,000 streams that we are made to reset: {ended(peer, ('ENHANCE_YOUR_CALM', 'PROTOCOL_ERROR'))}"


def many_streams(server: Server) -> str:
    sessions = [server.ask("POST", "/v1/sessions", {"model": "demo/echo"})["session_id"] for _ in range(10)]
    with Peer(server) as peer:
        count = 260
        heads = [peer.head(f"/v1/sessions/{session}/events", [("accept", "text/event-stream")]) for session in sessions]
        opened = range(1, 2 * count, 2)
        peer.send(b"".join(frame(HEADERS, END_STREAM | END_HEADERS, one, heads[one // 2 % 10]) for one in opened))
        peer.read(5, lambda: len(peer.of(HEADERS)) + len(peer.of(RST_STREAM)) >= count)
        served = len(peer.of(HEADERS))
        codes = {ERRORS[int.from_bytes(payload)] for _, _, _, payload in peer.of(RST_STREAM)}
        refused = len(peer.of(RST_STREAM))
        expect((served, refused) == (STREAMS_MAX, count - STREAMS_MAX), f"{served} served, {refused} refused")
        expect(codes == {"REFUSED_STREAM"}, f"refused with {codes}")
        # A place that is given back can be taken.
        first = peer.of(HEADERS)[0][2]
        peer.send(frame(RST_STREAM, 0, first, struct.pack(">I", 8)))
        peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * count + 1, heads[0]))
        peer.read(5, lambda: len(peer.of(HEADERS)) > served)
        expect(peer.of(HEADERS)[-1][2] == 2 * count + 1 and not peer.closed, "a place that is given back can be taken")
        return f"{count} streams: {served} served, {refused} REFUSED_STREAM, one more after one had left"


def continuation_flood(server: Server) -> str:
    with Peer(server) as peer:
        # A literal that is never indexed (RFC 7541 §6.2.3), 16 KiB a frame.
        field = b"\x10\x01a\x7f" + b"\x81\x7e" + b"x" * 16_256
        peer.send(frame(HEADERS, END_STREAM, 1, peer.head()))
        taken, _ = peer.flood(frame(CONTINUATION, 0, 1, field))
        # What the kernels hold between the two is most of it.
        expect(taken < 8 * 1024 * 1024, f"the server took {taken} bytes of one head")
        how = ended(peer, ("ENHANCE_YOUR_CALM", "COMPRESSION_ERROR", "PROTOCOL_ERROR"))
        return f"endless CONTINUATION: {taken / 1024:.0f} KiB taken, {how}"


def tiny_continuations(server: Server) -> str:
    """CVE-2024-27316 with frames that have nothing in them."""
    with Peer(server) as peer:
        peer.send(frame(HEADERS, END_STREAM, 1, peer.head()))
        taken, _ = peer.flood(frame(CONTINUATION, 0, 1) * 1000)
        # What the kernels hold between the two is most of it.
        expect(taken < 8 * 1024 * 1024, f"the server took {taken} bytes of one head")
        return f"endless empty CONTINUATION: {taken / 1024:.0f} KiB taken, {ended(peer, ('ENHANCE_YOUR_CALM', 'PROTOCOL_ERROR'))}"


def hpack_bomb(server: Server) -> str:
    with Peer(server) as peer:
        # One field of 4,000 bytes goes into the table (RFC 7541 §6.2.1) and is named 15,000 times: 60 MB of fields in
        # 19 KB. Fields with an index cost a byte each.
        value = b"x" * 3_900
        field = b"\x40\x01a\x7f" + bytes([0x80 | ((len(value) - 127) & 0x7F), (len(value) - 127) >> 7]) + value
        for stream in range(1, 200, 2):
            block = peer.head() + (field if stream == 1 else b"") + b"\xbe" * 12_000
            if not peer.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, block[:16_384])):
                break
        peer.read(3, lambda: len(peer.of(HEADERS)) + len(peer.of(RST_STREAM)) >= 100)
        expect(200 not in peer.statuses.values(), "no such head is served")
        refused = f"{len(peer.statuses)} answered {set(peer.statuses.values()) or ''}, {len(peer.of(RST_STREAM))} reset"
        expect(peer.closed or len(peer.statuses) + len(peer.of(RST_STREAM)) >= 100, f"every head is refused: {refused}")
        how = f"{refused}, then {peer.goaway() or 'reset'}" if peer.closed else refused
        return f"HPACK bomb, 100 heads of 46 MB each: {how}"


def settings_flood(server: Server) -> str:
    with Peer(server) as peer:
        taken, took = peer.flood(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * 1000)
        return f"SETTINGS, answers unread: {taken / 15e3:.0f}k frames taken in {took:.1f} s, {settled(peer)}"


def ping_flood(server: Server) -> str:
    with Peer(server) as peer:
        taken, took = peer.flood(frame(PING, 0, 0, b"12345678") * 1000)
        return f"PING, answers unread: {taken / 17e3:.0f}k frames taken in {took:.1f} s, {settled(peer)}"


def ping_flood_read(server: Server) -> str:
    with Peer(server) as peer:
        taken, took = peer.flood(frame(PING, 0, 0, b"12345678") * 1000, reads=True)
        return f"PING, answers read: {taken / 17e3:.0f}k frames in {took:.1f} s"


def settled(peer: Peer) -> str:
    """What becomes of a flood that the server takes no more of, because its answers are not read."""
    port, began = peer.socket.getsockname()[1], time.monotonic()
    wait_until("the server lets the connection go", STALLED_MAX_S, lambda: port not in peer.server.held())
    return f"let go {time.monotonic() - began:.0f} s later"


def empty_data_flood(server: Server) -> str:
    with Peer(server) as peer:
        head = peer.head("/v1/sessions", [("content-type", "application/json")], "POST")
        peer.send(frame(HEADERS, END_HEADERS, 1, head))
        taken, _ = peer.flood(frame(DATA, 0, 1) * 1000)
        return f"empty DATA: {taken / 9e3:.0f}k frames taken, {ended(peer, ('ENHANCE_YOUR_CALM', 'PROTOCOL_ERROR'))}"


def no_room(server: Server, session: str, settings: dict[int, int]) -> str:
    """H19: everything is answered, and nothing is granted."""
    with Peer(server, settings) as peer:
        head = peer.head(f"/v1/sessions/{session}/events", [("accept", "text/event-stream")])
        peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, head))
        began = time.monotonic()
        peer.read(STALLED_MAX_S)
        taken = sum(len(payload) for _, _, _, payload in peer.of(DATA))
        took, pings = time.monotonic() - began, len([1 for one in peer.of(PING) if not one[1] & ACK])
        expect(peer.closed, f"it is still there after {STALLED_MAX_S} s")
        expect(took > 10, f"it was cut after {took:.1f} s, before its time")
        window = settings.get(4, 65_535)
        return f"window of {window} never raised: {taken} bytes sent, cut after {took:.1f} s, {pings} pings answered"


def extended_connect(server: Server) -> str:
    with Peer(server) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, peer.head("/v1/events", [(":protocol", "websocket")], "CONNECT")))
        plain = Encoder().encode([(":method", "CONNECT"), (":authority", "127.0.0.1:1")])
        peer.send(frame(HEADERS, END_HEADERS, 3, plain))
        peer.read(2, lambda: {one[2] for one in peer.frames} >= {1, 3})
        offered = {said[at : at + 2] for _, _, _, said in peer.of(SETTINGS) for at in range(0, len(said), 6)}
        expect(b"\0\x08" not in offered, "extended CONNECT (RFC 8441) is not offered")
        resets = {stream: ERRORS[int.from_bytes(payload)] for _, _, stream, payload in peer.of(RST_STREAM)}
        for stream in (1, 3):
            status = peer.statuses.get(stream, 0)
            expect(400 <= status < 500 or (not status and (stream in resets or peer.closed)), f"CONNECT: {status} {resets}")
        how = [peer.statuses.get(stream) or resets.get(stream, "connection closed") for stream in (1, 3)]
        return f"HTTP/2 CONNECT: extended {how[0]}, plain {how[1]}"


def http1(server: Server, request: bytes, for_s: float = 3) -> tuple[int, str, bytes, bool]:
    """Status, head and what comes after it; whether the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), for_s) as one:
        one.sendall(request)
        said, closed = b"", False
        try:
            while not closed:
                piece = one.recv(1 << 16)
                closed, said = not piece, said + piece
        except TimeoutError:
            pass
    head, _, body = said.partition(b"\r\n\r\n")
    expect(head.startswith(b"HTTP/1."), f"no answer: {said[:80]!r}")
    return int(head[9:12]), head.decode().lower(), body, closed


def http1_rows(server: Server, session: str) -> list[str]:
    port, said = server.port, []
    h2c = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    status, head, _, _ = http1(server, get(port, "/healthz", h2c), 1)
    # RFC 9113 §3.1 has no such upgrade any more: a server takes the request as it is.
    expect(status == 200 and "upgrade:" not in head, f"Upgrade: h2c: {status} {head}")
    said.append(f"Upgrade: h2c: {status} over HTTP/1.1, not upgraded")
    absolute = lambda name: f"GET http://{name}/healthz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()  # noqa: E731
    here, there = http1(server, absolute(f"127.0.0.1:{port}"), 1)[0], http1(server, absolute("evil.example"), 1)[0]
    # RFC 9112 §3.2.2: a server takes this form, and it is what the request is for.
    expect((here, there) == (200, 421), f"absolute form of our own name: {here}, of a foreign one: {there}")
    said.append(f"absolute form: our own name {here}, a foreign one beside our Host {there}")
    status, _, _, _ = http1(server, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode(), 1)
    expect(400 <= status < 500, f"CONNECT: {status}")
    said.append(f"CONNECT: {status}")
    path = f"/v1/sessions/{session}/events?until=idle"
    status, head, body, closed = http1(server, f"GET {path} HTTP/1.0\r\naccept: text/event-stream\r\n\r\n".encode(), 5)
    expect(status == 200 and closed and "transfer-encoding" not in head, f"HTTP/1.0: {status} {head}")
    want = server.call("GET", path, headers={"accept": "text/event-stream"})[2]
    expect(body.split(b"\n\n")[1:] == want.split(b"\n\n")[1:], "a stream of HTTP/1.0 has the events and nothing else")
    said.append(f"HTTP/1.0: a stream of {len(body)} bytes without chunks, which ends with its connection")
    return said


def main() -> int:
    raise_file_limit()
    failed = []
    with work_folder("abuse") as work:
        server = Server(sys.argv[1], work / "server").start()
        try:
            session = long_session(server, 200_000)
            with Healthy(server) as alone:
                time.sleep(4)
            alone.check()
            print(f"nobody else: {alone}")
            rows: list[tuple[str, Callable[[], object]]] = [
                ("H16", lambda: rapid_resets(server)),
                ("H16", lambda: resets_of_ours(server)),
                ("H17", lambda: many_streams(server)),
                ("H18", lambda: continuation_flood(server)),
                ("H18", lambda: tiny_continuations(server)),
                ("H18", lambda: hpack_bomb(server)),
                ("H18", lambda: settings_flood(server)),
                ("H18", lambda: ping_flood(server)),
                ("H18", lambda: ping_flood_read(server)),
                ("H18", lambda: empty_data_flood(server)),
                ("H19", lambda: no_room(server, session, {4: 0})),
                ("H19", lambda: no_room(server, session, {})),
                ("H20", lambda: extended_connect(server)),
                ("H20, H24", lambda: "; ".join(http1_rows(server, session))),
            ]
            for name, row in rows:
                before, began = server.memory_kib(), time.monotonic()
                try:
                    with Healthy(server) as healthy:
                        said = row()
                        # A row may be over before a healthy client has seen anything.
                        time.sleep(max(0.0, 1.5 - (time.monotonic() - began)))
                    healthy.check()
                    server.check()
                    after = server.memory_kib()
                    print(f"ok      {name}: {said}; RSS {before} → {after} KiB; {healthy}")
                    expect(after - before < RSS_GROWTH_MAX_KIB, f"the server grew by {after - before} KiB")
                    late = share(healthy.answers_s, 0.99)
                    expect(late < HEALTHY_P99_MAX_S, f"p99 of a healthy client is {late:.3f} s")
                except (Failure, OSError) as error:
                    failed.append(name)
                    print(f"FAILED  {name}: {error}")
            print(f"abuse: {len(rows) - len(failed)} of {len(rows)} hold; RSS at most {server.memory_kib('VmHWM')} KiB")
        finally:
            server.kill()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
