import json
from pathlib import Path

from loadtests.report import files


def test_a_report_is_two_files_in_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    files.write(folder, "state", "text\n", {"a": 1})
    assert (folder / "state.md").read_text() == "text\n"
    assert json.loads((folder / "state.json").read_text()) == {"a": 1}


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    files.write(None, "state", "text", {})
    files.write_json(None, {})
    assert list(tmp_path.iterdir()) == []
