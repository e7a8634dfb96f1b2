"""Where runs are kept until all are there: a file each, so that a second call goes on where the first one ended."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import msgspec

from loadtests.bench.shootout.played import Played
from loadtests.bench.shootout.stretches import Stretch


class Store:
    """A folder of runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, router: str, part: Stretch, setting: str) -> Played | None:
        """The run, if it was made under the same setting."""
        try:
            run = msgspec.json.decode(self._path(router, part).read_bytes(), type=Played)
        except (OSError, msgspec.DecodeError):
            return None
        return run if run.setting == setting else None

    def put(self, part: Stretch, run: Played) -> None:
        """Keep it; a file that is there is complete."""
        path = self._path(run.router, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(run))
        unfinished.replace(path)

    def _path(self, router: str, part: Stretch) -> Path:
        return self._folder / f"{part.traffic}-{part.number}-{router}.json"


def setting_of(version: str, part: Stretch, ours: bool) -> str:
    """Of what a run depends on: the router's version, for this gateway its sources, and the requests."""
    plan = hashlib.sha256(repr(part).encode()).hexdigest()[:16]
    return " ".join([version, plan, *([sources()] if ours else [])])


def sources() -> str:
    """A digest of this gateway's sources as they are in the working directory; empty outside of a git checkout."""
    packages = ("router", "schedulers", "statesync")
    listed = _git("ls-files", "-s", *packages) + _git("diff", "--", *packages)
    return hashlib.sha256(listed).hexdigest()[:16] if listed else ""


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""
