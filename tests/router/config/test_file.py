"""The YAML file: all of its problems, and their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config.file import ConfigError, check, described, load, read_text
from router.settings import Settings, Timeouts
from tests.fakes.each_case import each_case

GOOD = """\
listen: 127.0.0.1:8000
pools:
  - name: chat
    pods: [http://10.0.0.1:8000, http://10.0.0.2:8000]
    models: [m]
    aliases: {gpt: m}
    policy:
      name: p2c
    timeouts: {idle_s: 5}
default_pool: chat
"""


def problems(text: str, **environ: str) -> list[str]:
    return [described("f", problem) for problem in read_text(text, environ).problems]


def test_a_valid_file_becomes_settings(tmp_path: Path) -> None:
    file = tmp_path / "turnout.yaml"
    file.write_text(GOOD)
    settings = load(file, {})
    assert check(file, {}) == []
    assert settings.listen == "127.0.0.1:8000"
    (pool,) = settings.pools
    assert (pool.name, pool.aliases, pool.policy.name) == ("chat", {"gpt": "m"}, "p2c")
    assert pool.timeouts == Timeouts(idle_s=5)
    assert settings.default_pool == "chat"


POOL = "pools: [{name: a, pods: [http://h:1]}]\n"

WRONG = {
    "an unknown key at the top": (POOL + "listne: x", ["f:2: listne: unknown key; did you mean 'listen'?"]),
    "an unknown key deep inside": (
        "pools:\n  - name: a\n    pods: [http://h:1]\n    timeouts:\n      conect_s: 1",
        ["f:5: pools[0].timeouts.conect_s: unknown key; did you mean 'connect_s'?"],
    ),
    "an unknown key like no other": (
        POOL + "drain: {zzz: 1}",
        ["f:2: drain.zzz: unknown key; there are settle_s, timeout_s"],
    ),
    "text for a number": (
        POOL + "timeouts:\n  idle_s: 5s",
        ["f:3: timeouts.idle_s: expected a number, got text: write 5, in seconds"],
    ),
    "a number for text": (POOL + "replica: 8000", ["f:2: replica: expected text, got a whole number"]),
    "Case H 42, a port alone": (
        POOL + "control: {listen: 9000}\nlisten: 50000",
        [
            "f:2: control.listen: 9000 is not host:port, such as 0.0.0.0:9000",
            "f:3: listen: 50000 is not host:port, such as 0.0.0.0:50000",
        ],
    ),
    "one pod for a list of them": (
        "pools:\n- name: a\n  pods: http://h:1",
        ["f:3: pools[0].pods: expected a list, got text"],
    ),
    "a number among the pods": (
        "pools:\n- name: a\n  pods:\n  - http://h:1\n  - 3\n  - ftp://x:1",
        [
            "f:5: pools[0].pods[1]: expected text, got a whole number",
            (
                "f:6: pools[0].pods[2]: pod 'ftp://x:1': unknown scheme 'ftp'; write http://host:port, "
                "https://host:port/base or unix:/path"
            ),
        ],
    ),
    "a list for a section": (POOL + "limits: []", ["f:2: limits: expected keys and values, got a list"]),
    "a list for the whole": ("- a", ["f:1: expected keys and values, got a list"]),
    "a key twice": (
        POOL + "drain:\n  settle_s: 1\n  settle_s: 2",
        ["f:4: drain.settle_s: stands here twice; first in line 3"],
    ),
    "a pool without a name": ("pools:\n- pods: [http://h:1]", ["f:2: pools[0].name: is missing"]),
    "a pool that is none, and one after it": (
        "pools:\n- 17\n- name: b\n  pods: []",
        [
            "f:2: pools[0]: expected keys and values, got a whole number",
            "f:3: pools[1]: pool 'b' needs either `pods` or `discovery.source`",
        ],
    ),
    "a key that is a number": (
        "pools:\n- name: a\n  pods: [http://h:1]\n  labels:\n    3: x\n    zone: 4",
        [
            "f:5: pools[0].labels.3: the key 3 must be text; put it in quotes",
            "f:6: pools[0].labels.zone: expected text, got a whole number",
        ],
    ),
    "a rule broken": (POOL + "timeouts:\n  connect_s: 0", ["f:3: timeouts.connect_s: must be more than 0, not 0"]),
    "an unknown policy": (
        "pools:\n- name: a\n  pods: [http://h:1]\n  policy:\n    name: p3c",
        [
            (
                "f:5: pools[0].policy.name: no policy 'p3c' (did you mean 'p2c'?); there are: "
                "random, round_robin, least_load, p2c, session_affinity, prefix_aware, slo_goodput, profile"
            )
        ],
    ),
    "a warning": (
        POOL + "timeouts: {upstream_keepalive_s: 60}",
        [
            (
                "f:2: warning: timeouts.upstream_keepalive_s: vLLM closes idle connections after 5 s; at 60 s "
                "some requests will meet a closed one and need a retry"
            )
        ],
    ),
    "a secret in the file": (
        POOL + "control:\n  token: sesame",
        ["f:3: warning: control.token: a secret in a file gets around; set TURNOUT_CONTROL_TOKEN instead"],
    ),
    "what a shell or a template was to fill in": (
        (
            "state: redis://:s3cret${PW}@h\npools:\n- name: a\n  pods: [http://h:1]\n"
            "  labels: {zone: $(ZONE), x: '{{ x }}'}"
        ),
        [
            "f:1: warning: state: ${PW} is taken as it stands: nothing in a file is expanded",
            "f:5: warning: pools[0].labels.x: {{ x }} is taken as it stands: nothing in a file is expanded",
            "f:5: warning: pools[0].labels.zone: $(ZONE) is taken as it stands: nothing in a file is expanded",
        ],
    ),
    "numbers with units": (
        POOL
        + "drain: {settle_s: 10s, timeout_s: 1.5m}\nwarmup_timeout_s: 500ms\n"
        + "limits: {max_body_bytes: 32MiB, buffer_budget_bytes: 2G, max_queue: 1e3, max_inflight: 5s}",
        [
            "f:2: drain.settle_s: expected a number, got text: write 10, in seconds",
            "f:2: drain.timeout_s: expected a number, got text: write 90, in seconds",
            "f:3: warmup_timeout_s: expected a number, got text: write 0.5, in seconds",
            "f:4: limits.max_body_bytes: expected a whole number, got text: write 33554432, in bytes",
            "f:4: limits.max_inflight: expected a whole number, got text",
            "f:4: limits.max_queue: expected a whole number, got text: write 1000",
            "f:4: limits.buffer_budget_bytes: expected a whole number, got text: write 2000000000, in bytes",
        ],
    ),
    "texts that are like numbers with units": (
        POOL + "drain: {settle_s: 1_s, timeout_s: 1__0s}\nlimits: {max_body_bytes: 5iB, buffer_budget_bytes: 5B}",
        [
            "f:2: drain.settle_s: expected a number, got text",
            "f:2: drain.timeout_s: expected a number, got text",
            "f:3: limits.max_body_bytes: expected a whole number, got text",
            "f:3: limits.buffer_budget_bytes: expected a whole number, got text: write 5, in bytes",
        ],
    ),
    "nothing at all": ("", ["f: pools: there is no pool, so no request can go anywhere"]),
    "no YAML": ("a: [", ["f:1: is not YAML: expected the node content, but found '<stream end>'"]),
    "a tab": ("a:\n\tb: 1", ["f:2: is not YAML: found character '\\t' that cannot start any token"]),
    "two documents": (
        POOL + "---\na: 1",
        ["f:2: is not YAML: but found another document"],
    ),
    "a python object": (
        "listen: !!python/object/apply:os.system [true]",
        [
            (
                "f:1: is not YAML: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/object/apply:os.system'"
            )
        ],
    ),
    "a day that does not exist": ("listen: 2024-13-45", ["f: cannot be understood: month must be in 1..12"]),
}


@each_case(("text", "expected"), list(WRONG.values()), ids=list(WRONG))
def test_each_problem_names_its_line_its_place_and_its_cause(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_all_problems_are_found_at_once_in_the_order_of_the_file() -> None:
    text = (
        "listne: x\nstate: etcd://x\ntimeouts: {idle_s: x, connect_s: 0}\n"
        "pools:\n- {name: a, pods: [x]}\n- {name: a, pod: []}\n"
    )
    where = [line.split(":")[1] for line in problems(text)]
    assert where == sorted(where)
    assert [line.split(": ")[1] for line in problems(text)] == [
        "listne",
        "state",
        "timeouts.idle_s",
        "timeouts.connect_s",
        "pools[0].pods[0]",
        "pools[1].pod",
        "pools[1].name",
    ]


def test_a_consequence_of_a_problem_is_not_reported_separately() -> None:
    assert len(problems("pools:\n- name: a\n  pod: [http://h:1]")) == 1


def test_a_section_with_everything_commented_out_has_all_defaults() -> None:
    assert problems(POOL + "limits:\n  # max_inflight: 3\n") == []


def test_merge_keys_and_aliases_of_yaml_work_and_are_no_duplicates() -> None:
    text = (
        "timeouts: &t {idle_s: 5, total_s: 7}\n"
        "pools:\n- name: a\n  pods: [http://h:1]\n  timeouts:\n    <<: *t\n    idle_s: 9\n"
    )
    reading = read_text(text, {})
    assert reading.problems == []
    assert reading.settings.pools[0].timeouts == Timeouts(idle_s=9, total_s=7)


@each_case(
    "text",
    [
        "a: &a [*a]",
        "pools: &p [*p]",
        "pools: [{name: a, pods: [http://h:1], policy: {params: &p {x: *p}}}]",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\npools: [*c,*c]",
        "{[1]: 2}",
        "? {a: 1}\n: 2",
        "[" * 1000,
        "\x00",
        "~: 1",
        "listen: !!binary aGk=",
        "listen: ! x",
        "pools: !!set {a, b}",
    ],
)
def test_no_text_makes_it_fail_without_a_problem(text: str) -> None:
    found = problems(text)
    assert found
    assert all(line.startswith("f") for line in found)


def test_the_token_from_the_environment_overrides_the_file() -> None:
    text = POOL + "control: {listen: '0.0.0.0:9000', token: file}"
    reading = read_text(text, {"TURNOUT_CONTROL_TOKEN": "env"})
    assert reading.problems == []
    assert reading.settings.control.token == "env"
    assert read_text(POOL, {}).settings.control.token == ""


@each_case(
    ("url", "with_password"),
    [
        ("redis://r:6379/0", "redis://:p%40s%2Fs@r:6379/0"),
        ("redis://turnout@r:6379", "redis://turnout:p%40s%2Fs@r:6379"),
        ("rediss://turnout:old@r/2?ssl_cert_reqs=required", "rediss://turnout:p%40s%2Fs@r/2?ssl_cert_reqs=required"),
        ("redis+sentinel://a:26379,b:26379/main", "redis+sentinel://:p%40s%2Fs@a:26379,b:26379/main"),
        ("unix:///run/redis.sock", "unix://:p%40s%2Fs@/run/redis.sock"),
        ("memory://", "memory://"),
    ],
)
def test_the_password_of_the_state_comes_from_the_environment_unchanged(url: str, with_password: str) -> None:
    reading = read_text(POOL + f"state: {url!r}", {"TURNOUT_STATE_PASSWORD": "p@s/s"})
    assert reading.settings.state == with_password
    assert reading.problems == []


def test_the_replica_s_name_from_the_environment_overrides_the_file() -> None:
    assert read_text(POOL + "replica: file", {"TURNOUT_REPLICA": "turnout-7f-x2"}).settings.replica == "turnout-7f-x2"


def test_the_gateways_labels_come_from_file_and_environment_and_the_environment_wins() -> None:
    file = POOL + "labels: {zone: eu-1a, cluster: a}"
    assert read_text(file, {}).settings.labels == {"zone": "eu-1a", "cluster": "a"}
    reading = read_text(file, {"TURNOUT_LABELS": "zone=eu-1b, rack = 7,host=,"})
    assert reading.settings.labels == {"zone": "eu-1b", "cluster": "a", "rack": "7"}
    assert reading.problems == []


@pytest.mark.parametrize(("text", "environ"), [("labels: {zone: ''}", {}), ("", {"TURNOUT_LABELS": "zone"})])
def test_half_a_label_is_an_error(text: str, environ: dict[str, str]) -> None:
    (problem,) = read_text(POOL + text, environ).problems
    assert (problem.where, problem.message) == ("labels.zone", "'zone' is half a label; each has a name and a value")


def test_nothing_else_in_the_file_is_expanded() -> None:
    assert read_text(POOL + "replica: ${HOME}", {"HOME": "/root"}).settings.replica == "${HOME}"


def test_a_file_that_cannot_be_read_is_a_problem_like_any_other(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert [each.message for each in check(tmp_path / "none", {})] == ["cannot be read: No such file or directory"]
    assert [each.message for each in check(tmp_path, {})] == ["cannot be read: Is a directory"]
    assert [each.message for each in check(binary, {})] == ["is not UTF-8 text (byte 0)"]


def test_load_raises_with_every_problem_and_lets_warnings_pass(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("listne: 1\nstatte: 2\n" + POOL)
    with pytest.raises(ConfigError) as raised:
        load(file, {})
    assert [each.where for each in raised.value.problems] == ["listne", "statte"]
    assert str(raised.value).splitlines() == [
        f"{file}:1: listne: unknown key; did you mean 'listen'?",
        f"{file}:2: statte: unknown key; did you mean 'state'?",
    ]
    file.write_text(POOL + "timeouts: {upstream_keepalive_s: 60}")
    assert isinstance(load(file, {}), Settings)
