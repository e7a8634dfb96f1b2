"""Where a report is written: `NAME.json` for programs and `NAME.md` for people, side by side."""

from __future__ import annotations

import json
from pathlib import Path


def write(folder: Path | None, name: str, text: str, found: object) -> None:
    """Write both files into `folder`, which is made if it is not there; None writes nothing."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", found)
        (folder / f"{name}.md").write_text(text)


def write_json(path: Path | None, found: object) -> None:
    """Write all numbers to a file; None writes nothing."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
