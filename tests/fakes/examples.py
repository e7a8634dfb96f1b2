"""How many examples hypothesis draws for a property: all in `make test`, a quarter of them in `make unit`."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> settings:
    """The settings of a property that needs `count` examples; in proportion where a profile draws other than 100."""
    return settings(max_examples=max(1, count * settings().max_examples // 100))
