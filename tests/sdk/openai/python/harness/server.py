"""A Steerage server of a test's own: started on a free port, killed and started again on the same one, and its native
API, whose log is what every other door is held against."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

BINARY = os.environ.get("STEERAGE_BIN")
PATIENT = os.path.join(os.path.dirname(__file__), "../../../patient.toml")

# The caller's environment without what would configure the server behind the test's back.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("STEERAGE_")}


class Server:
    """``store``: "memory", or "disk" for one in a folder of its own, which outlives a kill. ``upstreams``: name to URL."""

    def __init__(self, store="memory", upstreams=None):
        if not BINARY:
            raise RuntimeError("STEERAGE_BIN names no server: run scripts/sdk-openai-test, which builds one")
        self.folder = tempfile.mkdtemp(prefix="steerage-openai-")
        self.store = f"disk:{self.folder}/store" if store == "disk" else store
        self.upstreams = upstreams or {}
        self._log = open(f"{self.folder}/stderr", "ab")
        self._serve("127.0.0.1:0")

    def _serve(self, listen):
        options = [BINARY, "serve", "--config", PATIENT, "--listen", listen, "--store", self.store]
        for name, url in self.upstreams.items():
            options += ["--upstream", f"{name}={url}"]
        self.process = subprocess.Popen(options, env=ENV, stdout=subprocess.PIPE, stderr=self._log, text=True)
        greeting = self.process.stdout.readline()
        found = re.search(r"http://[\d.]+:(\d+)", greeting)
        if not found:
            raise RuntimeError(f"the server did not start: {greeting}{self.log_text()}")
        self.url, self.port = found.group(0), int(found.group(1))

    @property
    def base_url(self):
        return f"{self.url}/v1"

    def log_text(self):
        with open(f"{self.folder}/stderr", encoding="utf-8", errors="replace") as log:
            return log.read()

    def kill(self):
        """As a crash is: nothing is written any more, every connection is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def again(self):
        """Another process on the same port and store."""
        self._serve(f"127.0.0.1:{self.port}")

    def stop(self):
        if self.process.poll() is None:
            self.kill()
        said = self.log_text()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert "panicked" not in said, f"the server panicked:\n{said}"

    def request(self, method, path, body=None, headers=None):
        """Status, JSON (or text) and headers of one request to any door."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **(headers or {})} if data is not None else headers or {}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, raw, given = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, raw, given = error.code, error.read(), error.headers
        try:
            return status, json.loads(raw), given
        except ValueError:
            return status, raw.decode("utf-8", "replace"), given

    def log(self, session):
        """Every event of a session."""
        events, after = [], ""
        while True:
            path = f"/v1/sessions/{urllib.parse.quote(session, safe='')}/events?after={after}"
            status, page, _ = self.request("GET", path, headers={"accept": "application/json"})
            assert status == 200, f"no log of {session}: {status} {page}"
            events += page["events"]
            if page["caught_up"]:
                return events
            after = page["last_event_id"]

    def control(self, session, command):
        """One native command."""
        status, receipt, _ = self.request("POST", f"/v1/sessions/{session}/control", command)
        assert status == 200, f"{status} {receipt}"
        return receipt


def of(events, kind):
    return [event for event in events if event["type"] == kind]


def text_of(events):
    return "".join(event["text"] for event in of(events, "text.delta"))
