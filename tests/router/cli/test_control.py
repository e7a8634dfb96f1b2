"""`turnout pods`, against a real control port."""

from __future__ import annotations

import re

import httpx
import pytest

from router.cli.control import control_url
from router.cli.main import main
from tests.fakes.control_port import OTHER_POD, POD, Replica, command


def test_pods_are_printed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")
    assert command(replica, "pods") == 0
    assert capsys.readouterr().out.splitlines() == [
        "POOL     POD             STATE     INFLIGHT  QUEUED  RUNNING  KV",
        f"default  {POD}  routable  1         3       4        50%",
        f"default  {OTHER_POD}  probe     0         0       0        0%",
    ]


def test_pods_as_json_equal_the_answer_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    assert command(replica, "pods", "--json") == 0
    answered = httpx.Response(200, text=capsys.readouterr().out).json()
    assert [pod["id"] for pod in answered] == [POD, OTHER_POD]
    assert {"inflight", "queued", "running", "kv_usage", "routable"} <= set(answered[0])


def test_a_pod_that_fails_and_is_kept_is_shown_as_failing(capsys: pytest.CaptureFixture[str]) -> None:
    """Case H 37."""
    replica = Replica()
    replica.view.block(POD, "probe")
    for pod in (POD, OTHER_POD):
        replica.view.keep(pod, frozenset({"probe"}))
    assert command(replica, "pods") == 0
    states = [re.split(r" {2,}", line)[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert states == ["probe", "failing (kept)"]


def test_a_pool_without_pods_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Case H 38."""
    replica = Replica()
    replica.view.set_pods("default", [])
    assert command(replica, "pods") == 0
    assert capsys.readouterr().out.splitlines() == [
        "POOL     POD  STATE    INFLIGHT  QUEUED  RUNNING  KV",
        "default  -    no pods  -         -       -        -",
    ]
    assert command(replica, "pods", "--json") == 0
    assert capsys.readouterr().out.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:9000"),
        ("0.0.0.0:9100", "127.0.0.1:9100"),
        ("[::]:9100", "[::1]:9100"),
        ("10.0.0.1:9100", "10.0.0.1:9100"),
        ("https://gateway:9100", "https://gateway:9100"),
    ],
)
def test_the_control_port_of_the_environment_is_asked(given: str, url: str) -> None:
    """Case H 42: the variable that sets where `serve` listens."""
    assert control_url({"TURNOUT_CONTROL": given}) == url


def test_a_flag_wins_over_the_control_port_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_CONTROL", "127.0.0.1:1")
    assert command(Replica(), "pods") == 0
    assert POD in capsys.readouterr().out
    assert main(["pods"]) == 2
    assert "no control port at http://127.0.0.1:1" in capsys.readouterr().err
