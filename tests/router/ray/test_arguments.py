from __future__ import annotations

import pytest

from router.config.file import ConfigError
from router.ray.arguments import read_arguments, settings_of


def test_policy_shadow_and_canary_are_read() -> None:
    arguments = read_arguments(
        {
            "policy": "session_affinity",
            "params": {"balance_factor": 2},
            "shadow": {"name": "p2c"},
            "canary": {"name": "prefix_aware", "percent": 10},
        }
    )
    assert arguments.wanted_shadow is not None
    assert arguments.wanted_canary is not None
    assert (arguments.wanted_shadow.name, arguments.wanted_canary.percent) == ("p2c", 10.0)
    settings = settings_of(arguments, "Engine")
    assert settings.default_pool == settings.pools[0].name == "Engine"
    assert settings.pools[0].policy.params == {"balance_factor": 2}


def test_the_rest_of_the_file_may_be_given_too() -> None:
    given = {"pool": "llm", "settings": {"prefix": {"default_kv_tokens": 9}, "policies": {"mine": {"name": "p2c"}}}}
    settings = settings_of(read_arguments({**given, "policy": "mine"}), "Engine")
    assert (settings.pools[0].name, settings.prefix.default_kv_tokens) == ("llm", 9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"polcy": "p2c"}, "unknown argument 'polcy'; there are policy, params, shadow"),
        ({"params": 3}, r"Expected `object`, got `int` - at `\$.params`"),
        ({"canary": {"name": "p2c", "percent": 101}}, "canary.percent: must be from 0 to 100, not 101"),
        ({"shadow": {"nam": "p2c"}}, "unknown field `nam`"),
    ],
)
def test_a_wrong_argument_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_arguments(given)


def test_wrong_settings_are_explained_as_those_of_the_file() -> None:
    arguments = read_arguments({"policy": "p3c", "settings": {"prefx": {}}})
    with pytest.raises(ConfigError, match=r"request_router_kwargs.*prefx: unknown key; did you mean 'prefix'"):
        settings_of(arguments, "Engine")
