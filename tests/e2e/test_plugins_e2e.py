"""Plugin files and a real gateway under load: whatever a file contains and whatever its policy does, no request fails,
and the control port or the log names the mistake.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from loadtests.processes.redis_server import RedisServer
from router.plugins.loading import digest_of
from tests.fakes.configmap_mount import Mount
from tests.fakes.gateway_process import PATIENT_GUARD, PATIENT_PLUGINS, GatewayProcess, config, running
from tests.fakes.plugin_files import GOOD, RIGHT, WRONG, picks
from tests.fakes.raw_http_client import chat
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

POOL = "/admin/pools/default"
EXPECTED_LOG = ["is not offered", "is taken out", "keeps policy", "shadow .* turned off"]
"""Errors that these gateways may log."""


@contextmanager
def gateway(
    sims: SimPods, directory: Path, plugins: Path, check: dict[str, float] | None = None, **sections: Any
) -> Iterator[GatewayProcess]:
    """A gateway that watches `plugins`; `check` replaces the patient limit of checks."""
    section = {"directory": str(plugins), "interval_s": 0.1} | (check or PATIENT_PLUGINS)
    with running(config(sims.urls[:3], plugins=section, **sections), directory, EXPECTED_LOG) as process:
        yield process


def place(file: Path, text: str) -> None:
    """Write a plugin file in one step."""
    written = file.with_suffix(".part")
    written.write_text(text)
    written.rename(file)


def named(text: str, name: str = "mine") -> str:
    """The name under which the gateway offers this version."""
    return f"{name}@{digest_of(text.encode())}"


def files(process: GatewayProcess) -> dict[str, dict[str, Any]]:
    """File -> its state, as the control port shows it."""
    shown = process.control.get("/admin/plugins").raise_for_status().json()
    return {each["file"]: each for each in shown["plugins"] if each["present"]}


def checked(process: GatewayProcess, file: str, text: str) -> dict[str, Any]:
    """The state of this version, once it was checked."""

    def look() -> dict[str, Any] | None:
        found = files(process).get(file, {})
        through = found.get("digest") == digest_of(text.encode()) and found["problem"] != "is being checked"
        return found if through else None

    # The check is of a low priority, and gets little of a busy machine.
    return wait_for(f"{file} is checked", look, 2 * DEADLINE_S)


def use(process: GatewayProcess, policy: str) -> None:
    """Set the pool's policy."""
    process.control.put(f"{POOL}/policy", json={"policy": policy}).raise_for_status()


def shown(process: GatewayProcess) -> dict[str, Any]:
    """The pool's policy as the control port shows it."""
    found: dict[str, Any] = process.control.get(f"{POOL}/policy").raise_for_status().json()
    return found


def under_load(process: GatewayProcess, work: Callable[[], None], users: int = 4, **request: Any) -> Counter[str]:
    """Do `work` while users send requests, none of which may fail. Returns how many each policy decided."""
    seen: Counter[str] = Counter()

    async def user(client: httpx.AsyncClient, at: int, over: asyncio.Event) -> None:
        turn = 0
        while not over.is_set() or turn < 3:
            turn += 1
            answer = await client.post("/v1/chat/completions", json=chat(f"{at} {turn}", max_tokens=4, **request))
            assert answer.status_code == 200, answer.text
            seen[answer.headers["x-turnout-policy"]] += 1

    async def run() -> None:
        over = asyncio.Event()
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, verify=False, timeout=DEADLINE_S) as client:
            asking = [asyncio.get_running_loop().create_task(user(client, at, over)) for at in range(users)]
            await asyncio.to_thread(work)
            over.set()
            await asyncio.gather(*asking)

    asyncio.run(run())
    return seen


QUICKLY_WRONG = ["a syntax error", "one that raises", "one that loops", "one that opens a socket"]
MORE_WRONG = [
    "one that loops when it is loaded",
    "one that picks what is not there",
    "one that remembers in a global",
    "one that prints when it is loaded",
]


@pytest.mark.parametrize(
    "kinds", [QUICKLY_WRONG, pytest.param(MORE_WRONG, marks=pytest.mark.realtime)], ids=["some", "more"]
)
def test_wrong_files_are_refused_one_by_one_and_no_request_is_affected(
    kinds: list[str], sims: SimPods, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    with gateway(sims, tmp_path / "gateway", plugins, {"check_timeout_s": 15.0}) as process:

        def put_all() -> None:
            for at, kind in enumerate(kinds):
                place(plugins / f"wrong_{at}.py", WRONG[kind][0])
            for at, kind in enumerate(kinds):
                found = checked(process, f"wrong_{at}.py", WRONG[kind][0])
                assert found["policies"] == [] and found["problem"], kind
                refused = process.control.put(f"{POOL}/policy", json={"policy": named(WRONG[kind][0])})
                assert refused.status_code == 422

        assert set(under_load(process, put_all)) == {"least_load"}
        said = [line["msg"] for line in process.lines() if "is not offered" in str(line["msg"])]
        assert len(said) == len(kinds)


def test_a_version_is_replaced_under_load_by_a_swap_of_the_mounted_configmap(sims: SimPods, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    mount = Mount(plugins, {"mine.py": picks(RIGHT)})
    newer = picks(f"{RIGHT}  # newer")
    with gateway(sims, tmp_path / "gateway", plugins) as process:

        def replace() -> None:
            assert checked(process, "mine.py", picks(RIGHT))["policies"] == [named(picks(RIGHT))]
            use(process, named(picks(RIGHT)))
            mount.swap({"mine.py": newer})
            found = checked(process, "mine.py", newer)
            assert found["policies"] == [named(newer)]
            assert found["replayed"] > 0
            use(process, named(newer))
            use(process, "p2c")
            process.control.post(f"{POOL}/rollback").raise_for_status()

        seen = under_load(process, replace)
        assert set(seen) <= {"least_load", "p2c", named(picks(RIGHT)), named(newer)}
        assert shown(process)["policy"] == named(newer)


SWALLOWS = """\
while LATE:
    try:
        while True:
            pass
    except BaseException:
        pass"""


class Later(NamedTuple):
    """A policy that passes its check and fails later."""

    body: str
    reason: str
    """Why it is taken out."""
    impatience: Mapping[str, float] = {}
    """Settings of the guard that make it quicker."""


BAD_LATER = {
    "loops": Later("if request.model == 'other' or LATE:\n    while True:\n        pass", "stuck", {"stuck_s": 0.25}),
    "loops and swallows": Later(SWALLOWS, "stuck", {"stuck_s": 0.25}),
    "raises": Later("if LATE:\n    raise LookupError('an unknown model')", "raised"),
    "exits": Later("if LATE:\n    raise SystemExit(0)", "raised"),
    "answers nothing": Later("if LATE:\n    return None", "no_answer"),
    "picks what is gone": Later("if LATE:\n    return Decision(PodId('gone:1'), self.name)", "not_in_snapshot"),
    "is slow": Later("if LATE:\n    time.sleep(0.06)", "slow", {"slow_s": 0.05}),
}
QUICK = ("loops", "raises")


@pytest.mark.parametrize(
    "what", [each if each in QUICK else pytest.param(each, marks=pytest.mark.realtime) for each in BAD_LATER]
)
def test_a_policy_that_fails_after_its_check_is_taken_out_and_no_request_fails(
    what: str, sims: SimPods, tmp_path: Path
) -> None:
    later = BAD_LATER[what]
    # The check uses sequence numbers up to 1,100 and never the model name `sim-model`.
    text = picks(f"{later.body}\n{RIGHT}".replace("LATE", "request.model == 'sim-model' and request.sequence > 40"))
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "mine.py").write_text(text)
    guard = PATIENT_GUARD | {"window_s": 60.0} | dict(later.impatience)
    with gateway(sims, tmp_path / "gateway", plugins, policy_guard=guard) as process:
        found = checked(process, "mine.py", text)
        assert found["problem"] == "", found

        def until_out() -> None:
            use(process, named(text))
            wait_for("it is taken out", lambda: shown(process)["taken_out"])

        seen = under_load(process, until_out)
        assert seen[named(text)] > 0 and seen["least_load"] > 0
        assert process.metric("turnout_policy_failures_total", policy=named(text), reason=later.reason) >= 5
        assert process.metric("turnout_policy_taken_out", policy=named(text)) == 1
        assert "5 failures within 60 s" in shown(process)["taken_out"]
        (line,) = [each["msg"] for each in process.lines() if "is taken out" in str(each["msg"])]
        assert named(text) in line
        use(process, named(text))
        assert shown(process)["taken_out"] == ""


def test_a_pools_own_policy_may_be_a_file_and_is_there_from_the_first_request(sims: SimPods, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "freest.py").write_text(GOOD)
    policy = {"name": named(GOOD, "freest_kv"), "params": {"limit": 0.99}}
    pools = [{"name": "default", "pods": sims.urls[:3], "policy": policy, "allowed_policies": ["*"]}]
    with gateway(sims, tmp_path / "gateway", plugins, pools=pools) as process:
        assert set(under_load(process, lambda: None)) == {named(GOOD, "freest_kv")}


def test_a_shadow_that_hangs_is_turned_off_and_no_request_fails(sims: SimPods, tmp_path: Path) -> None:
    text = picks(f"while request.model == 'sim-model':\n    pass\n{RIGHT}")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "mine.py").write_text(text)
    with gateway(sims, tmp_path / "gateway", plugins, policy_guard={"stuck_s": 0.25, "window_s": 60.0}) as process:
        assert checked(process, "mine.py", text)["problem"] == ""

        def until_off() -> None:
            process.control.put(f"{POOL}/shadow", json={"policy": named(text)}).raise_for_status()
            wait_for("it is turned off", lambda: "turned off" in process.control.get(f"{POOL}/trial").text)

        assert set(under_load(process, until_off)) == {"least_load"}


@pytest.mark.realtime
@pytest.mark.needs("redis-server")
def test_a_replica_whose_file_comes_late_keeps_its_policy_and_follows_with_the_file(
    sims: SimPods, tmp_path: Path
) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    early.mkdir()
    late.mkdir()
    (early / "freest.py").write_text(GOOD)
    name = named(GOOD, "freest_kv")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path))
        left, right = (
            stack.enter_context(gateway(sims, tmp_path / f"gateway-{at}", plugins, state=redis.url, replica=at))
            for at, plugins in (("left", early), ("right", late))
        )
        checked(left, "freest.py", GOOD)
        use(left, name)
        wait_for("the other replica waits for the file", lambda: name in shown(right)["waits_for"])
        assert set(under_load(right, lambda: None)) == {"least_load"}
        place(late / "freest.py", GOOD)
        wait_for("the other replica uses it", lambda: shown(right)["policy"] == name)
        assert set(under_load(right, lambda: None)) == {name}
        assert shown(left) == shown(right)
