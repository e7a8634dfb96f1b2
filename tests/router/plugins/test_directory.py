"""Listings of a plugin directory, also of a mounted ConfigMap."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.plugins.directory import MAX_BYTES, list_plugins
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
    assert found.unreadable == {"folder.py": "cannot be read: Is a directory", "huge.py": "is larger than 1 MB"}


@pytest.mark.parametrize(("name", "why"), [("nowhere", "No such file"), ("file", "Not a directory")])
def test_a_path_that_is_not_a_directory_is_a_problem_and_raises_nothing(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    found = list_plugins(str(tmp_path / name))
    assert found.sources == {}
    assert found.problem.startswith(f"{tmp_path / name} cannot be read: {why}")
