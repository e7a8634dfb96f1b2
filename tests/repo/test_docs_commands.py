"""The commands of the README and of docs/: each page's `sh` blocks are run in order, in one shell, or are in a short
list with the reason why not. The pages on Kubernetes have tests/deploy/test_kubernetes_md.py.

Ports are replaced by free ones, so that another gateway on this machine does not interfere, and simulations
end after a hundred requests; nothing else of a command is changed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from loadtests.sim.ports import free_ports, neighbouring_ports
from tests.fakes.each_case import each_case
from tests.fakes.whole_run import whole_run

COMMANDS_S = 220.0
"""Seconds for all commands of a page. Only a command that hangs reaches it."""

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.name not in ("kubernetes.md", "start-kubernetes.md")
}

NOT_RUN = {
    "make test": "it is what runs this",
    "make demo": "tests/loadtests/sim/test_demo.py runs the demo",
    "turnout prove": "tests/loadtests/prove runs it",
    "make locust": "tests/loadtests runs the locust file",
    "make locust-ui": "the same with a web page that waits for a person",
    "make bench-smoke": "tests/loadtests/bench/test_main.py runs the bench",
    "make bench": "the same, for ten minutes",
    "make compiled": "minutes of compiling; CI runs make test-compiled, which begins with it",
    "make wheel": "the same",
    "make test-compiled": "CI runs it after make test",
    "docker build": "base images cannot be pulled everywhere; tests/repo/test_dockerfile.py runs its steps",
    "docker run": "needs the image",
    "docker compose": "tests/deploy/test_compose.py runs the services of the file",
    "kubectl apply": "needs a cluster; tests/deploy checks all that it would apply",
    "kubectl create": "the same; docs/helm.md",
    "kubectl --namespace turnout create": "the same",
    "helm": "the same; tests/deploy/test_helm_md.py runs it by Helm's library",
}
"""The start of a command -> why it is not run here."""

SHOWS = {
    "curl -sf http://127.0.0.1:8000/v1/models": '"sim-model"',
    "curl -sf http://127.0.0.1:8000/v1/chat/completions": '"chat.completion"',
    "curl -sfN http://127.0.0.1:8000/v1/chat/completions": "data: [DONE]",
    "turnout policy get": "default: prefix_aware",
    "turnout policy set": "default: p2c",
    "turnout pods": "routable",
    "turnout check": "pool qwen",
    "turnout keys create --file keys.yaml --tenant search --name laptop": "sk-turnout-",
    "turnout keys list": "search  valid",
    "turnout keys revoke": "is revoked",
    "turnout simulate": "prefix_aware",
    "curl -sf --retry 30 --retry-connrefused --cacert ca.crt": '"alive"',
    "turnout top --once": "Turnout  2 pods",
    "turnout pods --control https://127.0.0.1:9000": "127.0.0.1:8101",
    "curl -sf http://127.0.0.1:9000/admin/pods": '"routable":true',
    "curl -sf -X PUT": '"session_affinity"',
    "curl -sf http://127.0.0.1:9000/metrics": "turnout_requests_total{",
    "printf %s the-key-of-the-client": "e405ffa1",
}
"""The start of a command -> what its output must contain."""

MEASURED = {"104 us": "103.5", "0.63 of vllm-router": "0.63", "0.44 of": "0.44", "3.35 of nginx": "3.35"}
"""Text of the README -> the figure in docs/benchmarks/routers.md that it repeats."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """Every command of every `sh` block, continuation lines joined, comments gone."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip() and not line.startswith("#")]


EVERY = [command for page in PAGES.values() for command in commands(page)]


def beginning(command: str, table: dict[str, str]) -> str | None:
    """The longest key of `table` that `command` starts with, up to the end of a word."""
    keys = [key for key in table if command == key or command.startswith(f"{key} ")]
    return max(keys, key=len, default=None)


def to_run(page: str) -> list[str]:
    """The page's commands without those that NOT_RUN names."""
    return [command for command in commands(page) if beginning(command, NOT_RUN) is None]


def moved(text: str) -> str:
    """`text` with every port of the page replaced by a free one; neighbouring ports stay neighbours."""
    gateway, control = free_ports(2)
    first, second = neighbouring_ports(2)
    table = {"8000": gateway, "9000": control, "8101": first, "8102": second}
    text = re.sub(r"(?<=127\.0\.0\.1:)(8\d00|9000|810\d)|(?<=--port )8101", lambda found: str(table[found[0]]), text)
    elsewhere = f" --listen 127.0.0.1:{gateway} --control 127.0.0.1:{control} "
    text = text.replace("turnout serve ", f"turnout serve {elsewhere}")
    asks = r"(turnout (?:pods|top|policy (?:get|set|rollback) \S+)(?!.* --control).*)"
    return re.sub(asks, rf"\1 --control http://127.0.0.1:{control}", text)


def limited(command: str) -> str:
    """A simulation limited to a hundred requests."""
    return command if "turnout simulate" not in command or "--limit" in command else f"{command} --limit 100"


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes for a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }


def test_the_readme_is_short_and_its_first_screen_has_a_diagram_a_picture_and_the_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 220
    screen = "\n".join(lines[:30])
    for wanted in ("```text", "](docs/images/demo.svg)", "make demo", "make test"):
        assert wanted in screen, wanted


def test_the_picture_is_small_and_loads_no_other_file() -> None:
    picture = (ROOT / "docs/images/demo.svg").read_text()
    assert len(picture) < 60_000
    assert "url(http" not in picture and 'url("http' not in picture
    assert "prefix_aware" in picture


def test_every_make_target_that_a_command_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in EVERY:
        if command.startswith("make "):
            assert command.split()[1] in targets, command


def test_every_entry_of_the_tables_is_a_command_of_a_page() -> None:
    for key in [*NOT_RUN, *SHOWS]:
        assert any(beginning(command, {key: ""}) for command in EVERY), f"{key}: on no page any more"


@each_case("name", [*PAGES, "docs/adr/README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_link_leads_to_an_existing_file_and_heading(name: str) -> None:
    page = (ROOT / name).read_text()
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), f"{target}#{anchor}"


@pytest.mark.parametrize("words", MEASURED)
def test_the_figures_of_the_readme_are_the_measured_ones(words: str) -> None:
    assert words in README
    assert re.search(rf"\| *{re.escape(MEASURED[words])}[ |]", (ROOT / "docs/benchmarks/routers.md").read_text())


@pytest.mark.slow
@pytest.mark.needs("curl")
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if to_run(page)])
def test_the_commands_work_in_their_order(name: str, tmp_path: Path) -> None:
    page = PAGES[name]
    (tmp_path / "turnout.yaml").write_text("".join(blocks(page, "yaml")))
    (tmp_path / "loadtests").symlink_to(ROOT / "loadtests")
    run = to_run(page)
    steps = "\n".join(f"echo '@@{at}'\n{limited(command)}" for at, command in enumerate(run))
    # The second signal cuts the gateway's settling short.
    end = "trap 'kill $(jobs -p); kill $(jobs -p); wait' EXIT" if " &\n" in steps else ""
    script = f"set -euo pipefail\n{end}\n{moved(steps)}\necho '@@end'\n"
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}

    done = whole_run(["bash", "-c", script], COMMANDS_S, cwd=tmp_path, env=env)

    said = dict(re.findall(r"@@(\w+)\n(.*?)(?=@@|\Z)", done.stdout, re.DOTALL))
    assert "end" in said, f"stopped at `{run[len(said) - 1]}`\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    for at, command in enumerate(run):
        key = beginning(command, SHOWS)
        if key is not None:
            assert SHOWS[key] in said[str(at)], f"{command}\n{said[str(at)]}"
