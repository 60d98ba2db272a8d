#!/usr/bin/env python3
"""Power cuts, failing and full disks: a real server, a real store, and clients that remember what they were told.

  power-cut  the store lies in an ext4 image on a loop device. At random moments the image is copied as it is, which is what
             a machine without power would find, and a second server is started on the copy
  eio        strace makes a sync or a write of the store fail
  full       the store lies in a small tmpfs that runs full

Clients follow sessions over SSE and keep every event byte for byte; others give commands and keep every receipt. What they
were told before the fault is what the store must have after it.

The copy is of one moment although it takes longer: the image lies in a file system of its own, which is frozen meanwhile,
so that not a single write of the loop device comes between its first block and its last. Syncs wait while it is frozen: what
clients are told until it thaws is held against the copy, too. A control experiment proves that such a copy lacks what was
not synced. What it does not model is a drive that loses what it said it had flushed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "disk-faults"
DURABILITIES = ("fsync", "os")
# What the store keeps through a power cut at every durability, because somebody relies on it.
BINDING = re.compile(
    r"session\.created|input\.added|approval\..*|tool\.(started|completed|failed)|command\..*"
    r"|run\.(started|completed|cancelled|failed|recovered)"
)
RUN_ENDS = ("run.completed", "run.cancelled", "run.failed")
# Longest that a run which the power cut found open may stay without news.
RESOLVED_WITHIN_S = 10.0
# From a failed call to the flag that it sets: the server's thread has to get its turn.
NOTICED_WITHIN_S = 0.2


class CannotBeDone(Exception):
    """This machine does not allow the proof."""


# ---------------------------------------------------------------------------------------------------------------- machine


def need(tools: dict[str, str]) -> None:
    """Installs the packages of the tools that are missing."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise CannotBeDone(f"{', '.join(missing)}: not here, and no apt-get to install it")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *sorted(set(missing.values()))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(install, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(install, **quiet)
    if still := [tool for tool in missing if shutil.which(tool) is None]:
        raise CannotBeDone(f"{', '.join(still)}: not here, and cannot be installed")


def do(*command: object, fails: type[Exception] = RuntimeError) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise fails(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextlib.contextmanager
def mounted(what: object, at: Path, *options: str, fails: type[Exception] = RuntimeError):
    """A mount that goes away again; a loop device goes with it."""
    at.mkdir(parents=True, exist_ok=True)
    do("mount", *options, what, at, fails=fails)
    try:
        yield at
    finally:
        for _ in range(50):
            if subprocess.run(["umount", at], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "--lazy", at], check=False)


def make_image(path: Path, mebibytes: int) -> Path:
    with open(path, "wb") as image:
        image.truncate(mebibytes << 20)
    do("mkfs.ext4", "-q", "-F", path)
    return path


def dies_with_us() -> None:
    """In a child before it becomes another program: it is killed when this process ends, in whatever way."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


# ----------------------------------------------------------------------------------------------------------------- server


class Server:
    """A server process on a folder."""

    def __init__(self, binary: str, folder: Path, durability: str, waits: bool = True):
        WORK.mkdir(parents=True, exist_ok=True)
        self.log = WORK / "server.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERAGE_")}
        # Nobody waits here for answers that are still being written.
        config = WORK / "steerage.toml"
        config.write_text("drain_grace_s = 1\n")
        command = [binary, "serve", "--config", config, "--listen", "127.0.0.1:0"]
        command += ["--store", f"disk:{folder}", "--durability", durability]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment,
                preexec_fn=dies_with_us,
            )  # fmt: skip
        self.port = 0
        if waits:
            self.listens()

    def listens(self) -> None:
        """Waits for the first line, which names the port."""
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline().decode() if ready else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            self.kill()
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server did not start: {line}\n{tail}")
        self.port = int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> bool:
        """Asks it to stop; whether it did."""
        self.process.terminate()
        try:
            self.process.wait(10)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def thread(self, name: str) -> int | None:
        """The number of its thread of that name."""
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            # The kernel keeps fifteen characters of a name, and a thread may end while it is looked at.
            with contextlib.suppress(OSError):
                if (task / "comm").read_text().strip() == name[:15]:
                    return int(task.name)
        return None

    def ask(self, method: str, path: str, body: object = None, headers: dict | None = None) -> Answer:
        """One request; status 0 when there was no whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        headers = {"accept": "application/json", **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        except (OSError, http.client.HTTPException):
            return Answer(0, b"", {})
        finally:
            connection.close()

    def give(self, session: str, command: dict) -> Answer:
        return self.ask("POST", f"/v1/sessions/{session}/control", command)

    def log_of(self, session: str) -> list[bytes]:
        """All events of a session by pages, each as its bytes are on the wire."""
        found: list[bytes] = []
        after = ""
        while True:
            answer = self.ask("GET", f"/v1/sessions/{session}/events?limit=1000{after}")
            if answer.status != 200:
                raise RuntimeError(f"a page of {session}: {answer.status} {answer.body[:200]!r}")
            found.extend(slices(answer.body))
            page = answer.json()
            if page["caught_up"]:
                return found
            after = f"&after={page['last_event_id']}" if page["last_event_id"] else ""


class Answer:
    def __init__(self, status: int, body: bytes, headers: dict):
        self.status, self.body, self.headers = status, body, {name.lower(): value for name, value in headers.items()}

    def json(self) -> dict:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def receipt(self) -> dict | None:
        """The receipt of a command: the body of a success, a part of a rejection."""
        body = self.json()
        if self.status == 200:
            return body
        return body.get("receipt") if body.get("code") != "command_conflict" else None

    def refused(self) -> bool:
        return self.status == 503 and self.json().get("code") == "unavailable" and "retry-after" in self.headers

    def __str__(self) -> str:
        return f"{self.status} {self.body[:160].decode(errors='replace')}"


def slices(page: bytes) -> list[bytes]:
    """The events of a JSON page as they stand there."""
    text, decoder = page.decode(), json.JSONDecoder()
    assert text.startswith('{"events":['), text[:40]
    at, found = len('{"events":['), []
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + (text[end] == ",")
    return found


def sse(response: http.client.HTTPResponse):
    """The messages of an event stream: (event, id, data)."""
    rest = b""
    while piece := response.read1(65536):
        *messages, rest = (rest + piece).split(b"\n\n")
        for message in messages:
            event = cursor = data = None
            for line in message.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name == b"event":
                    event = value.decode()
                elif name == b"id":
                    cursor = value.decode()
                elif name == b"data":
                    data = value
            if data is not None:
                yield event, cursor, data


def position(cursor: str) -> tuple[str, int]:
    epoch, _, seq = cursor.partition(".")
    return epoch, int(seq)


# ---------------------------------------------------------------------------------------------------------------- clients


class Reader(threading.Thread):
    """Follows a session and keeps what it was shown. Now and then it goes away, and comes back with its cursor."""

    def __init__(self, server: Server, session: str, dice: random.Random):
        super().__init__(daemon=True)
        self.server, self.session, self.dice = server, session, dice
        self.shown: list[tuple[str, bytes]] = []
        self.approvals: list[str] = []
        self.notices: list[str] = []
        self.wrong: list[str] = []
        self.leaves = False
        self.connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not self.leaves:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
                if self.once():
                    return
            if not self.leaves:
                time.sleep(0.05)

    def once(self) -> bool:
        """One connection. Whether there is no sense in another."""
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"last-event-id": self.shown[-1][0]} if self.shown else {}
        stays_for = self.dice.choice([10**9, self.dice.randrange(20, 400)])
        try:
            self.connection.request("GET", f"/v1/sessions/{self.session}/events", headers=headers)
            response = self.connection.getresponse()
            if response.status != 200:
                return response.status == 404
            for event, cursor, data in sse(response):
                if cursor is None:
                    self.notices.append(event)
                    if event in ("reset", "store_failed"):
                        return event == "store_failed"
                    continue
                if self.shown and position(cursor)[1] != position(self.shown[-1][0])[1] + 1:
                    self.wrong.append(f"{self.session}: {cursor} was shown after {self.shown[-1][0]}")
                if event == "approval.requested":
                    self.approvals.append(json.loads(data)["approval_id"])
                self.shown.append((cursor, data))
                stays_for -= 1
                if stays_for == 0:
                    break
        finally:
            self.connection.close()
        return False

    def leave(self) -> None:
        self.leaves = True
        with contextlib.suppress(Exception):
            self.connection.sock.shutdown(2)


class Talk(threading.Thread):
    """A session, with those who read it and one who commands it."""

    def __init__(self, server: Server, name: str, dice: random.Random, hurry: float, lives_s: float = 1e9):
        super().__init__(daemon=True)
        self.server, self.name_, self.dice, self.hurry = server, name, dice, hurry
        self.until = time.monotonic() + lives_s
        self.created = False
        self.readers: list[Reader] = []
        self.receipts: list[tuple[dict, dict]] = []
        # With the moment at which it was sent: what was acknowledged as new, and what was refused.
        self.acknowledged: list[tuple[dict, float]] = []
        self.refused: list[tuple[dict, float]] = []
        self.wrong: list[str] = []
        self.delete_sent = self.deleted = False
        self.commands = 0
        self.ends = threading.Event()

    def run(self) -> None:
        dice = self.dice
        model = dice.choice(["demo/story", "demo/story", "demo/tools"])
        params = {
            "tokens_per_second": dice.choice([40, 80, 160]),
            "max_tokens": dice.choice([60, 250, 2000]),
            "seed": dice.randrange(1 << 30),
        }
        create = {"id": self.name_, "model": model, "params": params, "input": self.words()}
        answer = self.server.ask("POST", "/v1/sessions", create)
        self.created = answer.status == 201
        if not self.created:
            return
        for _ in range(dice.randrange(1, 4)):
            reader = Reader(self.server, self.name_, random.Random(dice.random()))
            self.readers.append(reader)
            reader.start()
        while not self.ends.wait(dice.uniform(0.2, 2.0) * self.hurry):
            if time.monotonic() > self.until:
                return self.delete()
            self.give(self.command())

    def words(self) -> str:
        return " ".join(self.dice.choices(["shorter", "a whale", "in French", "no rhymes", "Lisbon", "a storm"], k=4))

    def command(self) -> dict:
        dice = self.dice
        asked = [approval for reader in self.readers for approval in reader.approvals]
        if asked and dice.random() < 0.7:
            decision = {"approval_id": asked[-1]}
            return {"type": "approve", **decision} if dice.random() < 0.7 else {"type": "deny", **decision}
        steers = [command["command_id"] for command, _ in self.receipts if command["type"] == "steer"]
        return dice.choice([
            {"type": "steer", "content": self.words(), "when": dice.choice(["now", "next_step", "next_run"])},
            {"type": "steer", "content": self.words()},
            {"type": "send", "content": self.words(), "if_running": dice.choice(["queue", "steer", "cancel", "reject"])},
            {"type": "send", "content": self.words(), "if_running": "queue"},
            {"type": "cancel", "mode": dice.choice(["stop", "stop", "rollback"])},
            {"type": "withdraw", "target": dice.choice(steers or ["none"])},
        ])  # fmt: skip

    def give(self, command: dict) -> Answer:
        """One command, and what became of it."""
        self.commands += 1
        command = {"command_id": f"c{self.commands}", **command}
        sent = time.monotonic()
        answer = self.server.give(self.name_, command)
        if receipt := answer.receipt():
            self.receipts.append((command, receipt))
            if not receipt.get("replayed"):
                self.acknowledged.append((command, sent))
        elif answer.status == 503:
            if not answer.refused():
                self.wrong.append(f"{self.name_}: refused by {answer}")
            self.refused.append((command, sent))
        return answer

    def delete(self) -> None:
        for reader in self.readers:
            reader.leave()
        self.delete_sent = True
        self.deleted = self.server.ask("DELETE", f"/v1/sessions/{self.name_}").status == 204


class Known:
    """What the clients of one session had been told at one moment."""

    def __init__(self, talk: Talk):
        self.talk, self.name = talk, talk.name_
        # In this order: a deletion that was not sent at the second look had not been acknowledged at the first.
        self.created, self.deleted = talk.created, talk.deleted
        self.deleting = talk.delete_sent and not self.deleted
        self.receipts = list(talk.receipts)
        self.journals = [(reader, reader.shown[: len(reader.shown)]) for reader in list(talk.readers)]


class Load:
    """Several talks at a time; those that end make room for others."""

    def __init__(self, server: Server, dice: random.Random, talks: int, hurry: float = 1.0, lives_s: float = 1e9):
        self.server, self.dice, self.size, self.hurry, self.lives_s = server, dice, talks, hurry, lives_s
        self.talks: list[Talk] = []
        self.refill()

    def refill(self) -> None:
        while sum(talk.is_alive() for talk in self.talks) < self.size:
            name = f"s{len(self.talks)}"
            lives_s = self.lives_s * self.dice.uniform(0.5, 1.5)
            talk = Talk(self.server, name, random.Random(self.dice.random()), self.hurry, lives_s)
            self.talks.append(talk)
            talk.start()

    def known(self) -> list[Known]:
        return [Known(talk) for talk in self.talks]

    def end(self) -> None:
        for talk in self.talks:
            talk.ends.set()
            for reader in list(talk.readers):
                reader.leave()
        for talk in self.talks:
            talk.join(20)
            for reader in talk.readers:
                reader.leave()
                reader.join(5)

    def wrong(self) -> list[str]:
        parts = [part for talk in self.talks for part in (talk, *talk.readers)]
        return [line for part in parts for line in part.wrong]


# ----------------------------------------------------------------------------------------------------------------- checks


class Count(defaultdict):
    """Figures of a proof."""

    def __init__(self):
        super().__init__(int)

    def most(self, name: str, value: float) -> None:
        self[name] = max(self[name], value)


def check_store(binary: str, folder: Path, wrong: list[str], when: str) -> None:
    done = subprocess.run([binary, "store", "check", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        wrong.append(f"store check {when}: {done.stdout.strip()} {done.stderr.strip()}")


def stored(binary: str, folder: Path) -> dict[str, list[bytes]]:
    """Every log as the store's own tool prints it, without any server."""
    logs: dict[str, list[bytes]] = {}
    done = subprocess.run([binary, "store", "dump", str(folder)], capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"store dump: {done.stderr.decode(errors='replace')}")
    for line in done.stdout.splitlines():
        head = re.match(rb'\{"session":"default/([^"]+)",', line)
        logs.setdefault(head[1].decode(), []).append(b"{" + line[head.end() :])
    return logs


def kind(event: bytes) -> str:
    return json.loads(event)["type"]


def is_open(log: list[bytes]) -> bool:
    """Whether a run has begun and not ended."""
    kinds = [kind(event) for event in log]
    started = max((at for at, name in enumerate(kinds) if name == "run.started"), default=-1)
    return started >= 0 and not any(name in RUN_ENDS for name in kinds[started:])


def holds(log: list[bytes], cursor: str, data: bytes) -> bool:
    seq = position(cursor)[1]
    return seq <= len(log) and log[seq - 1] == data


def check_journals(known: Known, log: list[bytes], all_of_it: bool, wrong: list[str], count: Count) -> None:
    """Whether the log has what was shown: everything, or everything up to the last fact that somebody relies on."""
    for _, shown in known.journals:
        relied_on = 0
        for cursor, data in shown:
            if all_of_it or BINDING.fullmatch(kind(data)):
                relied_on = position(cursor)[1]
        for command_seq in (receipt["seq"] for _, receipt in known.receipts):
            relied_on = max(relied_on, command_seq)
        for cursor, data in shown:
            seq = position(cursor)[1]
            count["events"] += 1
            if holds(log, cursor, data):
                continue
            if seq <= relied_on:
                wrong.append(f"{known.name}: {cursor} was shown and is not stored: {data[:100]!r}")
            elif seq <= len(log) and json.loads(log[seq - 1])["id"] == cursor:
                wrong.append(f"{known.name}: {cursor} was shown with other bytes")
            else:
                count["lost deltas"] += 1


def check_cursor(server: Server, known: Known, log: list[bytes], cursor: str, data: bytes, wrong: list, count: Count):
    """What a reader gets that comes back: its next event, or a reset and a snapshot; never silence."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    got = []
    try:
        connection.request("GET", f"/v1/sessions/{known.name}/events", headers={"last-event-id": cursor})
        for message in sse(connection.getresponse()):
            got.append(message)
            if message[0] == "caught_up" or len(got) == 3:
                break
    except (OSError, http.client.HTTPException) as error:
        wrong.append(f"{known.name}: back at {cursor}: {error!r} after {got}")
    finally:
        connection.close()
    names = [event for event, _, _ in got]
    if holds(log, cursor, data):
        count["cursors honoured"] += 1
        first = next((id for _, id, _ in got if id), None)
        if "reset" in names or (first and position(first)[1] != position(cursor)[1] + 1):
            wrong.append(f"{known.name}: {cursor} is stored, and was answered with {got}")
        return
    count["resets"] += 1
    if names[:2] != ["reset", "snapshot"]:
        wrong.append(f"{known.name}: {cursor} is lost, and was answered with {names}")
    elif position(got[1][1])[0] == position(cursor)[0]:
        wrong.append(f"{known.name}: {cursor} is lost, and the snapshot is of the same epoch: {got[1][1]}")


def check_receipts(server: Server, known: Known, wrong: list[str], count: Count) -> None:
    """The same command again gets the same receipt."""
    for command, receipt in known.receipts:
        again = server.give(known.name, command).receipt()
        count["receipts"] += 1
        # Decisions that were the same as another's are answered by that one's receipt, and are not recorded.
        first = {**receipt, "replayed": True}
        if again != first:
            wrong.append(f"{known.name}: {command} got {receipt}, and now {again}")


def unanswered(log: list[bytes]) -> set[str]:
    """The approvals that a log asks for and does not resolve."""
    asked: set[str] = set()
    for event in map(json.loads, log):
        if event["type"] == "approval.requested":
            asked.add(event["approval_id"])
        elif event["type"] == "approval.resolved":
            asked.discard(event["approval_id"])
    return asked


def check_resolved(server: Server, logs: dict[str, list[bytes]], wrong: list[str], count: Count) -> None:
    """A run that was open has an end, or goes on, or still waits for the very person that it waited for."""
    begun = time.monotonic()
    waiting = {name for name, log in logs.items() if is_open(log)}
    count["open runs"] += len(waiting)
    while waiting and time.monotonic() - begun < RESOLVED_WITHIN_S:
        for name in list(waiting):
            snapshot = server.ask("GET", f"/v1/sessions/{name}").json()
            last = snapshot.get("last_event_id")
            asked = {approval["approval_id"] for approval in snapshot.get("approvals", [])}
            if snapshot.get("state") == "waiting" and asked and asked == unanswered(logs[name]):
                count["waiting runs"] += 1
                waiting.remove(name)
            elif last and position(last)[1] > len(logs[name]):
                waiting.remove(name)
                count.most("slowest resolution", time.monotonic() - begun)
        time.sleep(0.02)
    wrong.extend(f"{name}: its run was open, and nothing came of it" for name in waiting)


def check_pages(server: Server, logs: dict[str, list[bytes]], wrong: list[str]) -> None:
    """What the server shows begins with what is stored."""
    for name, log in logs.items():
        shown = server.log_of(name)
        if shown[: len(log)] != log:
            wrong.append(f"{name}: the server shows another log than is stored")
        ids = [position(json.loads(event)["id"])[1] for event in shown]
        if ids != list(range(1, len(shown) + 1)):
            wrong.append(f"{name}: the log has gaps")


def check_works(server: Server, wrong: list[str]) -> None:
    """It takes a new session and answers."""
    created = server.ask("POST", "/v1/sessions", {"model": "demo/echo", "input": "hello"})
    if created.status != 201:
        return wrong.append(f"a new session afterwards: {created}")
    name = created.json()["session_id"]
    for _ in range(100):
        if any(kind(event) == "run.completed" for event in server.log_of(name)):
            return
        time.sleep(0.05)
    wrong.append("a new run afterwards does not end")


@contextlib.contextmanager
def finding(wrong: list[str]):
    """What breaks a check is a finding of it, and keeps no other check from being made."""
    try:
        yield
    except CannotBeDone:
        raise
    except Exception as error:
        place = error.__traceback__
        while place.tb_next:
            place = place.tb_next
        wrong.append(f"{error!r} in line {place.tb_lineno} of {Path(place.tb_frame.f_code.co_filename).name}")


class Verdict:
    """Cases that passed and failed."""

    def __init__(self, name: str):
        self.name, self.passed, self.failed, self.since = name, 0, 0, time.monotonic()

    def case(self, what: str, wrong: list[str]) -> None:
        took, self.since = time.monotonic() - self.since, time.monotonic()
        if not wrong:
            self.passed += 1
            return print(f"  {what}: ok ({took:.1f} s)", flush=True)
        self.failed += 1
        print(f"  {what}: FAILED ({took:.1f} s), {len(wrong)} findings", flush=True)
        for line in wrong[:8]:
            print(f"    {line}", flush=True)

    def end(self) -> bool:
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        return self.failed == 0


# -------------------------------------------------------------------------------------------------------------- power cut


class Disk:
    """An ext4 file system in an image, and copies of it as of one moment."""

    def __init__(self, outer: Path, root: Path):
        self.outer, self.root = outer, root
        self.image, self.copied, self.copy_at = outer / "store.img", WORK / "cut.img", WORK / "cut"

    @classmethod
    @contextlib.contextmanager
    def made(cls):
        outer, folder = WORK / "outer", WORK / "disk"
        try:
            make_image(WORK / "outer.img", 700)
            with mounted(WORK / "outer.img", outer, "-o", "loop", fails=CannotBeDone):
                make_image(outer / "store.img", 256)
                with mounted(outer / "store.img", folder, "-o", "loop", fails=CannotBeDone):
                    yield cls(outer, folder)
        finally:
            for image in ("outer.img", "cut.img"):
                (WORK / image).unlink(missing_ok=True)

    def cut(self, known: Callable[[], list[Known]] = list, stays_s: float = 0.0) -> list[Known]:
        """Copies the image as it is now; gives what clients had been told at the end of that moment.

        Who syncs meanwhile waits, so whatever is shown or acknowledged until the end must have been synced before."""
        do("fsfreeze", "--freeze", self.outer, fails=CannotBeDone)
        try:
            do("cp", "--sparse=always", self.image, self.copied)
            time.sleep(stays_s)
            return known()
        finally:
            do("fsfreeze", "--unfreeze", self.outer)

    @contextlib.contextmanager
    def after_the_cut(self):
        with mounted(self.copied, self.copy_at, "-o", "loop"):
            yield self.copy_at


def control_experiment(disk: Disk) -> None:
    """Whether the copy is what a power cut leaves: what was synced is in it, what was only written is not."""
    folder = disk.root / "control"
    folder.mkdir()
    files = 20
    for n in range(files):
        with open(folder / f"synced{n}", "wb") as file:
            file.write(b"synced" * 1000)
            file.flush()
            os.fsync(file.fileno())
            # What follows in the same file is in no sync.
            file.write(b"written" * 1000)
        (folder / f"written{n}").write_bytes(b"written" * 1000)
    disk.cut()
    synced = written = 0
    with disk.after_the_cut() as copy:
        for n in range(files):
            file = copy / "control" / f"synced{n}"
            data = file.read_bytes() if file.exists() else b""
            synced += data[:6000] == b"synced" * 1000
            # A later file's sync may carry an earlier file's length along, but not its bytes.
            written += b"written" in data
            file = copy / "control" / f"written{n}"
            written += file.exists() and b"written" in file.read_bytes()
    shutil.rmtree(folder)
    print(f"control: of {files} synced files {synced} are in the copy, of {2 * files} unsynced writes {written}", flush=True)
    if synced != files or written > files // 2:
        raise CannotBeDone("a copy of the image is not what a power cut leaves")


def power_cut(binary: str, cuts: int, seed: int) -> bool:
    need({"mkfs.ext4": "e2fsprogs", "mount": "mount", "fsfreeze": "util-linux", "cp": "coreutils"})
    verdict = Verdict("power cut")
    with Disk.made() as disk:
        control_experiment(disk)
        for durability in DURABILITIES:
            count, dice = Count(), random.Random(f"{seed}/{durability}")
            folder = disk.root / durability
            print(f"power cut, durability {durability}, seed {seed}:", flush=True)
            server = Server(binary, folder, durability, waits=False)
            load = None
            try:
                # The first one while the store is being made.
                time.sleep(dice.uniform(0, 0.1))
                disk.cut()
                verdict.case("cut 1, at the start", check_cut(binary, disk, durability, [], count, born=False))
                server.listens()
                load = Load(server, dice, talks=8, lives_s=15)
                for n in range(2, cuts + 1):
                    time.sleep(dice.uniform(0.2, 2.0))
                    load.refill()
                    known = disk.cut(load.known, stays_s=dice.choice([0, 0.05, 0.3]))
                    wrong = check_cut(binary, disk, durability, known, count)
                    verdict.case(f"cut {n}", wrong + load.wrong())
            finally:
                server.kill()
                if load:
                    load.end()
                shutil.rmtree(folder, ignore_errors=True)
            print(
                f"{durability}: {cuts} cuts, {count['events']} shown events and {count['receipts']} receipts looked up; "
                f"{count['lost deltas']} deltas were lost, {count['resets']} cursors got a reset and "
                f"{count['cursors honoured']} were honoured; {count['deleted']} deletions held; "
                f"{count['open runs']} open runs: {count['waiting runs']} wait on, the others had news after at most {count['slowest resolution']:.2f} s",
                flush=True,
            )
            if durability == "os" and cuts >= 20 and not count["resets"]:
                verdict.case("a cut that loses what was only written", ["no cut lost anything: nothing was tested"])
    return verdict.end()


def check_cut(binary: str, disk: Disk, durability: str, known: list[Known], count: Count, born: bool = True) -> list[str]:
    """What the copy of the disk has, and what a server makes of it."""
    wrong: list[str] = []
    # One whose deletion was on its way may be there or not.
    known = [each for each in known if each.created and not each.deleting]
    with finding(wrong), disk.after_the_cut() as copy:
        folder = copy / durability
        logs: dict[str, list[bytes]] = {}
        if born:
            check_store(binary, folder, wrong, "before the start")
            logs = stored(binary, folder)
        for each in known:
            if each.deleted:
                count["deleted"] += 1
                if each.name in logs:
                    wrong.append(f"{each.name}: its deletion was acknowledged, and it is there")
            elif each.name not in logs:
                wrong.append(f"{each.name}: it was created, and is not there")
            else:
                check_journals(each, logs[each.name], durability == "fsync", wrong, count)
        server = Server(binary, folder, durability)
        try:
            check_resolved(server, logs, wrong, count)
            check_pages(server, logs, wrong)
            for each in known:
                if each.deleted:
                    status = server.ask("GET", f"/v1/sessions/{each.name}").status
                    if status != 404:
                        wrong.append(f"{each.name}: deleted, and answers {status}")
                    continue
                for _, shown in each.journals:
                    if shown:
                        check_cursor(server, each, logs.get(each.name, []), *shown[-1], wrong, count)
                check_receipts(server, each, wrong, count)
            check_works(server, wrong)
        finally:
            server.kill()
        check_store(binary, folder, wrong, "after the end")
    return wrong


# ------------------------------------------------------------------------------------------------- failing and full disks


def flood(server: Server, sessions: int) -> None:
    """Long answers: they make the store write much. Whether they are taken does not matter here."""
    for n in range(sessions):
        server.ask("POST", "/v1/sessions", {"id": f"flood{n}", "model": "demo/chaos", "input": "flood"})


def quieten(server: Server, load: Load) -> None:
    """Ends all answers once the log is so long that a thread copies it into the file."""
    deadline = time.monotonic() + 40
    while not server.thread("steerage-checkpoint") and time.monotonic() < deadline:
        time.sleep(0.02)
    for talk in load.talks:
        talk.ends.set()
    for talk in load.talks:
        talk.join(5)
    names = [talk.name_ for talk in load.talks] + ["flood0", "flood1"]
    for name in names * 3:
        server.give(name, {"type": "cancel"})


def check_failed(server: Server, load: Load, since: float, wrong: list[str], count: Count) -> set[str]:
    """A store that has failed, from outside. Gives the sessions that were refused."""
    deadline = time.monotonic() + 2
    while (ready := server.ask("GET", "/readyz")).status == 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    if ready.status != 503 or ready.json().get("status") != "store_failed":
        wrong.append(f"readyz after the failure: {ready}")
    refused_sessions = set()
    sessions = [talk for talk in load.talks if talk.created]
    for attempt in range(3):
        for talk in sessions:
            # The talk's own thread goes on as well: every command of either has a number of its own.
            answer = talk.give({"command_id": f"late-{attempt}", **talk.command()})
            count["probes"] += 1
            # The answer to a decision that was made before may be said again: it is stored.
            if not answer.refused() and not (answer.receipt() or {}).get("replayed"):
                wrong.append(f"{talk.name_}: after the failure: {answer}")
        name = f"late-{attempt}"
        answer = server.ask("POST", "/v1/sessions", {"id": name, "model": "demo/echo", "input": "hello"})
        count["probes"] += 1
        refused_sessions.add(name)
        if not answer.refused():
            wrong.append(f"a new session after the failure: {answer}")
        answer = server.ask("DELETE", f"/v1/sessions/{sessions[0].name_}")
        count["probes"] += 1
        if not answer.refused():
            wrong.append(f"a deletion after the failure: {answer}")
        if server.ask("GET", "/readyz").status != 503:
            wrong.append("it is ready again")
        time.sleep(0.3)
    if server.ask("GET", "/healthz").status != 200:
        wrong.append("healthz does not answer")
    # Every reader has been told, and its stream has ended.
    for talk in load.talks:
        for reader in talk.readers:
            reader.join(3)
            count["readers told"] += 1
            if reader.is_alive() or reader.notices[-1:] != ["store_failed"]:
                wrong.append(f"{talk.name_}: a reader's last word was {reader.notices[-1:]}, at {reader.shown[-1:]}")
    # What is stored can be read, and is what was shown.
    listed = server.ask("GET", "/v1/sessions?limit=200")
    names = {entry["session_id"] for entry in listed.json().get("sessions", [])}
    if listed.status != 200 or not {talk.name_ for talk in sessions} <= names:
        wrong.append(f"the list after the failure: {listed}")
    for talk in sessions:
        snapshot = server.ask("GET", f"/v1/sessions/{talk.name_}")
        page = server.log_of(talk.name_)
        if snapshot.status != 200 or snapshot.json()["last_event_id"] != json.loads(page[-1])["id"]:
            wrong.append(f"{talk.name_}: the snapshot after the failure: {snapshot}")
        for reader in talk.readers:
            for cursor, data in reader.shown:
                if not holds(page, cursor, data):
                    wrong.append(f"{talk.name_}: {cursor} was shown, and the server does not have it")
    for talk in load.talks:
        count["refused"] += sum(sent > since for _, sent in talk.refused)
        late = [command for command, sent in talk.acknowledged if sent > since + NOTICED_WITHIN_S]
        wrong.extend(f"{talk.name_}: {command} was sent after the failure and acknowledged" for command in late)
    return refused_sessions


def check_restart(
    binary: str, folder: Path, durability: str, load: Load, since: float, never: set[str], wrong: list, count: Count
) -> None:
    """After the cause has gone: what was acknowledged is there, what was refused is not, and it works again."""
    check_store(binary, folder, wrong, "before the restart")
    logs = stored(binary, folder)
    for name in never & logs.keys():
        wrong.append(f"{name}: it was refused, and is there")
    for talk in load.talks:
        each = Known(talk)
        if not each.created:
            continue
        log = logs.get(each.name, [])
        check_journals(each, log, True, wrong, count)
        recorded = {event.get("command_id") for event in map(json.loads, log)} - {None}
        for command, sent in talk.refused:
            if command["command_id"] not in recorded:
                continue
            # What was on its way when the sync failed: nobody can know whether the disk has it. It was not
            # acknowledged, and asking again tells.
            if sent > since:
                wrong.append(f"{each.name}: {command} was refused, and is in the log")
            else:
                count["in doubt"] += 1
    server = Server(binary, folder, durability)
    try:
        check_resolved(server, logs, wrong, count)
        check_pages(server, logs, wrong)
        for talk in load.talks:
            if not talk.created:
                continue
            check_receipts(server, Known(talk), wrong, count)
            for command, _ in talk.refused:
                answer = server.give(talk.name_, command)
                if answer.receipt() is None:
                    wrong.append(f"{talk.name_}: {command} again after the restart: {answer}")
        check_works(server, wrong)
    finally:
        server.kill()
    check_store(binary, folder, wrong, "after the end")


class Strace:
    """Makes system calls of a process fail."""

    def __init__(self, tracee: list[str], path: Path, calls: str, when: str, error: str = "EIO"):
        self.log = WORK / "strace.log"
        self.log.unlink(missing_ok=True)
        inject = f"inject={calls}:error={error}:when={when}"
        command = ["strace", "-qq", *tracee, "-P", path, "-e", f"trace={calls}", "-e", inject, "-o", self.log]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, preexec_fn=dies_with_us,
        )  # fmt: skip

    def seen(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def injected(self, within_s: float) -> float | None:
        """When the first failure was seen."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if "(INJECTED)" in self.seen():
                return time.monotonic()
            if self.process.poll() is not None:
                raise CannotBeDone(f"strace: {self.process.stderr.read().decode(errors='replace').strip()}")
            time.sleep(0.005)
        return None

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


SYNCS, WRITES = "fsync,fdatasync", "write,pwrite64,writev,pwritev"
QUIET_S = 5
# (what fails, which file, which calls, at which of them; `+` is that one and all later ones)
FAILURES = [
    ("a sync of the log", "-wal", SYNCS, "1"),
    ("a sync of the log", "-wal", SYNCS, "7"),
    ("every sync of the log", "-wal", SYNCS, "15+"),
    ("a write to the log", "-wal", WRITES, "1"),
    ("a write to the log", "-wal", WRITES, "38"),
    ("every write to the log", "-wal", WRITES, "111+"),
    ("a sync of the file", "", SYNCS, "1"),
    # The call fails that much later, when nothing is written any more.
    ("a write to the file, in a quiet moment", "", WRITES, f"1:delay_enter={QUIET_S * 1_000_000}"),
    ("every write to the file", "", WRITES, "2+"),
]


def eio(binary: str, seed: int) -> bool:
    need({"strace": "strace"})
    verdict, calls = Verdict("eio"), defaultdict(int)
    for durability in DURABILITIES:
        count = Count()
        print(f"eio, durability {durability}, seed {seed}:", flush=True)
        for n, (what, which, syscalls, when) in enumerate(FAILURES):
            wrong: list[str] = []
            dice = random.Random(f"{seed}/{durability}/{n}")
            folder = WORK / "eio"
            shutil.rmtree(folder, ignore_errors=True)
            server = Server(binary, folder, durability)
            with finding(wrong), contextlib.ExitStack() as last:
                last.callback(server.kill)
                load = Load(server, dice, talks=6, hurry=0.3)
                last.callback(load.end)
                time.sleep(dice.uniform(0.5, 1.5))
                # The writer's thread for the log. The file is written by others as well, and not before the log is long.
                tracee = ["-p", server.thread("steerage-store")] if which else ["-f", "-p", server.process.pid]
                strace = Strace(tracee, folder / f"steerage.sqlite{which}", syscalls, when)
                last.callback(strace.end)
                if not which:
                    time.sleep(0.5)
                    flood(server, 2)
                if "delay" in when:
                    quieten(server, load)
                since = strace.injected(60)
                if since is None:
                    wrong.append("there was no such call within a minute")
                else:
                    never = check_failed(server, load, since, wrong, count)
                    # Stopped by a signal every other time: at its end it must not make things worse.
                    if n % 2:
                        server.kill()
                    elif not server.stop():
                        wrong.append("it does not stop")
                    for name in syscalls.split(","):
                        calls[name] += len(re.findall(rf"\b{name}\(", strace.seen()))
                    strace.end()
                    load.end()
                    check_restart(binary, folder, durability, load, since, never, wrong, count)
                    wrong += load.wrong()
            shutil.rmtree(folder, ignore_errors=True)
            verdict.case(f"{what} (call {when.partition(':')[0]})", wrong)
        print_failures(durability, count)
    print(f"calls that were seen: {', '.join(f'{number} {name}' for name, number in calls.items())}", flush=True)
    return verdict.end()


def print_failures(durability: str, count: Count) -> None:
    print(
        f"{durability}: {count['probes']} requests after a failure and {count['refused']} commands refused, "
        f"{count['readers told']} readers told; after the restart {count['events']} shown events and {count['receipts']} "
        f"receipts looked up, {count['in doubt']} unacknowledged commands that were on their way are stored; "
        f"{count['open runs']} open runs: {count['waiting runs']} wait on, the others had news after at most {count['slowest resolution']:.2f} s",
        flush=True,
    )


def full(binary: str, rounds: int, seed: int) -> bool:
    need({"mount": "mount"})
    verdict = Verdict("full")
    for durability in DURABILITIES:
        count = Count()
        print(f"full, durability {durability}, seed {seed}:", flush=True)
        for n in range(2 * rounds):
            wrong: list[str] = []
            dice = random.Random(f"{seed}/{durability}/{n}")
            by_ballast = n % 2 == 1
            kibibytes = 16384 if by_ballast else dice.randrange(2048, 4096)
            at = WORK / "full"
            with mounted("tmpfs", at, "-t", "tmpfs", "-o", f"size={kibibytes}k", fails=CannotBeDone):
                folder = at / "store"
                server = Server(binary, folder, durability)
                with finding(wrong), contextlib.ExitStack() as last:
                    last.callback(server.kill)
                    load = Load(server, dice, talks=6, hurry=0.3)
                    last.callback(load.end)
                    time.sleep(dice.uniform(0.3, 1.0))
                    if by_ballast:
                        fill(at / "ballast", leave=dice.randrange(0, 256 << 10))
                    else:
                        flood(server, 1)
                    since = first_refusal(server, within_s=60)
                    if since is None:
                        wrong.append("it did not run full within a minute")
                    else:
                        never = check_failed(server, load, since, wrong, count)
                        server.kill()
                        load.end()
                        (at / "ballast").unlink(missing_ok=True)
                        do("mount", "-o", "remount,size=64m", at)
                        check_restart(binary, folder, durability, load, since, never, wrong, count)
                        wrong += load.wrong()
            verdict.case("full by a ballast file" if by_ballast else f"full by long answers ({kibibytes} KiB)", wrong)
        print_failures(durability, count)
    return verdict.end()


def fill(ballast: Path, leave: int) -> None:
    """Takes all the room but some bytes; the server may be quicker."""
    room = os.statvfs(ballast.parent)
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        for _ in range(max(0, room.f_bavail * room.f_frsize - leave) >> 12):
            file.write(b"\1" * 4096)


def first_refusal(server: Server, within_s: float) -> float | None:
    """When the server was first seen to have failed."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if server.ask("GET", "/readyz").status == 503:
            return time.monotonic()
        time.sleep(0.01)
    return None


# ------------------------------------------------------------------------------------------------------------------- main


def built() -> str:
    """A steerage."""
    if binary := os.environ.get("STEERAGE_BINARY"):
        return os.path.abspath(binary)
    do("cargo", "build", "--quiet", "--manifest-path", ROOT / "Cargo.toml", "--bin", "steerage")
    return str(Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug" / "steerage")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="disk-faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="$STEERAGE_BINARY is the server; without it one is built. Ends with 77 where this cannot be done.",
    )  # fmt: skip
    parser.add_argument("proof", nargs="?", default="all", choices=["power-cut", "eio", "full", "all"])
    parser.add_argument("--cuts", type=int, default=20, help="power cuts for each durability (20)")
    parser.add_argument("--rounds", type=int, default=2, help="full disks of each kind for each durability (2)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and of what the clients do (1)")
    options = parser.parse_args()

    def ends(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, ends)
    proofs = {
        "power-cut": lambda binary: power_cut(binary, max(1, options.cuts), options.seed),
        "eio": lambda binary: eio(binary, options.seed),
        "full": lambda binary: full(binary, max(1, options.rounds), options.seed),
    }
    chosen = list(proofs) if options.proof == "all" else [options.proof]
    try:
        if os.geteuid() != 0:
            raise CannotBeDone("this needs root: it mounts, and it traces a process")
        binary = built()
        WORK.mkdir(parents=True, exist_ok=True)
        (WORK / "server.log").unlink(missing_ok=True)
        # Whatever hangs ends: half a minute for each cut, a minute and a half for each failure.
        signal.alarm(300 + 60 * max(1, options.cuts) + 90 * 2 * len(FAILURES) + 90 * 4 * max(1, options.rounds))
        results = [proofs[name](binary) for name in chosen]
    except CannotBeDone as reason:
        print(f"disk-faults: CANNOT BE DONE HERE: {reason}", file=sys.stderr)
        return 77
    if b"panicked" in (WORK / "server.log").read_bytes():
        print(f"disk-faults: a server panicked, see {WORK / 'server.log'}", file=sys.stderr)
        return 1
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
