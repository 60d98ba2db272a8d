"""A real model behind the server: SmolLM2-135M on llama.cpp, which scripts/sdk-openai-test starts."""

import json
import os
import time
import urllib.request

import openai
import pytest

from harness import judge
from harness.server import Server

URL = os.environ.get("STEERAGE_REAL_MODEL_URL")

pytestmark = pytest.mark.skipif(not URL, reason="no real model: STEERAGE_REAL_MODEL_URL is not set")


@pytest.fixture(scope="module")
def model():
    with urllib.request.urlopen(f"{URL}/models") as answer:
        return f"local/{json.load(answer)['data'][0]['id']}"


@pytest.fixture(scope="module")
def real():
    server = Server(upstreams={"local": URL})
    with openai.OpenAI(base_url=server.base_url, api_key="none", timeout=60) as client:
        yield client
    server.stop()


def busy():
    with urllib.request.urlopen(f"{URL.removesuffix('/v1')}/slots") as answer:
        return any(slot["is_processing"] for slot in json.load(answer))


def test_a_real_model_streams_resumes_and_stops(real, model):
    assert model in [each.id for each in real.models.list()]
    # A chat, with its usage.
    told = judge.chunks(real.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], temperature=0, max_completion_tokens=30,
        stream=True, stream_options={"include_usage": True}), include_usage=True)
    assert told["text"] and told["usage"]["completion_tokens"] > 3
    # A response that is dropped and found again, four times.
    long = {"model": model, "temperature": 0, "max_output_tokens": 120, "extra_body": {"ignore_eos": True}}
    stream = real.responses.create(input="Tell me everything about lighthouses.", background=True, stream=True, **long)
    seen = []
    for turn in range(1, 5):
        for event in stream:
            seen.append(event)
            if len(seen) >= 25 * turn:
                break
        stream.close()
        stream = real.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    seen += stream
    fold = judge.events(seen)
    assert fold.end["status"] == "incomplete" and fold.end["incomplete_details"]["reason"] == "max_output_tokens"
    assert fold.end["usage"]["output_tokens"] >= 100
    # A cancel, which the model feels.
    response = real.responses.create(
        input="Write a very long story about the sea.", background=True, **{**long, "max_output_tokens": 2000})
    while len(real.responses.retrieve(response.id).output_text) < 60:
        time.sleep(0.02)
    assert busy()
    cancelled = real.responses.cancel(response.id)
    end = time.monotonic() + 5
    while busy():
        assert time.monotonic() < end, "the model goes on after a cancel"
        time.sleep(0.01)
    assert cancelled.status == "cancelled" and len(cancelled.output_text) >= 60
    # A chain.
    after = real.responses.create(
        model=model, input="And now one word.", previous_response_id=fold.id, temperature=0, max_output_tokens=8)
    judge.response(after)
    assert after.output_text
