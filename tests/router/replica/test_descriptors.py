"""How many clients a limit of open files is enough for, and what the log says where it is too low."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.replica.descriptors import RESERVE, DescriptorLimit, needed, raise_limit

RUN = """
import json, logging, resource, sys
from router.replica.descriptors import raise_limit
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(format="%(levelname)s %(message)s")
limit = raise_limit(wanted)
print(json.dumps([limit.descriptors, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def raised(soft: int, hard: int, wanted: int) -> tuple[list[int], str]:
    """What a process with these limits makes of them, and its log."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(soft), str(hard), str(wanted)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    """Case E 22."""
    assert raised(256, 1024, 100) == ([1024, 1024, 1024], "")


@pytest.mark.slow
def test_too_few_descriptors_are_named_with_the_remedy() -> None:
    """Case E 22."""
    limits, log = raised(256, 1024, 20_000)
    assert limits == [1024, 1024, 1024]
    assert log.startswith("WARNING this process may open 1024 files, which is enough for 384 client connections")
    assert f"to {needed(20_000)} or lower limits.max_connections" in log


def test_this_process_says_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "turnout.replica"):
        limit = raise_limit(1)
    assert f"may open {limit.descriptors} files, enough for 1 client connections" in caplog.text
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard


@given(st.integers(200, 1 << 20))
def test_clients_and_those_that_wait_never_use_up_all_descriptors(descriptors: int) -> None:
    """Case E 22: the reserve is left for the control port."""
    limit = DescriptorLimit(descriptors)
    assert 2 * limit.clients + limit.backlog <= descriptors - descriptors // RESERVE
    assert DescriptorLimit(needed(limit.clients)).clients >= limit.clients
