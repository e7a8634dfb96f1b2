"""One problem of the settings. A value: the rules are in `checks.py`, the wording for a file in `file.py`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Path = tuple[str | int, ...]
"""Where in the settings: `("pools", 0, "name")`."""


class Problem(NamedTuple):
    """What is wrong, and where."""

    path: Path
    message: str
    severity: Literal["error", "warning"] = "error"
    line: int | None = None
    """Line in the file, from 1."""
    origin: str = ""
    """The flag or variable that set it, in place of the file."""

    @property
    def where(self) -> str:
        """`pools[0].policy.name`; empty for the whole."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")
