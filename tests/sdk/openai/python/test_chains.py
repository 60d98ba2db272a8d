"""previous_response_id: chains, branches, and our own items as input."""

import openai
import pytest

from harness import judge
from harness.server import of


def create(client, text, **more):
    response = client.responses.create(model="up/x", input=text, **more)
    judge.response(response)
    return response


def told(upstream, text):
    """What the model was told when the user said this last."""
    [asked] = upstream.about(text)
    return [(message["role"], message["content"]) for message in asked.messages]


def test_a_chain(client, upstream, name):
    response = create(client, f"one {name}")
    for word in ("two", "three"):
        before, response = response, create(client, f"{word} {name}", previous_response_id=response.id)
        assert response.previous_response_id == before.id
    assert told(upstream, f"three {name}") == [
        ("user", f"one {name}"), ("assistant", f"You said one {name}."),
        ("user", f"two {name}"), ("assistant", f"You said two {name}."),
        ("user", f"three {name}"),
    ]


def test_branches_know_nothing_of_each_other(client, upstream, name):
    root = create(client, f"root {name}")
    left = create(client, f"left {name}", previous_response_id=root.id)
    right = create(client, f"right {name}", previous_response_id=root.id)
    create(client, f"leftmost {name}", previous_response_id=left.id)
    create(client, f"rightmost {name}", previous_response_id=right.id)
    assert [text for _, text in told(upstream, f"leftmost {name}")][2] == f"left {name}"
    assert [text for _, text in told(upstream, f"rightmost {name}")][2] == f"right {name}"
    assert len(told(upstream, f"rightmost {name}")) == 5
    assert client.responses.retrieve(root.id).to_dict(mode="json") == root.to_dict(mode="json")


def test_a_chain_outlives_its_beginning(client, upstream, name):
    root = create(client, f"root {name}")
    second = create(client, f"second {name}", previous_response_id=root.id)
    client.responses.delete(root.id)
    create(client, f"third {name}", previous_response_id=second.id)
    assert [text for _, text in told(upstream, f"third {name}")][:2] == [f"root {name}", f"You said root {name}."]
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, f"other {name}", previous_response_id=root.id)
    assert caught.value.code == "previous_response_not_found"


def test_instructions_are_not_inherited(client, upstream, name):
    root = create(client, f"root {name}", instructions="Be brief.")
    create(client, f"second {name}", previous_response_id=root.id, instructions="Be long.")
    create(client, f"third {name}", previous_response_id=root.id)
    assert told(upstream, f"root {name}")[0] == ("system", "Be brief.")
    assert [text for role, text in told(upstream, f"second {name}") if role == "system"] == ["Be long."]
    assert [role for role, _ in told(upstream, f"third {name}")] == ["user", "assistant", "user"]


def test_a_response_can_be_gone_on_from_when_its_end_is_seen(client, upstream, name):
    """No race between the event that ends a response and its use."""
    for n in range(5):
        stream = client.responses.create(model="up/x", input=f"quick {n} {name}", stream=True)
        for event in stream:
            if event.type == "response.created":
                assert client.responses.retrieve(event.response.id).id == event.response.id
            if event.type == "response.completed":
                create(client, f"after {n} {name}", previous_response_id=event.response.id)
                break
        stream.close()
        assert len(told(upstream, f"after {n} {name}")) == 3


def test_a_cancelled_answer_is_part_of_the_chain(client, upstream, name):
    stream = client.responses.create(model="up/x", input=f"hold {name}", stream=True)
    for event in stream:
        if event.type == "response.created":
            response_id = event.response.id
        if event.type == "response.output_text.delta" and event.delta.endswith("more "):
            break
    client.responses.cancel(response_id)
    create(client, f"go on {name}", previous_response_id=response_id)
    texts = [text for _, text in told(upstream, f"go on {name}")]
    assert texts[0] == f"hold {name}" and any("nothing more" in text for text in texts[1:-1])


def test_our_items_are_input(client, upstream, name):
    """Output items go back as they are: ids, status, annotations, nulls."""
    first = create(client, f"think {name}")
    history = [{"role": "user", "content": f"think {name}"}]
    history += [item.to_dict(mode="json") for item in first.output]
    history.append({"role": "user", "content": f"next {name}"})
    create(client, history)
    roles = told(upstream, f"next {name}")
    assert [text for _, text in roles] == [f"think {name}", f"I have thought about {name}.", f"next {name}"]


def test_our_items_are_input_as_the_sdk_has_them(client, upstream, name):
    """The documented loop: input += response.output."""
    history = [{"role": "user", "content": f"first {name}"}]
    for word in ("second", "third"):
        response = create(client, history)
        history += response.output
        history.append({"role": "user", "content": f"{word} {name}"})
    create(client, history)
    assert len(told(upstream, f"third {name}")) == 5


def test_input_items_of_a_chain(client, name):
    root = create(client, f"root {name}")
    second = create(client, f"second {name}", previous_response_id=root.id)
    items = list(client.responses.input_items.list(second.id, order="asc"))
    assert [(item.role, item.content[0].text) for item in items] == [
        ("user", f"root {name}"), ("assistant", f"You said root {name}."), ("user", f"second {name}")]


def test_an_item_is_referred_to(client, upstream, name):
    root = create(client, f"root {name}")
    reference = {"type": "item_reference", "id": root.output[0].id}
    create(client, [{"role": "user", "content": "a"}, reference, {"role": "user", "content": f"then {name}"}])
    assert [text for _, text in told(upstream, f"then {name}")] == ["a", f"You said root {name}.", f"then {name}"]


def test_an_unknown_predecessor_is_refused(client, upstream, name):
    for unknown in ("resp_nothing", "resp_nobody_aaaaaa_1", "not an id"):
        with pytest.raises(openai.BadRequestError) as caught:
            create(client, f"hello {name}", previous_response_id=unknown)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert upstream.about(name) == []


def test_a_predecessor_and_a_conversation_are_too_much(client, upstream, name):
    root = create(client, f"root {name}")
    with pytest.raises(openai.BadRequestError):
        create(client, f"hello {name}", previous_response_id=root.id, conversation=f"c-{name}")
    assert upstream.about(f"hello {name}") == []


def test_a_chain_of_a_conversation_is_a_branch(client, server, upstream, name):
    """A response of a conversation can be gone on from without the conversation."""
    session = f"c-{name}"
    first = create(client, f"one {name}", conversation=session)
    create(client, f"two {name}", conversation=session)
    create(client, f"aside {name}", previous_response_id=first.id)
    assert [text for _, text in told(upstream, f"aside {name}")] == [
        f"one {name}", f"You said one {name}.", f"aside {name}"]
    assert len(of(server.log(session), "run.started")) == 2
