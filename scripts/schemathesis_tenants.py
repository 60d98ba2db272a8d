"""Two tenants: whatever one of them asks about what belongs to the other is answered as if it were not there.

As hooks of Schemathesis (see schemathesis_hooks.py, which stays in force) every request of tenant B that names something
names what tenant A has; the check sends the same request once more with a name that nobody has, and nothing but the name
may differ. As a program:

    schemathesis_tenants.py config KEY_A KEY_B     prints the settings of a server with the two
    schemathesis_tenants.py fill URL KEY           tenant A says things, through every door; prints the names, and what they hold
    schemathesis_tenants.py verify URL KEY FILE    A has everything that it had
"""

import hashlib
import json
import os
import sys
import urllib.request
import uuid
from pathlib import Path

# What A has said, and nobody else may read.
CANARY = "canary-4f1c9a7e"
# Names that are A's, by what the document calls the place for one.
NAMES = json.loads(Path(os.environ["STEERAGE_FOREIGN"]).read_text())["names"] if "STEERAGE_FOREIGN" in os.environ else {}


def ask(url, key, method, path, body=None, accept="application/json"):
    headers = {"authorization": f"Bearer {key}", "accept": accept, "content-type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method), timeout=20) as answer:
        return answer.headers, answer.read().decode()


def log(url, key, session):
    events, after = [], ""
    while True:
        page = json.loads(ask(url, key, "GET", f"/v1/sessions/{session}/events{after}")[1])
        events += page["events"]
        if page["caught_up"]:
            return events
        after = f"?after={page['last_event_id']}"


def fill(url, key):
    """What A has: sessions, one of them waiting for a person, a completion, a response and a chat."""
    made = lambda body: json.loads(ask(url, key, "POST", "/v1/sessions", body)[1])["session_id"]  # noqa: E731
    fast = {"tokens_per_second": 100_000}
    sessions = [made({"model": "demo/echo", "input": f"say {CANARY}", "params": fast}) for _ in range(2)]
    sessions.append(made({"model": "demo/tools", "input": f"the weather in {CANARY}", "metadata": {"of": CANARY}}))
    said = [{"role": "user", "content": CANARY}]
    headers, completion = ask(url, key, "POST", "/v1/chat/completions", {"model": "demo/echo", "messages": said, "store": True})
    sessions.append(headers["steerage-session"])
    response = ask(url, key, "POST", "/v1/responses", {"model": "demo/echo", "input": CANARY, "store": True})[1]
    message = {"id": "m0", "role": "user", "parts": [{"type": "text", "text": CANARY}]}
    chat = f"chat-{uuid.uuid4()}"
    ask(url, key, "POST", "/v1/ai-sdk/chat", {"id": chat, "model": "demo/echo", "messages": [message]}, "text/event-stream")
    names = {
        "session_id": [*sessions, chat],
        "completion_id": [json.loads(completion)["id"]],
        "response_id": [json.loads(response)["id"]],
        "id": [chat, *sessions[:1]],
    }
    logs = {session: log(url, key, session) for session in names["session_id"]}
    without = [session for session, events in logs.items() if CANARY not in json.dumps(events)]
    assert not without, f"A's own logs say what A said: not {without}"
    return {"names": names, "logs": logs}


def verify(url, key, file):
    had = json.loads(Path(file).read_text())
    for session, events in had["logs"].items():
        now = log(url, key, session)
        assert now[: len(events)] == events, f"{session} has changed: {now[len(events) - 1 :]}"
        extra = [event["type"] for event in now[len(events) :]]
        assert all(not kind.startswith(("command.", "input.")) for kind in extra), f"{session} was spoken to: {extra}"
    for name in had["names"]["response_id"]:
        assert CANARY in ask(url, key, "GET", f"/v1/responses/{name}")[1]
    print(f"tenants: A has its {len(had['logs'])} logs and its response as before")


def config(key_a, key_b):
    lines = []
    for name, key in (("a", key_a), ("b", key_b)):
        lines += [f"[keys.{name}]", f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"', f'tenant = "{name}"']
    return "\n".join(lines)


if __name__ == "__main__":
    work, *rest = sys.argv[1:]
    result = {"config": config, "fill": fill, "verify": verify}[work](*rest)
    if result:
        print(result if isinstance(result, str) else json.dumps(result))
    sys.exit(0)

# ------------------------------------------------------------------------------------------------------------------- hooks

import itertools  # noqa: E402
import re  # noqa: E402

import requests  # noqa: E402
import schemathesis  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
import schemathesis_hooks  # noqa: E402, F401

TURN = itertools.count()
# What is new in every answer: the time, its own name, the pause before a reader comes back; and a path, which is clipped.
FRESH = re.compile(r'(?m)^retry: \d+$|req_[0-9a-f]+|"(at|created|created_at)":[^,}]+|is not for [^"]*')


@schemathesis.hook("before_call")
def name_what_is_not_ours(context, case, kwargs):
    for place, names in NAMES.items():
        if case.path_parameters and place in case.path_parameters:
            case.path_parameters[place] = names[next(TURN) % len(names)]
    operation = case.operation.definition.raw["operationId"]
    if operation == "readManyEvents" and case.query:
        case.query["sessions"] = NAMES["session_id"][next(TURN) % len(NAMES["session_id"])]
    if operation == "createResponse" and isinstance(case.body, dict) and next(TURN) % 2:
        case.body["previous_response_id"] = NAMES["response_id"][0]


def asked_again(request, known, unknown):
    """The same request with another name: status and body, or the first words of it where it has no end."""
    replaced = lambda text: text.replace(known, unknown) if text else text  # noqa: E731
    again = request.copy()
    again.url = replaced(again.url)
    if isinstance(again.body, bytes):
        again.body = again.body.replace(known.encode(), unknown.encode())
    else:
        again.body = replaced(again.body)
    if again.body:
        again.headers["content-length"] = str(len(again.body if isinstance(again.body, bytes) else again.body.encode()))
    with requests.Session() as session, session.send(again, timeout=20, stream=True) as answer:
        return answer.status_code, answer.headers.get("content-type"), None if "event-stream" in answer.headers.get(
            "content-type", ""
        ) else answer.content.decode(errors="replace")


@schemathesis.check
def what_is_not_ours_is_not_there(context, response, case):
    said = response.content.decode(errors="replace")
    assert CANARY not in said, f"what A said: {said[:300]}"
    request = response.request
    sent = f"{request.url} {request.body!r}"
    named = [name for names in NAMES.values() for name in names if name in sent]
    shown = [name for names in NAMES.values() for name in names if name in said and name not in sent]
    assert not shown, f"names that are A's: {shown}"
    for name in named[:1]:
        fresh = str(uuid.uuid4())
        # As long and of the same shape: a response's and a completion's name have an inner form.
        uuids = r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
        unknown = re.sub(uuids, lambda found, fresh=fresh: fresh if "-" in found[0] else fresh.replace("-", ""), name)
        assert unknown != name, f"{name} can be made unknown"
        status, kind, body = asked_again(request, name, unknown)
        assert response.status_code == status, f"{name}: {response.status_code}, and {status} for a name that nobody has"
        if body is not None:
            plain = lambda text: FRESH.sub("", text.replace(name, "NAME").replace(unknown, "NAME"))  # noqa: E731
            assert plain(said) == plain(body), f"{name}: {said[:300]}, and {body[:300]} for a name that nobody has"
