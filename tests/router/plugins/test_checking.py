"""Checks of real files in real processes: every fault gets a clear message and does no harm."""

from __future__ import annotations

import contextlib
import gc
import os
import re
from pathlib import Path

import pytest

from router.plugins.checking import CheckLimits, check
from router.plugins.examples import Example, examples
from router.plugins.loading import digest_of
from tests.fakes.plugin_files import GOOD, RIGHT, SOUND, WRONG, picks

PATIENT = CheckLimits(timeout_s=100.0)
"""Limits that no busy machine exceeds."""


@pytest.mark.slow
@pytest.mark.parametrize("what", SOUND)
def test_a_valid_file_passes(what: str) -> None:
    report = check(SOUND[what].encode(), "mine.py", limits=PATIENT)
    assert report.problem == ""
    assert len(report.policies) == 1
    assert set(report.pick_us[report.policies[0]]) == {"8", "100", "1000"}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_an_invalid_file_is_refused_with_a_reason(what: str) -> None:
    source, said = WRONG[what]
    report = check(source.encode(), "mine.py", limits=PATIENT)
    assert re.search(said, report.problem), report.problem
    assert (report.policies, report.names) == ((), ())


@pytest.mark.slow
@pytest.mark.parametrize("head", ["builtins.tuple = builtins.str = None", "json.dumps = lambda *_, **__: 'x'"])
def test_whatever_a_file_breaks_in_its_check_the_next_file_is_checked(head: str) -> None:
    """Case J 53."""
    broken = picks(RIGHT, f"import builtins, json\n{head}\n")
    assert check(broken.encode(), "mine.py", limits=PATIENT).problem
    assert check(GOOD.encode(), "freest.py", limits=PATIENT).problem == ""


@pytest.mark.slow
def test_a_report_names_the_policies_of_the_file() -> None:
    report = check(GOOD.encode(), "freest.py", examples()[:12], PATIENT)
    digest = digest_of(GOOD.encode())
    assert (report.file, report.digest, report.problem, report.replayed) == ("freest.py", digest, "", 12)
    assert report.names == (f"freest_kv@{digest}",)


@pytest.mark.slow
def test_recorded_requests_are_part_of_the_check() -> None:
    request, snapshot = examples()[6]
    raises = picks(f"if request.model == 'llama': raise ValueError('no such model')\n{RIGHT}")
    assert not any(each.request.model == "llama" for each in examples())
    report = check(raises.encode(), "mine.py", [Example(request._replace(model="llama"), snapshot)], PATIENT)
    assert report.problem == "mine: with 2 pods: it raised ValueError('no such model')"


@pytest.mark.slow
def test_a_check_that_does_not_end_is_killed_and_its_position_reported() -> None:
    # A call into C that never returns to Python cannot be interrupted inside the process.
    endless = picks("import itertools\nsum(itertools.repeat(0))")
    for limit_s in (1, 4, 16, 64):  # until the limit is long enough to reach the call
        problem = check(endless.encode(), "mine.py", limits=CheckLimits(timeout_s=limit_s)).problem
        ended, _, at = problem.partition(" while ")
        assert ended == f"its check did not end within {limit_s} s"
        if at == "asking mine":
            break
    assert at == "asking mine"


@pytest.mark.slow
def test_the_check_has_the_gateways_modules_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_gateway.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "secret")
    source = "import os, beside_the_gateway\nassert 'TURNOUT_CONTROL_TOKEN' not in os.environ\n"
    assert check(source.encode(), "mine.py", limits=PATIENT).problem.startswith("there is no policy in it")


def children() -> set[str]:
    """Child processes, zombies included; earlier tests may have left some."""
    found = set()
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while it was read
            parent = each.read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()):
                found.add(each.parent.name)
    return found


@pytest.mark.slow
def test_a_check_leaves_no_process_and_no_descriptor() -> None:
    gc.collect()  # garbage of earlier tests
    before, born = set(os.listdir("/proc/self/fd")), children()
    check(b"def pick(:", "mine.py", limits=PATIENT)
    assert set(os.listdir("/proc/self/fd")) <= before
    assert children() <= born
