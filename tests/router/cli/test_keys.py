"""`turnout keys` with a file: a key is printed once and stored as its hash; failures are one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.access.keys import KEY_PREFIX, digest_of, read_keys
from router.cli.main import main
from tests.fakes.control_port import Run, commands
from tests.fakes.each_case import each_case
from tests.router.control.test_key_routes import with_keys


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.yaml")


def test_a_key_is_printed_alone_and_its_hash_is_stored(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--file", file, "--tenant", "search", "--name", "ci"]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert key.startswith(KEY_PREFIX)
    assert printed.err == "key ci of tenant search; it is not shown again\n"
    (record,) = read_keys(file)
    assert (record.name, record.tenant, record.sha256, record.expires) == ("ci", "search", digest_of(key), None)
    assert key not in Path(file).read_text()
    assert main(["keys", "list", "--file", file, "--json"]) == 0
    assert key not in capsys.readouterr().out


def test_a_tenant_has_several_keys_with_names_of_their_own(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert main(["keys", "create", "--file", file, "--tenant", "search"]) == 0
    assert len(set(capsys.readouterr().out.split())) == 3
    names = {record.name for record in read_keys(file)}
    assert len(names) == 3
    assert all(name.startswith("search-") for name in names)


def test_a_revoked_key_stays_in_the_list(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ci", "laptop"):
        main(["keys", "create", "--file", file, "--tenant", "search", "--name", name, "--expires", "90d"])
    capsys.readouterr()
    assert main(["keys", "revoke", "ci", "--file", file]) == 0
    assert capsys.readouterr().out == "key ci is revoked\n"
    assert main(["keys", "list", "--file", file]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[:3] == ["NAME", "TENANT", "STATE"]
    assert [row[:3] for row in rows] == [["ci", "search", "revoked"], ["laptop", "search", "valid"]]
    assert main(["keys", "revoke", "ci", "--file", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revoked"]


@each_case(
    "text, least, most",
    [("90d", 89.9, 90.1), ("12h", 0.49, 0.51), ("30m", 0.02, 0.03), ("2100-01-01", 1, 40000)],
)
def test_an_expiry_is_a_span_or_a_time(tmp_path: Path, text: str, least: float, most: float) -> None:
    file = str(tmp_path / "keys.yaml")
    Path(file).unlink(missing_ok=True)
    assert main(["keys", "create", "--file", file, "--tenant", "search", "--expires", text]) == 0
    (record,) = read_keys(file)
    assert record.expires is not None
    left = record.expires - datetime.now(UTC)
    assert timedelta(days=least) < left < timedelta(days=most)


@each_case(
    "argv, why",
    [
        (["create", "--tenant", "a b"], "'a b' is no name"),
        (["create", "--tenant", "a", "--expires", "soon"], "'soon' is neither a span such as 90d nor a time"),
        (["create", "--tenant", "a", "--expires", "9999-12-31T23:59:59-14:00"], "is neither a span such as 90d nor"),
        (["create", "--tenant", "a", "--expires", "2020-01-01"], "2020-01-01 is over"),
        (["create", "--tenant", "a", "--name", "ci"], "there is a key 'ci' already"),
        (["create"], "--tenant"),
        (["revoke", "none"], "there is no key 'none'"),
    ],
)
def test_a_failure_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], why: str) -> None:
    file = str(tmp_path / "keys.yaml")
    Path(file).unlink(missing_ok=True)
    main(["keys", "create", "--file", file, "--tenant", "search", "--name", "ci"])
    before = Path(file).read_bytes()
    capsys.readouterr()
    assert main(["keys", *argv, "--file", file]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert why in printed.err
    assert printed.err.count("\n") == 1
    assert Path(file).read_bytes() == before


def test_a_file_that_holds_something_else_is_left_alone(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(file).write_text("pools: []\n")
    for argv in (["create", "--tenant", "a"], ["list"], ["revoke", "x"]):
        assert main(["keys", *argv, "--file", file]) == 2
        assert f"{file} is not a file of keys" in capsys.readouterr().err
    assert Path(file).read_text() == "pools: []\n"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "none" / "keys.yaml")
    assert main(["keys", "create", "--file", file, "--tenant", "a"]) == 2
    assert file in capsys.readouterr().err


def test_without_a_file_the_keys_are_those_of_a_control_port(capsys: pytest.CaptureFixture[str]) -> None:
    replica = with_keys()
    assert replica.plane.keys is not None

    def script(run: Run) -> None:
        assert run("keys", "create", "--tenant", "search", "--name", "ci", "--by", "Ada", "--expires", "1d") == 0
        key = capsys.readouterr().out.strip()
        assert key.startswith(KEY_PREFIX)
        assert replica.plane.keys is not None
        assert [each.sha256 for each in replica.plane.keys.all()] == [digest_of(key)]
        assert run("keys", "list") == 0
        assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["ci", "search", "valid"]
        assert run("keys", "revoke", "ci") == 0
        assert capsys.readouterr().out == "key ci is revoked\n"
        assert run("keys", "list", "--json") == 0
        assert [each["state"] for each in json.loads(capsys.readouterr().out)] == ["revoked"]
        assert run("keys", "revoke", "none") == 2
        assert capsys.readouterr().err == "turnout: there is no key 'none'\n"

    commands(replica, script)
