"""What every test is given."""

import os
import secrets

import openai
import pytest

from harness.proxy import Proxy
from harness.server import Server
from harness.upstream import Upstream

VERSION = int(openai.__version__.split(".")[0])

# A proxy of the machine's own is not between us and loopback.
for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(variable, None)
# Nor is the SDK configured from outside.
for variable in [name for name in os.environ if name.startswith("OPENAI_")]:
    os.environ.pop(variable)


def pytest_report_header():
    return f"openai {openai.__version__}"


@pytest.fixture(scope="session")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def server(upstream):
    """One for all tests that do not kill it."""
    server = Server(upstreams={"up": upstream.url})
    yield server
    server.stop()


@pytest.fixture
def mortal(upstream):
    """A server of the test's own on a disk, to be killed."""
    server = Server(store="disk", upstreams={"up": upstream.url})
    yield server
    server.stop()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def shared_client(server):
    with openai.OpenAI(base_url=server.base_url, api_key="none", timeout=30) as client:
        yield client


@pytest.fixture
def client(shared_client):
    """With the SDK's own settings: two retries."""
    return shared_client


@pytest.fixture
async def aclient(server):
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none", timeout=30) as client:
        yield client


@pytest.fixture
def name():
    """A word of the test's own, by which what it said is found again."""
    return secrets.token_hex(5)
