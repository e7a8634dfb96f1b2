"""A file that changes is read again, beside the event loop; what cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from router.followed_files import POLL_S, SETTLE_S, FollowedFiles
from tests.fakes.configmap_mount import Mount


def _number(path: str) -> int:
    return int(Path(path).read_text())


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def followed_number(
    path: Path, use: Callable[[int], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> FollowedFiles[int]:
    return FollowedFiles([str(path)], partial(_number, str(path)), use, sleep)


async def _at_once(seconds: float) -> None:
    """Takes the place of a pause."""


def test_a_revocation_is_in_force_within_half_a_second() -> None:
    assert POLL_S + SETTLE_S < 0.5


def test_the_file_is_used_at_once_and_when_it_changes(path: Path) -> None:
    used: list[int] = []
    followed = followed_number(path, used.append, _at_once)
    assert used == [1]
    asyncio.run(followed.look())
    assert used == [1]
    _replace(path, "2")
    asyncio.run(followed.look())
    asyncio.run(followed.look())
    assert used == [1, 2]


def test_what_cannot_be_used_at_the_start_is_an_error(path: Path) -> None:
    path.write_text("x")
    with pytest.raises(ValueError, match="'x'"):
        followed_number(path, lambda number: None)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        followed_number(path, lambda number: None)


def test_what_cannot_be_used_later_is_logged_once_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    used: list[int] = []
    followed = followed_number(path, used.append, _at_once)
    with caplog.at_level(logging.WARNING, "turnout.files"):
        _replace(path, "x")
        asyncio.run(followed.look())
        asyncio.run(followed.look())
        path.unlink()
        asyncio.run(followed.look())
        asyncio.run(followed.look())
    assert used == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    _replace(path, "3")
    asyncio.run(followed.look())
    assert used == [1, 3]


def test_a_defect_of_a_parser_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> str:
        return {"1": "one", "2": "two"}[path.read_text()]

    used: list[str] = []
    followed = FollowedFiles([str(path)], read, used.append, _at_once)
    for text in ("x", "2"):
        _replace(path, text)
        asyncio.run(followed.look())
    assert used == ["one", "two"]
    assert "KeyError: 'x'" in caplog.text


def test_a_file_that_is_still_written_is_read_later(path: Path) -> None:
    used: list[int] = []
    more = ["123"]

    async def written_on(seconds: float) -> None:
        assert seconds == SETTLE_S
        if more:
            _replace(path, more.pop())

    followed = followed_number(path, used.append, written_on)
    _replace(path, "12")
    asyncio.run(followed.look())
    assert used == [1]
    asyncio.run(followed.look())
    assert used == [1, 123]


def test_a_mounted_secret_is_followed(tmp_path: Path) -> None:
    used: list[int] = []
    mount = Mount(tmp_path, {"number": "1"})
    followed = followed_number(tmp_path / "number", used.append, _at_once)
    mount.swap({"number": "20"})
    asyncio.run(followed.look())
    assert used == [1, 20]


def test_it_looks_again_and_again(path: Path) -> None:
    used: list[int] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            _replace(path, "2")
        elif len(slept) == 5:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(followed_number(path, used.append, sleep).run())
    assert used == [1, 2]
    assert slept == [POLL_S, SETTLE_S, POLL_S, POLL_S, POLL_S]


def test_a_file_is_read_once_more_where_that_is_asked_for(path: Path) -> None:
    used: list[int] = []
    followed = followed_number(path, used.append, _at_once)
    followed.again()
    asyncio.run(followed.look())
    asyncio.run(followed.look())
    assert used == [1, 1]
