"""The screen of `turnout top` and of the demo, at several sizes."""

from __future__ import annotations

import io

from rich.console import Console

from router.cli.fleet_reading import PodReading, Reading
from router.cli.fleet_view import Size, line, screen

BUCKETS = ((0.1, 50.0), (0.2, 100.0), (float("inf"), 100.0))


def pod(name: str, trouble: str = "", inflight: int = 0, requests: int = 10, pool: str = "demo") -> PodReading:
    return PodReading(name, pool, requests, inflight, 1, 2, 0.25, trouble)


def reading(*pods: PodReading, at: float = 15.0, **policies: str) -> Reading:
    requests = sum(each.requests for each in pods)
    return Reading(at, policies or {"demo": "p2c"}, pods, requests, 2, 400.0, 300.0, BUCKETS)


def nothing(now: Reading) -> Reading:
    """Five seconds before, without a request."""
    pods = tuple(each._replace(requests=0) for each in now.pods)
    return now._replace(at=now.at - 5.0, pods=pods, requests=0, prompt_tokens=0.0, hit_tokens=0.0, ttft=())


def shown(now: Reading, columns: int = 80, lines: int = 24, *, colours: bool = False) -> list[str]:
    console = Console(
        file=io.StringIO(), width=columns, force_terminal=colours, color_system="truecolor" if colours else None
    )
    console.print(screen(now, nothing(now), ["q ends it"], Size(columns, lines)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [row.rstrip() for row in str(text).splitlines()]


FOUR = reading(*(pod(f"127.0.0.1:810{at}", requests=10 * at) for at in range(4)))


def test_the_line_names_the_policy_and_every_pods_requests() -> None:
    now = reading(pod("a:1", requests=200), pod("b:2", requests=2))
    assert line(now, nothing(now)) == (
        "policy=p2c requests=202 failed=2 req/s=40.4 hit_rate=75% ttft_p50=100 ms ttft_p90=180 ms pods: a:1=200 b:2=2"
    )
    assert "req/s=0.0 hit_rate=- ttft_p50=- ttft_p90=-" in line(now, now)


def test_at_80_columns_every_pod_and_every_figure_is_there() -> None:
    """Case H 46."""
    assert shown(FOUR) == [
        "Turnout  4 pods  p2c",
        "12.0 req/s   prefix hits 75%   TTFT p50 100 ms, p90 180 ms",
        "60 requests, 2 failed",
        "pod                 in flight  queued  running   KV  req/s  requests  share",
        "127.0.0.1:8100  ok          0       1        2  25%    0.0         0",
        "127.0.0.1:8101  ok          0       1        2  25%    2.0        10  ━╸",
        "127.0.0.1:8102  ok          0       1        2  25%    4.0        20  ━━━",
        "127.0.0.1:8103  ok          0       1        2  25%    6.0        30  ━━━━━",
        "q ends it",
    ]


def test_a_long_name_keeps_its_end_and_the_least_important_columns_go() -> None:
    """Case H 46."""
    name = "vllm-meta-llama-3-1-8b-instruct-deployment-7d9f8b6c5d-"
    now = reading(pod(f"{name}x2x9k"), pod(f"{name}q7wzt", "probe"))
    rows = shown(now)
    assert rows[3].split() == ["pod", "in", "flight", "queued", "running", "KV", "req/s", "requests"]
    for row, of in zip(rows[4:6], now.pods, strict=True):
        cut, state = row.split()[:2]
        assert (cut[0], state) == ("…", of.trouble or "ok") and of.id.endswith(cut[1:]) and len(cut) > 15
    narrow = shown(now, columns=40)
    assert narrow[4:6] and all(len(row) <= 40 for row in narrow)
    assert [row.split()[0][-5:] for row in narrow if row.startswith("…")] == ["x2x9k", "q7wzt"]
    assert any("in flight" in row for row in narrow) and not any("requests  " in row for row in narrow)


def test_no_line_is_longer_than_the_terminal_at_any_width() -> None:
    now = reading(*(pod(f"10.0.0.{at}:8000", "probe" * (at % 2)) for at in range(6)), llama="p2c", qwen="prefix_aware")
    for columns in range(30, 130, 7):
        rows = shown(now, columns)
        assert max(map(len, rows)) <= columns
        assert len({row.split()[0] for row in rows if ":8000" in row}) in (0, 6)


def test_a_thousand_pods_are_cut_to_the_screen_the_failing_and_the_fullest_first() -> None:
    now = reading(*(pod(f"10.0.{at // 250}.{at % 250}:8000", "probe" * (at == 7), at % 91) for at in range(1000)))
    rows = shown(now)
    assert len(rows) == 23, "the cursor stands in the last line"
    assert rows[0].startswith("Turnout  1,000 pods, 1 not well")
    assert rows[4].startswith("10.0.0.7:8000") and "probe" in rows[4]
    assert " 90 " in rows[5]
    assert rows[-2] == "983 more pods, each with at most 89 in flight"


def test_pools_have_a_column_where_there_are_several() -> None:
    now = reading(pod("a:1", pool="llama"), pod("b:2", pool="qwen"), llama="p2c", qwen="prefix_aware", empty="p2c")
    rows = shown(now)
    assert rows[0] == "Turnout  2 pods  llama: p2c  qwen: prefix_aware  empty: p2c"
    assert [row.split()[:2] for row in rows[3:6]] == [["pod", "pool"], ["a:1", "llama"], ["b:2", "qwen"]]


def test_bars_are_red_only_for_pods_in_trouble() -> None:
    """Case H 46."""
    rows = shown(reading(pod("a:1"), pod("b:2", "probe")), colours=True)
    well, failing = (next(row for row in rows if name in row) for name in ("a:1", "b:2"))
    assert "[31m" not in well and "[36m" in well
    assert "[31m" in failing


def test_a_pool_without_pods_is_a_screen_too() -> None:
    rows = shown(reading(demo="p2c"))
    assert rows[0] == "Turnout  0 pods  p2c"
