"""Files that are replaced while the gateway runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from statesync.engines.access import HEADER_VALUE
from statesync.engines.file_stamp import MAX_BYTES, FollowedText, stamp_of


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_the_stamp_changes_with_the_file_and_follows_links(tmp_path: Path) -> None:
    file, link = tmp_path / "a", tmp_path / "link"
    assert stamp_of(str(file)) == (0, 0, 0, 0)
    file.write_text("one")
    link.symlink_to(file)
    before = stamp_of(str(link))
    assert before == stamp_of(str(file)) != (0, 0, 0, 0)
    _replace(file, "two")
    assert stamp_of(str(link)) != before


def test_the_stamp_changes_with_who_may_read_the_file_and_where_its_time_is_put_back(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    before = stamp_of(str(file))
    time.sleep(0.02)  # longer than the steps of the file system's clock
    file.chmod(0o600)
    readable = stamp_of(str(file))
    assert readable != before
    time.sleep(0.02)
    file.write_text("two")
    os.utime(file, ns=(before[0], before[0]))
    assert stamp_of(str(file)) not in (before, readable)


def test_the_text_is_the_file_s_and_the_last_good_one_while_it_is_away(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" sk-1\n")
    followed = FollowedText(str(file), HEADER_VALUE)
    assert followed.text() == "sk-1"
    _replace(file, "sk-2\n")
    assert followed.text() == "sk-2"
    os.unlink(file)
    assert followed.text() == "sk-2"
    file.write_text("")
    assert followed.text() == "sk-2"
    _replace(file, "sk-3")
    assert followed.text() == "sk-3"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"a\nb", b"x" * (MAX_BYTES + 1)])
def test_a_file_without_text_is_an_error_at_the_start(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        FollowedText(str(file), HEADER_VALUE)


@pytest.mark.parametrize("content", [b"sk\r\nx-other: 1", "sk-\u4e2d".encode(), b"\xff\xfe"])
def test_a_new_text_that_cannot_be_used_leaves_the_old_one_and_is_logged_once(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1")
    followed = FollowedText(str(file), HEADER_VALUE)
    file.write_bytes(content)
    assert followed.text() == followed.text() == "sk-1"
    assert [record.name for record in caplog.records] == ["turnout.files"]
    assert str(file) in caplog.text and "sk" not in caplog.records[0].getMessage().replace(str(file), "")
