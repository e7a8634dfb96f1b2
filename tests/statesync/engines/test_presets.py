"""The table of engines."""

from __future__ import annotations

from statesync.engines.presets import AUTO, AUTOMATIC, ENGINES, PRESETS, engine_with, preset_of
from tests.fakes.each_case import each_case


def test_every_engine_has_a_row_and_the_rest_is_automatic() -> None:
    assert ENGINES[0] == AUTO
    assert {"vllm", "sglang", "trtllm", "lmdeploy", "tgi", "llamacpp", "ollama"} <= set(ENGINES)
    assert preset_of(AUTO) is AUTOMATIC
    assert preset_of("ollama") is PRESETS["ollama"]


@each_case("name", PRESETS)
def test_the_automatic_row_covers_every_engine(name: str) -> None:
    preset = PRESETS[name]
    assert set(preset.health) <= set(AUTOMATIC.health)
    assert preset.closed <= AUTOMATIC.closed
    assert {path for path in preset.metrics if path.startswith("/")} <= set(AUTOMATIC.metrics)
    assert all(path.startswith(("/", ":")) for path in (*preset.health, *preset.metrics))


def test_an_engine_is_named_by_a_health_path_of_its_own_only() -> None:
    assert engine_with("/api/version") == "ollama"
    assert engine_with("/v2/health/ready") == "triton"
    assert engine_with("/health") == ""
    assert engine_with("/v1/models") == ""


def test_what_loads_adapters_sleeps_or_empties_caches_is_closed() -> None:
    """Case D 19."""
    closing = ("load_lora_adapter", "sleep", "wake_up", "reset_prefix_cache", "flush_cache", "api/pull", "slots")
    assert {*closing, "terminate"} <= AUTOMATIC.closed
