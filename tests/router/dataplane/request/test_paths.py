"""Which paths go to pods, and which spellings of an engine's management paths are found out."""

from __future__ import annotations

import pytest

from router.dataplane.request.paths import ANY_POST, ForwardedPaths, is_management, without_slash
from tests.fakes.each_case import each_case


@each_case(
    ("method", "path", "forward", "taken"),
    [
        (b"POST", b"/v1/chat/completions", (), True),
        (b"GET", b"/v1/chat/completions", (ANY_POST,), False),
        (b"POST", b"/tokenize", (), True),
        (b"POST", b"/v1/new", (ANY_POST,), True),
        (b"POST", b"/v1/new", (), False),
        (b"DELETE", b"/v1/new", (ANY_POST,), False),
        (b"DELETE", b"/v1/new", (ANY_POST, "/v1/new"), True),
        (b"GET", b"/get_model_info", ("/get_model_info",), True),
        (b"GET", b"/api/tags", ("/api/*",), True),
        (b"TRACE", b"/api/tags", ("/api/*",), False),
        (b"POST", b"/generate", (ANY_POST,), False),
        (b"POST", b"/generate/x", ("/generate",), False),
        (b"POST", b"/v1/load_lora_adapter", (ANY_POST,), False),
        (b"POST", b"/sleep", ("/*",), False),
        (b"POST", b"/sleep", ("/*", "/sleep"), True),
    ],
)
def test_the_setting_says_what_is_forwarded(method: bytes, path: bytes, forward: tuple[str, ...], taken: bool) -> None:
    """Case D 19 and D 20."""
    assert ForwardedPaths(forward).takes(method, path) is taken


@each_case(
    "path",
    [
        b"/v1/load_lora_adapter",
        b"/load_lora_adapter",
        b"/v1/load_lora_adapter/",
        b"/v1//load_lora_adapter",
        b"/v1\\load_lora_adapter",
        b"/V1/Load_LoRA_Adapter",
        b"/v1/load%5Flora_adapter",
        b"/v1/load%255flora_adapter",
        b"/v1%2fload_lora_adapter",
        b"/v1/load_lora_adapter;x=1",
        b"/v1;x/load_lora_adapter",
        b"/api/blobs/sha256:1",
        b"//sleep",
    ],
)
def test_a_management_path_is_one_in_every_spelling(path: bytes) -> None:
    """Case D 19."""
    assert is_management(path)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/sleeping", b"/v1/responses/sleep", b"/v1/models/m"])
def test_other_paths_are_none(path: bytes) -> None:
    assert not is_management(path)


@pytest.mark.parametrize(
    ("path", "served"),
    [
        (b"/v1/completions/", b"/v1/completions"),
        (b"/rerank//", b"/rerank"),
        (b"/own/", b"/own"),
        (b"/v1/else/", b"/v1/else/"),
        (b"/", b"/"),
    ],
)
def test_slashes_at_the_end_of_a_known_path_are_left_out(path: bytes, served: bytes) -> None:
    """Case D 13."""
    assert without_slash(path, {b"/own"}) == served
