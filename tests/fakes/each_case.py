"""One test over many cases, where a test for each would cost more than the cases themselves.

`@each_case` takes the place of `@pytest.mark.parametrize`. All cases are run, and the failure names those that failed.
It is for cases that leave nothing behind: fixtures are set up once for all of them, and no case may be skipped.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

import pytest

Test = Callable[..., None]
Name = Callable[[Any], object]

_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def each_case(
    arguments: str | Sequence[str], values: Iterable[Any], *, ids: Iterable[object] | Name | None = None
) -> Callable[[Test], Test]:
    """Call the test with each value, as `parametrize` would; several of these mean every combination."""
    names = [each.strip() for each in arguments.split(",")] if isinstance(arguments, str) else list(arguments)
    rows = [(value,) if len(names) == 1 else tuple(value) for value in values]
    cases = [dict(zip(names, row, strict=True)) for row in rows]
    given = None if ids is None or callable(ids) else list(ids)
    name_of = ids if callable(ids) else _shown

    def title(at: int) -> str:
        if given is not None:
            return str(given[at])
        return "-".join(str(name_of(value) or _shown(value)) for value in rows[at])

    def decorate(test: Test) -> Test:
        @wraps(test)
        def run(**fixtures: object) -> None:
            _run(test, cases, title, fixtures)

        del run.__wrapped__
        whole = inspect.signature(test)
        fixtures = [each for name, each in whole.parameters.items() if name not in names]
        run.__signature__ = whole.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return run

    return decorate


def _shown(value: object) -> str:
    return value[:80] if isinstance(value, str) else getattr(value, "__name__", None) or _short.repr(value)


def _run(
    test: Test, cases: Sequence[Mapping[str, object]], title: Callable[[int], str], fixtures: Mapping[str, object]
) -> None:
    assert cases, "there is no case"
    failed: list[str] = []
    errors: list[BaseException] = []
    for at, arguments in enumerate(cases):
        try:
            test(**arguments, **fixtures)
        except (Exception, pytest.fail.Exception, BaseExceptionGroup) as error:  # noqa: BLE001  reported below
            failed.append(title(at))
            errors.append(error)
            error.add_note(f"This was the case: {title(at)}")
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(cases)} cases failed: {' | '.join(failed)}", errors)
