"""What can be named on the command line, by what really runs."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from loadtests.prove.installation import InstallationError, find

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow


def test_a_checkout_is_imported_from_its_own_folder(tmp_path: Path) -> None:
    assert find(str(ROOT), tmp_path).place == str(ROOT / "router")


def test_a_wheel_is_unpacked_and_imported_from_there(tmp_path: Path) -> None:
    wheel = tmp_path / "turnout-9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for package in ("router", "schedulers", "statesync"):
            for path in (ROOT / package).rglob("*"):
                if path.suffix in {".py", ".lua"}:
                    archive.write(path, path.relative_to(ROOT))
        archive.writestr("turnout-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: turnout\nVersion: 9.9\n")
    found = find(str(wheel), tmp_path)
    assert (found.version, found.compiled) == ("9.9", False)
    assert found.place.startswith(str(tmp_path))


def test_a_python_and_its_environment_and_its_script_are_the_same_installation(tmp_path: Path) -> None:
    script = tmp_path / "turnout"
    script.write_text(f"#!{sys.executable}\n")
    script.chmod(0o755)
    by_python, by_folder, by_script = (
        find(str(each), tmp_path) for each in (sys.executable, Path(sys.executable).parents[1], script)
    )
    assert by_python.place == by_folder.place == by_script.place


@pytest.mark.parametrize("given", ["nowhere", "/bin/true", "."])
def test_anything_else_is_refused_with_its_name(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InstallationError, match=given if given != "." else str(tmp_path)):
        find(given, tmp_path)


def test_a_checkout_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "__init__.py").write_text("raise ImportError('no such thing')")
    with pytest.raises(InstallationError, match="no such thing"):
        find(str(tmp_path), tmp_path)
