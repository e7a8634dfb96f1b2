"""The Dockerfile: its properties, and its install steps executed.

Base images cannot always be pulled where tests run, so the RUN lines themselves run here, in order, with FROM as a
fresh virtual environment, COPY as a copy, and the image's absolute directories moved under a temporary one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP_S = 400.0
"""Seconds for one step. Only a step that hangs reaches it."""
IMAGE_DIRS = ("/src", "/wheels", "/build", "/opt/turnout")


class Step(NamedTuple):
    """One instruction of a Dockerfile, its continuation lines joined."""

    word: str
    rest: str


def parse(text: str) -> list[Step]:
    """The instructions in order; comments and blank lines are gone."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines()]


STEPS = parse((ROOT / "Dockerfile").read_text())
FINAL = STEPS[max(at for at, step in enumerate(STEPS) if step.word == "FROM") :]


def only(word: str) -> str:
    """The one instruction `word` of the final stage."""
    (found,) = [step.rest for step in FINAL if step.word == word]
    return found


def test_the_base_image_is_a_build_argument_of_every_stage() -> None:
    assert STEPS[0] == Step("ARG", "BASE=python:3.13-slim")
    stages = [step.rest for step in STEPS if step.word == "FROM"]
    assert len(stages) > 1
    assert all(stage.split()[0] == "${BASE}" for stage in stages)


def test_the_final_stage_runs_nothing_and_is_not_root() -> None:
    assert not [step for step in FINAL if step.word == "RUN"], "no installer, so no compiler, in the final image"
    assert all(int(part) > 0 for part in only("USER").split(":"))


def test_only_the_build_stage_has_a_compiler() -> None:
    build = STEPS[: STEPS.index(FINAL[0], 2)]
    assert Step("ARG", "COMPILE=1") in build
    assert [step for step in build if step.word == "RUN" and "gcc" in step.rest]
    copied = [step.rest.split() for step in FINAL if step.word == "COPY"]
    assert copied == [["--from=build", "/opt/turnout", "/opt/turnout"]]


def test_it_listens_stops_and_reports_health_as_documented() -> None:
    assert only("EXPOSE") == "8000 9000"
    assert only("STOPSIGNAL") == "SIGTERM"
    assert json.loads(only("ENTRYPOINT")) == ["turnout"]
    assert json.loads(only("CMD"))[0] == "serve"
    command = json.loads(only("HEALTHCHECK").partition("CMD")[2])
    assert command[:2] == ["python", "-c"]
    assert "127.0.0.1:8000/livez" in command[2]
    compile(command[2], "HEALTHCHECK", "exec")


def test_every_copied_path_exists_and_is_not_excluded_by_dockerignore() -> None:
    allowed = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for step in STEPS:
        if step.word == "COPY" and not step.rest.startswith("--from"):
            for source in shlex.split(step.rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert source.rstrip("/") in allowed, f".dockerignore keeps {source} out"


def test_every_installed_package_has_a_hash_in_the_lock() -> None:
    runs = [step.rest for step in STEPS if step.word == "RUN"]
    for command in re.findall(r"pip\S*(?: --python \S+)? (?:install|wheel) [^&]*", "\n".join(runs)):
        assert "--require-hashes" in command or "--no-deps" in command, command


class Image:
    """A directory in place of the image's file system, and the commands run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cwd = root
        self.base = root / "base"
        subprocess.run([sys.executable, "-m", "venv", self.base], check=True, timeout=STEP_S)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "TURNOUT"))}
        self.env["PATH"] = f"{self.base}/bin:/usr/local/bin:/usr/bin:/bin"
        # The compiled build takes minutes and installs a compiler: `make image-test` does that, in an image.
        self.env |= {"COMPILE": "0", "VERSION": "1.2.3"}

    def inside(self, text: str) -> str:
        """`text` with the image's directories moved under the root. A directory matches as a whole name only."""
        names = "|".join(IMAGE_DIRS)
        return re.sub(rf"(?<![\w./])({names})(?=[\s/]|$)", rf"{self.root}\1", text)

    def apply(self, step: Step) -> None:
        """Execute one instruction of a build stage."""
        if step.word == "WORKDIR":
            self.cwd = Path(self.inside(step.rest))
            self.cwd.mkdir(parents=True)
        elif step.word == "COPY":
            *sources, target = shlex.split(step.rest)
            for source in sources:
                self.copy(ROOT / source, self.cwd / target)
        elif step.word == "RUN":
            command = ["bash", "-euc", self.inside(step.rest)]
            done = subprocess.run(command, cwd=self.cwd, env=self.env, capture_output=True, text=True, timeout=STEP_S)
            assert done.returncode == 0, f"{step.rest}\n{done.stdout}{done.stderr}"

    def copy(self, source: Path, target: Path) -> None:
        """COPY: a directory's content goes into the target, a file goes beside the rest."""
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


@pytest.mark.realtime
def test_its_install_steps_produce_a_turnout_that_runs(tmp_path: Path) -> None:
    image = Image(tmp_path)
    for step in STEPS[1 : STEPS.index(FINAL[0], 2)]:
        image.apply(step)

    command = [str(tmp_path / "opt/turnout/bin/turnout"), "--version"]
    said = subprocess.run(command, env=image.env, cwd="/", capture_output=True, text=True, timeout=STEP_S)

    assert said.returncode == 0, said.stderr
    assert said.stdout == "turnout 1.2.3 (pure Python: built with TURNOUT_COMPILE=0)\n"
    installed = next((tmp_path / "opt/turnout/lib").glob("python3*/site-packages"))
    assert not (installed / "pip").exists()
    assert not (installed / "pytest").exists()
