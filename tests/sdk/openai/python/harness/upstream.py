"""A small OpenAI-compatible model server that does what a test tells it to, and remembers what it was asked and whether
its connections were closed before it had said all.

It goes by the first words of what the user said last:

| said | what it does |
| --- | --- |
| ``hold …`` | a few words, then nothing for ever |
| ``wait …`` | not even a first token |
| ``slow N …``, ``fast N …`` | N numbered words, 10 ms apart or at once |
| ``tokens N …`` | N numbered words of three characters, 4 ms apart: what comes at once may be told at once |
| ``verbatim TEXT`` | says the text |
| ``tricky …`` | says ``TRICKY`` |
| ``think …`` | a reasoning, then an answer |
| ``call NAME JSON`` | calls a tool |
| ``both …`` | calls ``lookup`` and ``get_weather`` at once |
| ``length …``, ``filter …`` | a few words, then that finish reason |
| ``status N …`` | that HTTP status |
| ``once N …`` | that HTTP status to the first request, an answer to the next one |
| ``break …`` | a few words, then the connection is closed |
| ``midfail …`` | a few words, then an error in the stream |

After tools it repeats what they gave. Everything else is answered with "You said …".
"""

import json
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRICKY = 'naïve — 美咲 🚢👩‍👩‍👧 é "quoted" \\back\\ \n\n data: x\n\n</script> {"a":1} \u2028 end'


def words(count):
    return "".join(f"word{n} " for n in range(count))


def numbered(count):
    return "".join(f"{n % 100:02} " for n in range(count))


class Asked:
    """One request. ``closed``: the caller has hung up before the end."""

    def __init__(self, body, headers):
        self.body, self.headers = body, headers
        self.messages = body.get("messages", [])
        self.closed = threading.Event()
        self.ended = False

    @property
    def last(self):
        said = [message for message in self.messages if message["role"] == "user"]
        return text(said[-1]["content"]) if said else ""


def text(content):
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or [])


class Upstream:
    def __init__(self):
        self.requests = []
        self._failed_once = set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                upstream._models(self)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream._serve(self, Asked(body, dict(self.headers)))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def about(self, said):
        """The requests in which the user said this last."""
        return [asked for asked in self.requests if asked.last.endswith(said)]

    def _models(self, handler):
        model = {"id": "x", "object": "model", "created": 1_700_000_000, "owned_by": "test"}
        self._json(handler, 200, {"object": "list", "data": [model]})

    def _json(self, handler, status, body, headers=()):
        data = json.dumps(body).encode()
        handler.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(data))), *headers]:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def _serve(self, handler, asked):
        self.requests.append(asked)
        said = asked.last.split("\n")[-1]
        verb, _, rest = said.partition(" ")
        number, _, name = rest.partition(" ")
        if verb == "status" or (verb == "once" and said not in self._failed_once):
            self._failed_once.add(said)
            asked.ended = True
            kind = "invalid_request_error" if number.startswith("4") and number != "429" else "server_error"
            error = {"message": f"the model server says no to {name}", "type": kind, "param": None, "code": "no_luck"}
            return self._json(handler, int(number), {"error": error})
        try:
            _Answer(handler, asked).give(verb, rest, number, name)
            asked.ended = True
        except (BrokenPipeError, ConnectionResetError, _HungUp):
            asked.closed.set()
        handler.close_connection = True


class _HungUp(Exception):
    pass


class _Answer:
    def __init__(self, handler, asked):
        self.handler, self.asked = handler, asked
        self.output = 0
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()

    def pause(self, seconds):
        """Waits, and sees it at once when the caller hangs up."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.handler.connection], [], [], left)[0]:
                if not self.handler.connection.recv(1, socket.MSG_PEEK):
                    raise _HungUp
                time.sleep(0.005)

    def chunk(self, **fields):
        chunk = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "x", **fields}
        self.handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def delta(self, finish=None, **delta):
        self.chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    def say(self, said, pause=0.0, size=None, kind="content"):
        pieces = [said[n : n + size] for n in range(0, len(said), size)] if size else said.split(" ")
        for n, piece in enumerate(pieces):
            if not size and n < len(pieces) - 1:
                piece += " "
            if piece:
                self.output += 1
                self.delta(**{kind: piece})
                if pause:
                    self.pause(pause)

    def call(self, *calls):
        for index, (call_id, name, arguments) in enumerate(calls):
            function = {"name": name, "arguments": ""}
            self.delta(tool_calls=[{"index": index, "id": call_id, "type": "function", "function": function}])
            # In fragments, as models send them.
            for part in [arguments[:4], arguments[4:9], arguments[9:]]:
                self.delta(tool_calls=[{"index": index, "function": {"arguments": part}}])
        self.output += 7
        self.end("tool_calls")

    def end(self, finish="stop"):
        self.delta(finish)
        if (self.asked.body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 11, "completion_tokens": self.output, "total_tokens": 11 + self.output}
            self.chunk(choices=[], usage=usage)
        self.handler.wfile.write(b"data: [DONE]\n\n")

    def give(self, verb, rest, number, name):
        # Where an answer is to be gone on with, it is.
        given = self.asked.messages[-1]
        if given["role"] == "tool":
            outputs = []
            for message in reversed(self.asked.messages):
                if message["role"] != "tool":
                    break
                outputs.insert(0, text(message["content"]))
            if verb != "again":
                self.delta(role="assistant", content="")
                self.say(f"The tools gave {' and '.join(outputs)}.")
                return self.end()
        if verb == "wait":
            return self.pause(120)
        self.delta(role="assistant", content="")
        unique = f"{time.monotonic_ns():x}"
        few = "These words come at once and then nothing more "
        match verb:
            case "hold":
                self.say(few)
                return self.pause(120)
            case "break":
                self.say(few)
                self.handler.wfile.flush()
                self.handler.connection.shutdown(socket.SHUT_RDWR)
                return None
            case "midfail":
                self.say(few)
                error = {"message": "the model fell over", "type": "server_error", "param": None, "code": "engine_dead"}
                self.handler.wfile.write(f"data: {json.dumps({'error': error})}\n\ndata: [DONE]\n\n".encode())
                return None
            case "slow" | "fast":
                self.say(f"{words(int(number))}to the end of {name}.", 0.01 if verb == "slow" else 0)
            case "tokens":
                self.say(numbered(int(number)), size=3, pause=0.004)
            case "verbatim":
                self.say(rest, size=5)
            case "tricky":
                self.say(TRICKY, size=3)
            case "think":
                self.say(f"Let me think about {rest}.", kind="reasoning_content")
                self.say(f"I have thought about {rest}.")
            case "length" | "filter":
                self.say(few)
                return self.end("length" if verb == "length" else "content_filter")
            case "call":
                return self.call((f"call_{unique}", number, name))
            case "both":
                city = json.dumps({"city": "Oslo"})
                return self.call((f"call_a{unique}", "lookup", "{}"), (f"call_b{unique}", "get_weather", city))
            case _:
                self.say(f"You said {verb} {rest}.")
        return self.end()
