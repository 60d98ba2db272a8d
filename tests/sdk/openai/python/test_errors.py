"""What goes wrong is raised as the exception that the SDK has for it, and never makes the SDK generate twice."""

import time

import openai
import pytest

from harness import judge
from harness.server import of, text_of

FEW = "These words come at once and then nothing more "


def chat(client, text, **more):
    return client.chat.completions.create(model="up/x", messages=[{"role": "user", "content": text}], **more)


def respond(client, text, **more):
    return client.responses.create(model="up/x", input=text, **more)


def refusal(call, kind=openai.BadRequestError):
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert error.request_id and error.request_id == error.response.headers["x-request-id"]
    assert error.body["message"] and error.type
    return error


MISTAKES = [
    ("chat/completions", {}, "missing_required_parameter", "messages"),
    ("chat/completions", {"messages": []}, None, "messages"),
    ("chat/completions", {"messages": "hello"}, "invalid_type", "messages"),
    ("chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role"),
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {
        "type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]}]}, "unsupported_value", "messages[0].content[1]"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 2}, None, "n"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}, "invalid_type", "temperature"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "temperature": 99}, None, "temperature"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "logprobs": True}, None, "logprobs"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "functions": []}, None, "functions"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "custom"}]}, None, "tools[0].type"),
    ("responses", {"input": 7}, "invalid_type", "input"),
    ("responses", {"input": [{"type": "no_such_item"}]}, None, "input[0]"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/x"}]}]},
     "unsupported_value", "input[0].content[0]"),
    ("responses", {"input": "x", "tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0]"),
    ("responses", {"input": "x", "max_output_tokens": -1}, None, "max_output_tokens"),
    ("responses", {"input": "x", "prompt": {"id": "pmpt_1"}}, None, "prompt"),
    ("responses", {"input": "x", "top_logprobs": 3}, None, "top_logprobs"),
    ("responses", {"input": "x", "metadata": "me"}, "invalid_type", "metadata"),
]


@pytest.mark.parametrize("door, body, code, param", MISTAKES)
def test_a_mistake_is_named(client, door, body, code, param):
    error = refusal(lambda: client.post(f"/{door}", body={"model": "up/x", **body}, cast_to=object))
    assert error.type == "invalid_request_error"
    assert error.param and error.param.startswith(param), error.body
    assert code in (None, error.code), error.body
    assert param.split("[")[0] in error.message


@pytest.mark.parametrize("door", ["chat/completions", "responses"])
def test_what_is_no_json_is_refused(server, door):
    import json
    import urllib.error
    import urllib.request

    for body in (b"{", b"", b"[]", b"\xff", b'{"a":' * 200):
        request = urllib.request.Request(
            f"{server.base_url}/{door}", data=body, headers={"content-type": "application/json"}, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 400
        error = json.loads(caught.value.read())["error"]
        assert {"message", "type", "param", "code"} <= error.keys() and error["type"] == "invalid_request_error"


@pytest.mark.parametrize("ask", [chat, respond])
def test_an_unknown_model(client, ask):
    create = client.chat.completions.create if ask is chat else client.responses.create
    more = {"messages": [{"role": "user", "content": "x"}]} if ask is chat else {"input": "x"}
    error = refusal(lambda: create(model="nobody/nothing", **more), openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model") and "nobody/nothing" in error.message


def test_what_is_not_there(client):
    for call in (
        lambda: client.responses.retrieve("resp_nobody_aaaaaa_1"),
        lambda: client.responses.retrieve("resp_nobody_aaaaaa_1", stream=True),
        lambda: client.responses.retrieve("nonsense"),
        lambda: client.responses.cancel("resp_nobody_aaaaaa_1"),
        lambda: client.responses.delete("resp_nobody_aaaaaa_1"),
        lambda: client.responses.input_items.list("resp_nobody_aaaaaa_1"),
        lambda: client.chat.completions.retrieve("chatcmpl-nobody"),
        lambda: client.get("/nothing/of/the/kind", cast_to=object),
        lambda: client.embeddings.create(model="up/x", input="x"),
    ):
        refusal(call, openai.NotFoundError)


def attempts(server, error):
    """How often the server itself has asked the model, in the session that failed."""
    return len(of(server.log(error.response.headers["steerage-session"]), "step.started"))


@pytest.mark.parametrize("ask", [chat, respond])
@pytest.mark.parametrize("status, kind", [
    (429, openai.RateLimitError), (503, openai.RateLimitError), (500, openai.InternalServerError)])
def test_an_upstream_that_fails_before_the_first_token(client, server, upstream, name, ask, status, kind):
    """The server tries again by itself, and tells the SDK not to."""
    said = f"status {status} {name}"
    error = refusal(lambda: ask(client, said), kind)
    assert f"says no to {name}" in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.about(said)) == attempts(server, error) <= 4


@pytest.mark.parametrize("ask", [chat, respond])
def test_an_upstream_that_refuses_the_request(client, server, upstream, name, ask):
    said = f"status 400 {name}"
    # It may be about the server's own key or model as well, so it is no mistake of the client's; nor is it tried again.
    error = refusal(lambda: ask(client, said), openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_rejected") and f"says no to {name}" in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.about(said)) == 1


@pytest.mark.parametrize("ask", [chat, respond])
def test_an_upstream_that_fails_once(client, upstream, name, ask):
    said = f"once 503 {ask.__name__} {name}"
    answer = ask(client, said)
    text = answer.choices[0].message.content if ask is chat else answer.output_text
    assert text == f"You said {said}." and len(upstream.about(said)) == 2


@pytest.mark.parametrize("verb", ["midfail", "break"])
def test_a_chat_stream_that_fails_in_the_middle(client, upstream, name, verb):
    seen = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in chat(client, f"{verb} {name}", stream=True):
            seen += chunk.choices[0].delta.content or ""
            assert chunk.choices[0].finish_reason is None
    assert seen == FEW and type(caught.value) is openai.APIError
    assert caught.value.type == "server_error" and caught.value.code
    if verb == "midfail":
        assert "the model fell over" in caught.value.message
    assert len(upstream.about(name)) == 1


def test_a_chat_stream_that_fails_at_once(client, server, upstream, name):
    said = f"status 429 {name}"
    with pytest.raises(openai.APIError) as caught:
        list(chat(client, said, stream=True))
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "upstream_overloaded")
    assert f"says no to {name}" in caught.value.message
    assert len(upstream.about(said)) <= 4


@pytest.mark.parametrize("verb", ["midfail", "break"])
def test_a_response_stream_that_fails_in_the_middle(client, upstream, name, verb):
    events = list(respond(client, f"{verb} {name}", stream=True))
    fold = judge.events(events)
    assert events[-1].type == "response.failed"
    assert (fold.end["status"], fold.end["error"]["code"], fold.text) == ("failed", "server_error", FEW)
    if verb == "midfail":
        assert "the model fell over" in fold.end["error"]["message"]
    assert client.responses.retrieve(fold.id).to_dict(mode="json") == fold.end
    assert len(upstream.about(name)) == 1


def test_a_response_stream_that_fails_at_once(client, name):
    fold = judge.events(respond(client, f"status 429 {name}", stream=True))
    assert (fold.end["status"], fold.end["error"]["code"]) == ("failed", "rate_limit_exceeded")
    fold = judge.events(respond(client, f"status 400 {name}", stream=True))
    assert (fold.end["status"], fold.end["error"]["code"]) == ("failed", "server_error")


def test_a_background_response_that_fails(client, name):
    response = respond(client, f"midfail {name}", background=True)
    while response.status in ("queued", "in_progress"):
        time.sleep(0.02)
        response = client.responses.retrieve(response.id)
    judge.response(response)
    assert response.status == "failed" and response.output_text == FEW
    # It can be gone on from.
    after = respond(client, f"go on {name}", previous_response_id=response.id)
    assert after.output_text == f"You said go on {name}."


@pytest.mark.parametrize("ask", [chat, respond])
def test_a_whole_answer_that_fails_in_the_middle(client, server, upstream, name, ask):
    """It is not taken for an answer, and not asked for again."""
    error = refusal(lambda: ask(client, f"midfail {name}"), openai.InternalServerError)
    assert "the model fell over" in error.message and error.response.headers["x-should-retry"] == "false"
    assert len(upstream.about(name)) == 1
    assert text_of(server.log(error.response.headers["steerage-session"])) == FEW


@pytest.mark.parametrize("ask", [chat, respond])
def test_an_idempotency_key_makes_it_one(client, upstream, name, ask):
    key = {"Idempotency-Key": f"key-{name}"}
    first, second = ask(client, f"hello {name}", extra_headers=key), ask(client, f"hello {name}", extra_headers=key)
    assert first.id == second.id and len(upstream.about(name)) == 1


@pytest.mark.parametrize("ask", [chat, respond])
def test_a_lost_answer_is_asked_for_again_with_a_key(server, proxy, upstream, name, ask):
    """The connection breaks before the head: the SDK sends the same request again, and it is the same run."""
    with openai.OpenAI(base_url=proxy.url, api_key="none", timeout=20) as far:
        proxy.limit(9)
        answer = ask(far, f"hello {name}", extra_headers={"Idempotency-Key": f"key-{name}"})
    text = answer.choices[0].message.content if ask is chat else answer.output_text
    assert text == f"You said hello {name}." and len(upstream.about(name)) == 1


@pytest.mark.parametrize("ask", [chat, respond])
def test_a_lost_stream_is_had_again_with_a_key(client, upstream, name, ask):
    key = {"Idempotency-Key": f"key-{name}"}
    stream = ask(client, f"slow 20 {name}", stream=True, extra_headers=key)
    seen = [next(stream) for _ in range(6)]
    stream.close()
    again = list(ask(client, f"slow 20 {name}", stream=True, extra_headers=key))
    assert [each.to_dict() for each in again[:6]] == [each.to_dict() for each in seen]
    assert len(upstream.about(name)) == 1


def test_a_key_holds_when_the_conversation_has_gone_on(client, upstream, name):
    session = f"c-{name}"
    key = {"Idempotency-Key": f"key-{name}"}
    first = respond(client, f"hello {name}", conversation=session, extra_headers=key)
    respond(client, f"and then {name}", conversation=session)
    again = respond(client, f"hello {name}", conversation=session, extra_headers=key)
    assert again.id == first.id and len(upstream.about(f"hello {name}")) == 1


def test_a_key_is_for_one_request(client, name):
    key = {"Idempotency-Key": f"key-{name}"}
    respond(client, f"hello {name}", extra_headers=key)
    refusal(lambda: respond(client, f"something else {name}", extra_headers=key))


def test_the_sdk_gives_up_and_the_run_goes_on(server, upstream, name):
    """A time-out of the client is its own: what it had begun is neither lost nor begun again when it does not ask."""
    with openai.OpenAI(base_url=server.base_url, api_key="none", timeout=0.3, max_retries=0) as hasty:
        with pytest.raises(openai.APITimeoutError):
            respond(hasty, f"slow 60 {name}")
    [asked] = upstream.about(name)
    end = time.monotonic() + 5
    while not asked.ended and time.monotonic() < end:
        time.sleep(0.02)
    assert asked.ended and not asked.closed.is_set()
