"""A file of lines: limited in size, whole lines only, written by a thread that no caller waits for."""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from router.telemetry import line_file
from router.telemetry.line_file import LineWriter, append


def writer(path: Path, **how: bool) -> LineWriter[str]:
    return LineWriter(str(path), 10_000, lambda text: text.encode() + b"\n", "words", **how)


def test_only_the_owner_can_read_the_file_and_older_lines_are_rotated(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for number in range(10):
        append(path, [b"%09d\n" % number], max_bytes=40)
        assert path.with_name("r.jsonl.1").exists() == (number >= 1)
    assert path.with_name("r.jsonl.1").stat().st_mode & 0o777 == 0o600
    assert path.with_name("r.jsonl.1").read_text() == "000000008\n000000009\n"
    assert not path.exists()


def _append_many(path: Path, name: str) -> None:
    for number in range(50):
        append(path, [f"{name} {number}\n".encode()] * 4, max_bytes=10_000_000)


@pytest.mark.slow
def test_processes_that_share_a_file_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 400
    assert len(set(lines)) == 100


def test_a_file_rotated_by_another_process_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append(path, [b"one\n"], max_bytes=1000)
    path.rename(tmp_path / "elsewhere")
    append(path, [b"two\n"], max_bytes=1000)
    assert path.read_text() == "two\n"


ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from router.telemetry.line_file import append

resource.setrlimit(resource.RLIMIT_FSIZE, (15, 15))  # the kernel takes a part of the next line, as a full disk does
path = Path(sys.argv[1])
append(path, [b"a whole one\\n"], 10_000)
for _ in range(2):
    try:
        append(path, [b"another\\n"], 10_000)
    except OSError:
        print("refused")
"""


def test_a_disk_without_room_for_a_line_gets_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    done = subprocess.run([sys.executable, "-c", ON_A_FULL_DISK, path], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\nrefused\n"
    assert path.read_text() == "a whole one\n"


def test_lines_that_a_full_disk_refuses_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    words = writer(Path("/dev/full"))
    words.put("one")
    words.put("two")
    with caplog.at_level(logging.WARNING):
        words.write()
    assert words.lost == 2
    assert "/dev/full: 2 words were not written: [Errno 28]" in caplog.text


def test_a_full_queue_drops_the_newest_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "MAX_WAITING", 2)
    words = writer(tmp_path / "lines")
    for word in ("one", "two", "three", "four"):
        words.put(word)
    with caplog.at_level(logging.WARNING):
        words.write()
    assert "2 words were not written: the disk did not keep up" in caplog.text
    assert words.lost == 2
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"


def test_a_value_of_which_no_line_can_be_made_keeps_no_other_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    here = writer(path)
    for value in ("one", "\ud800", "two"):
        here.put(value)
    here.write()
    assert (path.read_text(), here.lost) == ("one\ntwo\n", 1)


def test_a_value_is_written_at_once_unless_there_is_an_interval(tmp_path: Path) -> None:
    written = threading.Event()

    def line(text: str) -> bytes:
        written.set()
        return text.encode() + b"\n"

    words = LineWriter(str(tmp_path / "lines"), 10_000, line, "words", sync=True)
    words.start()
    words.put("one")
    assert written.wait(60)
    words.stop()
    assert (tmp_path / "lines").read_text() == "one\n"


def test_stopping_writes_what_is_queued_and_may_come_before_the_start(tmp_path: Path) -> None:
    words = writer(tmp_path / "lines")
    words.stop()
    words.start()
    words.put("one")
    words.stop()
    assert (tmp_path / "lines").read_text() == "one\n"
