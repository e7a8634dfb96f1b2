import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.sim.simpod.faults import Fault
from loadtests.sim.simpod.fleet import SimPod
from tests.fakes.waiting import DEADLINE_S

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


async def locust(pod: SimPod, requests: int) -> dict[str, dict[str, Any]]:
    """Run locust headless until the pod has seen `requests` requests; its rows for chat by type."""
    arguments = ["-f", str(LOCUSTFILE), "--headless", "-u", "4", "-r", "4", "--host", pod.url, "--json"]
    options = ["--think-s", "0.01", "--max-tokens", "8", "--system-tokens", "50"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "locust", *arguments, *options),
        cwd=LOCUSTFILE.parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(200):
            while pod.received.total() < requests:
                assert process.returncode is None, "locust gave up"
                await asyncio.sleep(0.02)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        report = await last_words(process)
    rows = json.loads(report[report.index(b"[") :])
    assert {row["name"] for row in rows} == {"/v1/chat/completions"}
    return {row["method"]: row for row in rows}


async def last_words(process: asyncio.subprocess.Process) -> bytes:
    """The program's output until it ends; it is killed if it does not end."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return (await process.communicate())[0]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
def test_locust_reports_ttft_and_itl_in_separate_rows_and_nothing_fails() -> None:
    async def scenario() -> dict[str, dict[str, Any]]:
        async with SimPod(speed=10) as pod:
            return await locust(pod, 40)

    rows = asyncio.run(scenario())
    assert set(rows) == {"POST", "TTFT", "ITL", "E2E"}
    assert all(row["num_failures"] == 0 for row in rows.values())
    assert rows["TTFT"]["num_requests"] == rows["E2E"]["num_requests"] >= 30
    assert 0 < rows["TTFT"]["total_response_time"] <= rows["E2E"]["total_response_time"]


@pytest.mark.slow
def test_locust_counts_broken_streams_as_failures() -> None:
    async def scenario() -> dict[str, dict[str, Any]]:
        async with SimPod(speed=10) as pod:
            pod.set_fault(Fault(kind="truncated_sse", rate=0.5))
            return await locust(pod, 40)

    rows = asyncio.run(scenario())
    assert rows["POST"]["num_failures"] >= 5
    assert rows["POST"]["num_requests"] - rows["POST"]["num_failures"] == rows["E2E"]["num_requests"]
