"""`turnout pods`, against a real control port."""

from __future__ import annotations

import httpx
import pytest

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
