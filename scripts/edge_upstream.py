"""A model server for measurements: every token says which it is and when it was sent.

The last message says what is wanted: `fast N` is N tokens at once, `live N RATE` is N tokens at RATE a second.
"""

from __future__ import annotations

import asyncio
import json
import time

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
# Tokens that are written together where none is waited for.
AT_ONCE = 100


def token(number: int) -> bytes:
    """`00042@1700000000000000 `: number, and microseconds of the wall clock."""
    text = f"{number:05}@{time.time_ns() // 1000:016} "
    delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(delta, separators=(',', ':'))}\n\n".encode()


def sent_us(data: str) -> int | None:
    """When the token in this event was sent."""
    at = data.find("@")
    digits = data[at + 1 : at + 17] if at >= 0 else ""
    return int(digits) if len(digits) == 16 and digits.isdigit() else None


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
        body = json.loads(await reader.readexactly(length) or b"{}")
        if b"post" not in head[:5]:
            listed = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + listed)
            await writer.drain()
            return
        wish = body["messages"][-1]["content"].split()
        count, rate = int(wish[1]), float(wish[2]) if wish[0] == "live" else None
        writer.write(HEAD)
        if rate is None:
            for first in range(1, count + 1, AT_ONCE):
                writer.write(b"".join(token(number) for number in range(first, min(first + AT_ONCE, count + 1))))
                await writer.drain()
        else:
            began = time.monotonic()
            for number in range(1, count + 1):
                await asyncio.sleep(began + number / rate - time.monotonic())
                writer.write(token(number))
                await writer.drain()
        stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        writer.write(f"data: {json.dumps(stop)}\n\ndata: [DONE]\n\n".encode())
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def start() -> tuple[asyncio.Server, int]:
    """The server and its port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]
