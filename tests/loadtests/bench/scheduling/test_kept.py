"""A row is taken from an earlier run only if nothing that decides it changed."""

from __future__ import annotations

from pathlib import Path

from loadtests.bench.scheduling.cases import SMOKE, Job, jobs
from loadtests.bench.scheduling.kept import GATEWAY, NONE_KEPT, ROOT, SIMULATOR, KeptRows, digest
from loadtests.bench.scheduling.play import How, play
from loadtests.sim.simulate.summary import Row, Spread

JOBS = jobs(SMOKE, 0)


def row(policy: str) -> Row:
    return Row(policy, Spread(), Spread(), Spread(), 0.5, 1.0, Spread(), 0.5, 10, 0, [])


def test_a_row_is_found_by_an_equal_job_only(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "rows")
    first, second = JOBS[:2]
    kept.keep(first, row(first.policy))
    assert KeptRows(tmp_path / "rows").find(first) == row(first.policy)
    assert kept.find(second) is None
    assert kept.find(first._replace(case=first.case._replace(seed=9))) is None


def test_without_a_folder_nothing_is_kept() -> None:
    NONE_KEPT.keep(JOBS[0], row("p"))
    assert NONE_KEPT.find(JOBS[0]) is None


def test_the_digest_changes_with_names_and_contents_of_files(tmp_path: Path) -> None:
    def with_file(folder: str, name: str, text: str) -> str:
        (tmp_path / folder / "a").mkdir(parents=True)
        (tmp_path / folder / "a" / name).write_text(text)
        (tmp_path / folder / "a" / "x.pyc").write_text(folder)
        return digest(tmp_path / folder, ("a",))

    one, same, other_text, other_name = (
        with_file(*each) for each in (("1", "f.py", "x"), ("2", "f.py", "x"), ("3", "f.py", "y"), ("4", "g.py", "x"))
    )
    assert one == same
    assert len({one, other_text, other_name}) == 3


def test_a_peer_does_not_depend_on_the_gateways_sources() -> None:
    assert all((ROOT / path).exists() for path in GATEWAY)
    assert digest(ROOT, SIMULATOR) != digest(ROOT, GATEWAY)


def test_what_was_kept_is_not_played_again(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path)
    for job in JOBS[:3]:
        kept.keep(job, row(job.policy))
    seen: list[Job] = []
    found = play(JOBS[:3], SMOKE, How(tmp_path / "none", kept=kept), lambda job, _: seen.append(job))
    assert seen == JOBS[:3]
    assert found == {(job.part, job.label, job.policy): row(job.policy) for job in JOBS[:3]}
