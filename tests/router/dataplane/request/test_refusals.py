"""A 404 about the model, and one about anything else."""

from __future__ import annotations

import json

from router.dataplane.request.refusals import lacks_model
from tests.fakes.each_case import each_case

VLLM = {"message": "The model `lora` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
OLLAMA = {"message": "model 'lora' not found", "type": "not_found_error", "param": None, "code": None}
ABOUT_THE_MODEL = {
    "vllm": {"error": VLLM},
    "vllm without param": {"error": VLLM | {"param": None}},
    "vllm, before it nested errors": {"object": "error", **VLLM},
    "vllm on /v1/messages": {
        "type": "error",
        "error": {"type": "NotFoundError", "message": "The model `lora` does not exist."},
    },
    "openai": {"error": {"message": "No such thing", "type": "invalid_request_error", "code": "model_not_found"}},
    "anthropic": {"type": "error", "error": {"type": "not_found_error", "message": "model: lora not found"}},
    "ollama": {"error": OLLAMA},
    "ollama's own": {"error": "model 'lora' not found"},
}
ABOUT_ANYTHING_ELSE = {
    "fastapi": {"detail": "Not Found"},
    "a response": {"error": {"message": "Response with id 'resp_lora' not found.", "param": "response_id"}},
    "a response, by an id that a client chose": {"error": {"message": "Response with id 'the model lora' not found."}},
    "another model": {"error": {"message": "The model `other` for lora does not exist."}},
    "another word of the model": {"error": {"message": "The model `lora` cannot be used.", "param": "model"}},
    "no message": {"error": {"code": 404}},
    "a list": {"error": [1]},
    "numbers": {"error": {"message": 5, "param": "model"}},
}


@each_case("named", ABOUT_THE_MODEL)
def test_case_a_2_engines_say_in_their_own_words_that_they_lack_the_model(named: str) -> None:
    assert lacks_model(json.dumps(ABOUT_THE_MODEL[named]).encode(), "lora")


@each_case("named", ABOUT_ANYTHING_ELSE)
def test_another_404_is_none_of_these(named: str) -> None:
    assert not lacks_model(json.dumps(ABOUT_ANYTHING_ELSE[named]).encode(), "lora")


@each_case("body", [b"", b"Not Found", b"[]", b"\xff", b"[" * 100_000, b'{"error":' * 10_000])
def test_what_is_no_json_is_none_either(body: bytes) -> None:
    assert not lacks_model(body, "lora")
