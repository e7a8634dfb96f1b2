"""Which clients may choose a pool or cluster: by their key, and by what the settings allow."""

from __future__ import annotations

import hashlib

import pytest

from router.dataplane.request.routes import Route, Routes
from router.dataplane.request.targets import TargetResolver, may_fall_back
from router.errors import BadRequest, ModelNotFound, PoolNotFound, TargetNotAllowed
from router.settings import Pool, TargetClient, Timeouts
from router.settings import Targets as TargetSettings

NEAR = Pool(name="near", models=["m"], cluster="east")
FAR = Pool(name="far", models=["m"], cluster="west")
OTHER = Pool(name="other", models=["n"], cluster="west")
ROUTES = Routes([NEAR, FAR, OTHER], "", Timeouts())


def client(key: str, *allow: str, name: str = "") -> TargetClient:
    return TargetClient(key_sha256=hashlib.sha256(key.encode()).hexdigest(), allow=list(allow), name=name)


def targets(*allow: str, clients: list[TargetClient] | None = None) -> TargetResolver:
    return TargetResolver(TargetSettings(allow=list(allow), clients=clients or []))


def pool_of(given: TargetResolver, **header_map: str) -> str:
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in header_map.items()}
    return given.route(ROUTES, "m", headers).pool


def test_no_client_may_choose_unless_the_settings_allow_it() -> None:
    with pytest.raises(TargetNotAllowed, match=r"may not choose 'far'; it may choose: none\. Without the header"):
        pool_of(targets(), x_turnout_pool="far")
    with pytest.raises(TargetNotAllowed, match="'far' or 'other'"):
        pool_of(targets(), x_turnout_cluster="west")


@pytest.mark.parametrize("header", ["x_turnout_pool", "x_turnout_cluster"])
def test_a_client_may_always_name_the_pool_of_its_model(header: str) -> None:
    assert pool_of(targets(), **{header: "near" if header == "x_turnout_pool" else "east"}) == "near"


@pytest.mark.parametrize("allow", ["far", "west", "*"])
def test_a_pool_may_be_chosen_by_its_name_its_cluster_or_with_all(allow: str) -> None:
    assert pool_of(targets(allow), x_turnout_pool="far") == "far"
    assert pool_of(targets(allow), x_turnout_cluster="west") == "far"


def test_only_allowed_pools_of_a_cluster_are_chosen() -> None:
    with pytest.raises(ModelNotFound):
        pool_of(targets("other"), x_turnout_cluster="west")
    with pytest.raises(TargetNotAllowed):
        pool_of(targets("other"), x_turnout_pool="far")


def test_a_pool_that_does_not_exist_is_unknown_and_not_forbidden() -> None:
    with pytest.raises(PoolNotFound, match="clusters: east, west"):
        pool_of(targets(), x_turnout_pool="nowhere")


@pytest.mark.parametrize(
    "sent",
    [{"authorization": "Bearer sk-1"}, {"authorization": "bearer  sk-1 "}, {"x_api_key": "sk-1"}],
)
def test_a_client_is_identified_by_its_key_in_either_header(sent: dict[str, str]) -> None:
    known = targets(clients=[client("sk-1", "west"), client("sk-2", "near")])
    assert pool_of(known, x_turnout_pool="far", **sent) == "far"


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer sk-3"}, {"authorization": "Basic sk-1"}])
def test_a_client_without_a_known_key_has_the_default_permissions(sent: dict[str, str]) -> None:
    known = targets("far", clients=[client("sk-1", "other")])
    assert pool_of(known, x_turnout_pool="far", **sent) == "far"


def test_a_known_clients_list_replaces_the_default_one() -> None:
    known = targets("*", clients=[client("sk-1", name="batch")])
    with pytest.raises(TargetNotAllowed, match=r"\(known as 'batch'\); it may choose: none"):
        pool_of(known, x_turnout_pool="far", authorization="Bearer sk-1")


def test_no_message_contains_the_key() -> None:
    known = targets(clients=[client("sk-secret", "near")])
    with pytest.raises(TargetNotAllowed) as caught:
        pool_of(known, x_turnout_pool="far", authorization="Bearer sk-secret")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(("said", "expected"), [("false", False), ("OFF", False), ("0", False), (" true", True)])
def test_fall_back_is_refused_by_each_word_for_no(said: str, expected: bool) -> None:
    assert may_fall_back({b"x-turnout-fallback": said.encode()}) is expected
    assert may_fall_back({})


def test_a_fallback_header_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(BadRequest, match="x-turnout-fallback"):
        pool_of(targets(), x_turnout_fallback="fasle")


def test_refusing_fall_back_alone_does_not_change_the_route() -> None:
    headers = {b"x-turnout-fallback": b"false"}
    assert targets().route(ROUTES, "m", headers) == Route("near", "m")
