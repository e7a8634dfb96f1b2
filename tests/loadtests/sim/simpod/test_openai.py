import base64
import struct

import msgspec
import pytest

from loadtests.sim.simpod.chat import chat
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.openai import detokenize, embedding, models, render, tokenize
from tests.loadtests.sim.simpod.written import HI, SPEC, whole


def test_embeddings_are_unit_vectors_and_equal_in_packed_form() -> None:
    body = {"input": ["a", "b"], "dimensions": 8}
    plain = whole(embedding(body, SPEC))["data"]
    packed = whole(embedding(body | {"encoding_format": "base64"}, SPEC))["data"]
    assert [row["index"] for row in plain] == [0, 1]
    for one, other in zip(plain, packed, strict=True):
        assert sum(x * x for x in one["embedding"]) == pytest.approx(1.0)
        unpacked = struct.unpack("<8f", base64.b64decode(other["embedding"]))
        assert unpacked == pytest.approx(one["embedding"], abs=1e-6)


@pytest.mark.parametrize(
    "body", [{"input": ""}, {"input": []}, {"input": "a" * 40000}, {"input": "a", "dimensions": 0}]
)
def test_what_cannot_be_embedded_is_a_400(body: dict[str, object]) -> None:
    with pytest.raises(ApiError) as caught:
        embedding(body, SPEC)
    assert caught.value.status == 400


def test_tokenize_counts_as_usage_does() -> None:
    counted = msgspec.json.decode(tokenize({"messages": HI}, SPEC))
    usage = whole(chat({"messages": HI}, SPEC))["usage"]
    assert counted["count"] == len(counted["tokens"]) == usage["prompt_tokens"]


def test_a_rendered_chat_has_the_tokens_that_its_usage_counts() -> None:
    rendered = msgspec.json.decode(render({"messages": HI, "max_tokens": 7}, SPEC))
    assert rendered["token_ids"] == msgspec.json.decode(tokenize({"messages": HI}, SPEC))["tokens"]
    assert rendered["sampling_params"]["max_tokens"] == 7


@pytest.mark.parametrize("text", ["hello there", "a", "żółw 🐢 x"])
def test_tokens_become_the_text_again(text: str) -> None:
    """Case G 36: /detokenize."""
    tokens = msgspec.json.decode(tokenize({"prompt": text}, SPEC))["tokens"]
    assert msgspec.json.decode(detokenize({"tokens": tokens}, SPEC)) == {"prompt": text}


def test_models_are_listed_with_their_length() -> None:
    listed = msgspec.json.decode(models(SPEC))["data"]
    assert [(card["id"], card["max_model_len"]) for card in listed] == [("tiny", 8192), ("other", 8192)]
