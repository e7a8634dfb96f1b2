"""docs/kubernetes.md and docs/start-kubernetes.md, the page before it: kubectl commands name objects of the overlays,
`turnout` commands run in their order against a real replica, and figures are the measured ones.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from router.cli.main import main
from tests.fakes.each_case import each_case
from tests.fakes.gateway_process import GatewayProcess, config, pool, starting
from tests.fakes.rendered_manifests import KUBERNETES, ROOT, render
from tests.fakes.sim_process import sim_pods

PAGE = "".join((ROOT / "docs" / name).read_text() for name in ("start-kubernetes.md", "kubernetes.md"))
OVERLAY, REAL = "quickstart", "vllm"
"""The overlay of the page's first section, and that of the others."""
TOKEN = "a-token-of-this-test"

NOT_RUN = {
    "kind create cluster": "needs a cluster",
    "kind load": "the same; that the image's name is the rendered one is checked",
    "docker build": "base images cannot be pulled everywhere; `make image-test` builds the image",
    "curl": "its address is a port-forward's; its path and token are checked",
}
"""The start of a command -> why it is not run here."""

FLAGS_WITH_VALUE = {"--namespace", "--selector", "--tail", "--replicas"}
SHOWS = {
    "turnout check": "pool default",
    "turnout pods": "routable",
    "turnout policy get": "default: prefix_aware",
    "turnout policy shadow": "least_load",
    "turnout policy canary": "p2c",
    "turnout policy report": "canary p2c, 10 %",
    "turnout policy promote": "default: p2c",
    "turnout policy history": "p2c",
    "turnout policy rollback": "default: prefix_aware",
}
"""The start of a command of `turnout` -> what its output must contain."""

MEASURED = {
    "docs/benchmarks/routers.md": ("87.8", "152.4", "33.3"),
    "docs/benchmarks/state.md": ("161", "518", "20.2"),
}
"""Page of measurements -> its figures that the section on sizes uses."""


def commands() -> list[str]:
    """Every line of every `sh` block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


KUBECTL = [command for command in commands() if command.startswith("kubectl ")]
INSIDE = [command.partition(" -- ")[2] for command in KUBECTL if " -- " in command]


def words(command: str) -> tuple[list[str], dict[str, str]]:
    """A kubectl command's plain words and its flags, up to `--`."""
    given = iter(shlex.split(command.partition(" -- ")[0])[1:])
    plain, flags = [], {}
    for word in given:
        if word.startswith("-"):
            flag, equals, value = word.partition("=")
            flags[flag] = value if equals else (next(given) if flag in FLAGS_WITH_VALUE | {"-k"} else "")
        else:
            plain.append(word)
    return plain, flags


def test_every_command_is_run_or_checked() -> None:
    for command in commands():
        assert command.startswith("kubectl ") or any(command.startswith(start) for start in NOT_RUN), command
    assert set(SHOWS) == {next(key for key in SHOWS if command.startswith(key)) for command in INSIDE}


@each_case("command", KUBECTL)
def test_the_objects_that_a_command_names_are_in_the_overlay(command: str) -> None:
    plain, flags = words(command)
    if "-k" in flags or plain[0] == "kustomize":
        path = ROOT / (flags.get("-k") or plain[1])
        assert path.parent == KUBERNETES / "overlays"
        assert render(path.name).manifests
    elif plain[:2] in (["create", "namespace"], ["delete", "namespace"]):
        assert plain[2] == render({"create": REAL, "delete": OVERLAY}[plain[0]]).namespace
    else:
        (overlay,) = [each for each in map(render, (OVERLAY, REAL)) if each.namespace == flags["--namespace"]]
        for kind, slash, name in (word.partition("/") for word in plain):
            if slash:
                assert overlay.find(kind.capitalize(), name)


def test_no_command_replaces_or_changes_what_an_earlier_one_made() -> None:
    """Case H 39: the commands of the page, one after the other in one cluster."""
    there: dict[tuple[str, str, str], object] = {}
    for command in KUBECTL:
        plain, flags = words(command)
        made: list[tuple[tuple[str, str, str], object]] = []
        if plain[0] == "apply":
            for each in render(Path(flags["-k"]).name).manifests:
                meta = each["metadata"]
                made.append(((each["kind"], meta.get("namespace", ""), meta["name"]), each))
        elif plain[0] == "create":
            *_, kind, name = [word for word in plain[:4] if word not in ("create", "generic")]
            made.append(((kind.capitalize(), flags.get("--namespace", ""), name), command))
        for key, content in made:
            assert there.setdefault(key, content) == content, f"{command} changes {key}"
    assert ("Secret", "turnout", "turnout") in there
    assert ("PrometheusRule", "monitoring", "turnout") in there


def test_the_secret_it_creates_is_the_one_that_the_pods_read() -> None:
    (command,) = [command for command in KUBECTL if "create secret" in command]
    made = set(re.findall(r"--from-literal=([\w-]+)=", command))
    env = render("vllm").find("Deployment", "turnout")["spec"]["template"]["spec"]["containers"][0]["env"]
    read = [each["valueFrom"]["secretKeyRef"] for each in env if "secretKeyRef" in each.get("valueFrom", {})]
    assert {each["key"] for each in read} == made
    assert {each["name"] for each in read} == {words(command)[0][3]}


def test_the_ports_it_forwards_exist() -> None:
    ports = {
        port["containerPort"]
        for each in render(OVERLAY).find("Deployment", "turnout")["spec"]["template"]["spec"]["containers"]
        for port in each["ports"]
    }
    forwarded = {int(pair.split(":")[1]) for command in KUBECTL for pair in re.findall(r"\b\d+:\d+\b", command)}
    assert forwarded == ports


def test_the_labels_it_selects_by_are_those_of_the_pods() -> None:
    labels = render(OVERLAY).find("Deployment", "turnout")["spec"]["template"]["metadata"]["labels"]
    selectors = [words(command)[1].get("--selector") for command in KUBECTL]
    for selector in filter(None, selectors):
        key, _, value = selector.partition("=")
        assert labels[key] == value


def test_the_image_it_builds_is_the_one_that_the_overlay_runs() -> None:
    image = render(OVERLAY).find("Deployment", "turnout")["spec"]["template"]["spec"]["containers"][0]["image"]
    built = [command for command in commands() if command.startswith(("docker build", "kind load"))]
    assert len(built) == 2
    assert all(image in command.split() for command in built)


def test_the_times_on_the_page_are_those_of_the_base() -> None:
    pod = render("base").find("Deployment", "turnout")["spec"]["template"]["spec"]
    drain = yaml.safe_load((KUBERNETES / "base/turnout.yaml").read_text())["drain"]
    assert f"`drain.settle_s` ({drain['settle_s']} s in the base)" in PAGE
    assert f"at most `drain.timeout_s` ({drain['timeout_s']} s)" in PAGE
    assert f"`terminationGracePeriodSeconds` ({pod['terminationGracePeriodSeconds']})" in PAGE


@pytest.mark.parametrize("page", MEASURED)
def test_its_figures_are_the_measured_ones(page: str) -> None:
    measured = (ROOT / page).read_text()
    for figure in MEASURED[page]:
        assert re.search(rf"\| *{re.escape(figure)}[. ]", measured), (
            f"{figure} is not in {page} any more: compute the sizes again"
        )


def test_links_lead_to_existing_pages_and_headings() -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", PAGE):
        path = ROOT / "docs" / target if target else ROOT / "docs/kubernetes.md"
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A replica with a token, as in the overlay."""
    with sim_pods(2, tmp_path / "pods.log") as pods:
        shared = config(
            (),
            pools=[pool("default", pods.urls, policy={"name": "prefix_aware"})],
            control={"listen": "127.0.0.1:0", "token": TOKEN},
        )
        with starting(shared, tmp_path / "gateway") as gateway:
            gateway.wait_until_ready()
            yield gateway


@pytest.mark.slow
def test_its_turnout_commands_work_in_their_order(
    replica: GatewayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(mounted("turnout.yaml"))
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for command in INSIDE:
        given = shlex.split(command.replace("/etc/turnout/turnout.yaml", str(file)))[1:]
        if given[0] != "check":
            given += ["--control", str(replica.control.base_url)]
        if given[1] == "promote":
            given += ["--force"]  # without traffic the command is refused, as the page says
        status = main(given)
        said = capsys.readouterr()
        assert status == 0, f"{command}\n{said.out}{said.err}"
        assert SHOWS[next(key for key in SHOWS if command.startswith(key))] in said.out, f"{command}\n{said.out}"


def mounted(name: str) -> str:
    """A file in the ConfigMap of the overlay's gateways."""
    overlay = render(OVERLAY)
    volumes = overlay.find("Deployment", "turnout")["spec"]["template"]["spec"]["volumes"]
    (volume,) = [each["configMap"]["name"] for each in volumes if "configMap" in each]
    return str(overlay.find("ConfigMap", volume)["data"][name])
