"""Loading policies from a file's bytes, and the messages for files without any."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator

import pytest

from router.plugins.loading import PluginError, digest_of, load, unload
from tests.fakes.plugin_files import GOOD, RIGHT, picks

NAME = "plugin_of_a_test"


@pytest.fixture(autouse=True)
def _no_module_left() -> Iterator[None]:
    yield
    unload(NAME)


def test_a_file_is_identified_by_its_content() -> None:
    assert digest_of(b"x") == hashlib.sha256(b"x").hexdigest()[:8]
    assert digest_of(b"x") != digest_of(b"x\n")


def test_the_policies_of_a_file_are_registered_under_their_names() -> None:
    loaded = load(GOOD.encode(), "/plugins/freest.py", NAME)
    assert list(loaded.policies) == ["freest_kv"]
    assert loaded.policies["freest_kv"]().name == "freest_kv"
    assert sys.modules[NAME] is loaded.module


def test_a_file_may_have_two_policies() -> None:
    both = GOOD + picks(RIGHT)
    assert set(load(both.encode(), "f.py", NAME).policies) == {"freest_kv", "mine"}


def test_imported_policies_do_not_belong_to_the_file() -> None:
    source = picks(RIGHT, "from schedulers.policies.random import Random\n")
    assert list(load(source.encode(), "f.py", NAME).policies) == ["mine"]


def test_one_name_for_two_policies_is_refused() -> None:
    with pytest.raises(PluginError, match="two of its policies are named 'freest_kv'"):
        load((GOOD + GOOD.replace("class FreestKv", "class Other")).encode(), "f.py", NAME)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"x = \n", "line 1: invalid syntax"),
        (b"\xff", "line 1: .*codec can't decode|line 1: .*encoding"),
        (b"x\0y", "null bytes"),
        (b"", "there is no policy in it"),
        (
            b"class P:\n    def pick(self): pass\n",
            "P is no policy: it needs to be a frozen dataclass, a class attribute",
        ),
        (b"\n\nraise ValueError('why')\n", r"loading it raised ValueError: why \(line 3\)"),
        (b"import sys\nsys.exit(4)\n", r"loading it raised SystemExit: 4 \(line 2\)"),
    ],
)
def test_an_invalid_plugin_is_refused_with_reason_and_line_and_leaves_no_module(source: bytes, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        load(source, "f.py", NAME)
    assert NAME not in sys.modules


def test_a_policy_outlives_its_module() -> None:
    policy = load(GOOD.encode(), "f.py", NAME).policies["freest_kv"]()
    unload(NAME)
    unload(NAME)
    assert policy.name == "freest_kv"
    with pytest.raises(Exception, match="limit"):
        type(policy)(limit=7.0)  # type: ignore[call-arg]
