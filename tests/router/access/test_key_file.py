"""The file of keys is replaced whole, by one writer at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from router.access.key_file import change_file


def test_a_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    change_file(str(path), lambda before: before + b"one")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["keys.yaml"]


def test_a_file_keeps_what_its_group_may_and_loses_what_all_may(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_bytes(b"one")
    path.chmod(0o644)
    change_file(str(path), lambda before: before + b"two")
    assert path.read_bytes() == b"onetwo"
    assert path.stat().st_mode & 0o777 == 0o640


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_bytes(b"one")
    with open(path, "rb") as reader:
        change_file(str(path), lambda before: path.read_bytes() + b"two")
        assert reader.read() == b"one"
    assert path.read_bytes() == b"onetwo"


def test_a_change_that_fails_leaves_the_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_bytes(b"one")

    def fail(before: bytes) -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        change_file(str(path), fail)
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["keys.yaml"]
    change_file(str(path), lambda before: b"two")  # the lock was given back
    assert path.read_bytes() == b"two"


def test_of_a_link_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "keys.yaml", tmp_path / "link"
    path.write_bytes(b"one")
    link.symlink_to(path)
    change_file(str(link), lambda before: b"two")
    assert link.is_symlink()
    assert path.read_bytes() == b"two"


def test_writers_that_wait_for_each_other_lose_no_change(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.touch()
    writers = [threading.Thread(target=change_file, args=(str(path), lambda before: before + b"x")) for _ in range(8)]
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for each in writers:
        each.start()
    os.close(descriptor)
    for each in writers:
        each.join(60)
    assert path.read_bytes() == b"x" * 8
    assert os.listdir(tmp_path) == ["keys.yaml"]
