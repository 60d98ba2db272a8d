"""Models are listed and found."""

import openai
import pytest
from openai.types import Model

from harness.judge import is_of


def test_models_are_listed(client):
    models = {model.id: is_of(Model, model) for model in client.models.list()}
    assert {"demo/assistant", "demo/echo", "up/x"} <= models.keys()
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in models.values())


def test_a_model_is_retrieved_under_its_whole_name(client):
    model = client.models.retrieve("up/x")
    assert is_of(Model, model)["id"] == "up/x" and model.owned_by


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("up/nobody")
    assert caught.value.code == "model_not_found" and "up/nobody" in caught.value.message


async def test_models_are_listed_asynchronously(aclient):
    assert "up/x" in [model.id async for model in aclient.models.list()]
