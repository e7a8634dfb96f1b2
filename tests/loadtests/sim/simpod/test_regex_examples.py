import re

import pytest

from loadtests.sim.simpod.regex_examples import NoMatch, matching


@pytest.mark.parametrize(
    "pattern",
    [
        r"(foo|bar)\d+",
        r"\s",
        r"a{2,}",
        r"^$",
        r".*",
        r"[^\W\d]+",
        r"(?i:abc)x?",
        r"\$\d",
        r"[^a]b",
        r"(?:a|b(?P<name>c)){2}",
        r"\D\S\w\W",
        r"x{0}",
        r"[é]",
    ],
)
def test_the_string_matches_the_pattern(pattern: str) -> None:
    for seed in range(30):
        assert re.fullmatch(pattern, matching(pattern, seed)), (pattern, seed)


def test_a_repeat_is_as_long_as_the_string_has_to_be() -> None:
    assert len(matching("a+", least=12)) == 12


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", r"[^\x20-\x7e]", "((a{350}){350}){350}", "a{1000000}"])
def test_what_it_does_not_understand_is_refused(pattern: str) -> None:
    with pytest.raises(NoMatch):
        matching(pattern)
