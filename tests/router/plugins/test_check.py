"""The process that runs a check, over its pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from router.plugins.types import CheckJob, packed
from tests.fakes.plugin_files import GOOD, picks


def said(source: str) -> list[dict[str, Any]]:
    job = packed(CheckJob(source.encode(), "mine.py", tuple(sys.path), 1 << 30, 100.0))
    command = [sys.executable, "-m", "router.plugins.check"]
    done = subprocess.run(command, input=job, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_reports_its_progress_and_its_result() -> None:
    *at, result = said(GOOD)
    assert at == [{"at": "loading it"}, {"at": "asking freest_kv"}]
    assert (result["policies"], result["problem"]) == (["freest_kv"], "")
    assert 0 < result["pick_us"]["freest_kv"]["8"] < result["pick_us"]["freest_kv"]["1000"]


def test_output_and_exit_handlers_of_the_file_do_not_disturb_the_pipe() -> None:
    source = "import atexit, os\nos.write(1, b'{}\\n')\natexit.register(os.abort)\n"
    at, result = said(source)
    assert at == {"at": "loading it"}
    assert result["problem"].startswith("there is no policy in it")


def test_all_policies_of_a_file_are_checked() -> None:
    assert said(GOOD + picks("return None"))[-1]["problem"].startswith("mine: with 1 pod: it answered None")
