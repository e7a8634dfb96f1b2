"""Listings of a plugin directory, also of a mounted ConfigMap."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from router.plugins.directory import MAX_BYTES, MAX_FILES, PluginUnreadable, list_plugins, read_plugin
from tests.fakes.configmap_mount import Mount


def test_only_python_files_are_read(tmp_path: Path) -> None:
    for name, text in {"a.py": "A", "b.py": "B", ".hidden.py": "x", "notes.txt": "x", "c.pyc": "x"}.items():
        (tmp_path / name).write_text(text)
    assert list_plugins(str(tmp_path)).sources == {"a.py": b"A", "b.py": b"B"}


def test_a_mounted_configmap_is_read_through_its_links_and_once(tmp_path: Path) -> None:
    mount = Mount(tmp_path, {"a.py": "A1", "b.py": "B1"})
    assert list_plugins(str(tmp_path)).sources == {"a.py": b"A1", "b.py": b"B1"}
    mount.swap({"a.py": "A2", "b.py": "B1"})
    assert list_plugins(str(tmp_path)).sources == {"a.py": b"A2", "b.py": b"B1"}


def test_an_unreadable_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("G")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "huge.py").write_bytes(b"#" * (MAX_BYTES + 1))
    found = list_plugins(str(tmp_path))
    assert found.sources == {"good.py": b"G"}
    assert found.unreadable == {
        "folder.py": "is not read: it is a directory, not a regular file",
        "huge.py": "is larger than 1 MB",
    }


@pytest.mark.parametrize(("name", "why"), [("nowhere", "No such file"), ("file", "Not a directory")])
def test_a_path_that_is_not_a_directory_is_a_problem_and_raises_nothing(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    found = list_plugins(str(tmp_path / name))
    assert found.sources == {}
    assert found.problem.startswith(f"{tmp_path / name} cannot be read: {why}")


def loop_of_links(path: Path) -> None:
    path.symlink_to(path.with_name("other.py"))
    path.with_name("other.py").symlink_to(path)


def sock(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is not read: it is a FIFO, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not read"),
        (sock, "is not read: it is a socket, not a regular file"),
        (loop_of_links, "cannot be read: "),
        (lambda path: path.mkdir(), "is not read: it is a directory, not a regular file"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "is larger than 1 MB"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_nothing_waits(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    """Case E 27."""
    (tmp_path / "good.py").write_text("G")
    make(tmp_path / "bad.py")
    found = list_plugins(str(tmp_path))
    assert found.sources == {"good.py": b"G"}
    assert found.unreadable["bad.py"].startswith(why)
    with pytest.raises((PluginUnreadable, OSError)):
        read_plugin(tmp_path / "bad.py")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Case E 27."""
    (tmp_path / "good.py").write_text("G")
    tmp_path.chmod(mode)
    found = list_plugins(str(tmp_path))
    assert found.sources == {}
    assert found.problem.startswith(f"{tmp_path} is not read: every user may write to it")
    assert "chmod o-w" in found.problem


def test_a_file_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Case E 27."""
    for name in ("good.py", "bad.py"):
        (tmp_path / name).write_text("G")
    (tmp_path / "bad.py").chmod(0o666)
    found = list_plugins(str(tmp_path))
    assert found.sources == {"good.py": b"G"}
    assert f"because of {tmp_path / 'bad.py'}: every user may write" in found.unreadable["bad.py"]


def test_a_link_into_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Case E 27: there the file could be replaced."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.py").write_text("A")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "a.py").symlink_to(tmp_path / "open" / "a.py")
    found = list_plugins(str(tmp_path / "plugins"))
    assert found.sources == {}
    assert f"because of {tmp_path / 'open'}: every user may write" in found.unreadable["a.py"]


def test_the_owner_is_root_or_the_gateways_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case E 27: another user's directory is that user's to change."""
    (tmp_path / "good.py").write_text("G")
    owner = tmp_path.stat().st_uid
    if owner == 0:
        os.chown(tmp_path, 12345, -1)
        owner = 12345
    monkeypatch.setattr("router.plugins.directory.os.geteuid", lambda: owner + 1)
    assert f"its owner, user {owner}, may write" in list_plugins(str(tmp_path)).problem
    monkeypatch.setattr("router.plugins.directory.os.geteuid", lambda: owner)
    assert list_plugins(str(tmp_path)).problem == ""


def test_what_is_mounted_read_only_may_have_any_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case E 27: as a ConfigMap is, whose directory Kubernetes makes with mode 0777."""

    class ReadOnly:
        f_flag = os.ST_RDONLY

    (tmp_path / "good.py").write_text("G")
    tmp_path.chmod(0o777)
    monkeypatch.setattr("router.plugins.directory.os.statvfs", lambda _: ReadOnly)
    assert list_plugins(str(tmp_path)).sources == {"good.py": b"G"}


def test_a_directory_of_too_many_files_is_refused(tmp_path: Path) -> None:
    """Case E 27."""
    for at in range(MAX_FILES + 1):
        (tmp_path / f"p{at}.py").touch()
    assert "has 201 files" in list_plugins(str(tmp_path)).problem
