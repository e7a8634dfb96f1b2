"""Peers from PyPI: each in its own virtual environment under a cache directory, never in the project's.

Versions are pinned here; a complete environment has a stamp and is not installed again.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INSTALL_TIMEOUT_S = 300.0
CACHE = Path(".cache/bench-peers")

REQUIREMENTS: Mapping[str, Sequence[str]] = {
    "sglang-router": ["sglang-router==0.3.2"],
    "vllm-router": ["vllm-router==0.1.17"],
    "smg": ["smg==1.13.0"],
    "fastapi-aiohttp": [
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "httptools==0.9.0",
        "aiohttp==3.14.5",
    ],
}
"""By environment."""


class Missing(Exception):
    """A peer is not on this machine; the message says how to get it, or why it could not be installed."""


def version(name: str) -> str:
    """The pinned versions of `name`, in one line."""
    return ", ".join(requirement.replace("==", " ") for requirement in REQUIREMENTS[name])


def programs(name: str, cache: Path = CACHE) -> Path:
    """The `bin` of the environment of `name`, made now if it is not there. Raises Missing."""
    home = (cache / f"{name}-{REQUIREMENTS[name][0].partition('==')[2]}-py{platform.python_version()}").absolute()
    wanted = "\n".join([sys.version, *REQUIREMENTS[name]])
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        sys.stderr.write(f"bench: installing {version(name)} into {home.parent.name}/{home.name}\n")
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run([*pip, "--only-binary", ":all:", *REQUIREMENTS[name]])
        stamp.write_text(wanted)
    return home / "bin"


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from error
    if done.returncode:
        output = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Missing(f"could not be installed: {output[-1]}")
