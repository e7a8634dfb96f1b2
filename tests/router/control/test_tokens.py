"""Tokens have names, roles and ends, come from four places, and are compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from router.control.tokens import Caller, ControlTokens, Role, UnknownToken
from router.settings import Control, ControlToken

NOW = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def tokens(*given: ControlToken, token: str = "", now: float = NOW) -> ControlTokens:
    return ControlTokens(Control(token=token, tokens=list(given)), {"GRAFANA": "of grafana"}, lambda: now)


def refusal(known: ControlTokens, *authorization: str) -> str:
    with pytest.raises(UnknownToken) as refused:
        known.caller(authorization)
    return str(refused.value)


def test_each_source_gives_a_token_with_its_name_and_role(tmp_path: Path) -> None:
    (tmp_path / "ci").write_text("of ci\n")
    known = tokens(
        ControlToken(name="grafana", token_env="GRAFANA"),
        ControlToken(name="ci", role="operate", token_file=str(tmp_path / "ci")),
        ControlToken(name="ada", role="operate", token_sha256=hashed("of ada")),
        token="the single one",
    )
    expected = {
        "of grafana": Caller("grafana", Role.READ),
        "of ci": Caller("ci", Role.OPERATE),
        "of ada": Caller("ada", Role.OPERATE),
        "the single one": Caller("control.token", Role.OPERATE),
    }
    assert {given: known.caller([f"Bearer {given}"]) for given in expected} == expected
    assert known.caller(["bEARER  of ci "]) == expected["of ci"]


def test_without_tokens_every_caller_may_do_everything() -> None:
    assert not tokens()
    assert tokens().caller([]) == Caller("", Role.OPERATE)
    assert tokens(token="x")


def test_what_is_wrong_is_said_and_no_token_is() -> None:
    known = tokens(ControlToken(name="ada", token_sha256=hashed("sesame")))
    assert refusal(known) == "the admin API needs `Authorization: Bearer <token>`"
    for none in ("", "Bearer", "Bearer ", "Basic sesame", "sesame", hashed("sesame")):
        assert "needs `Authorization" in refusal(known, none), none
    for wrong in ("sesam", "sesame2", "sesam\xe9", "\u5c71", hashed("sesame")):
        assert "no token of this control port" in refusal(known, f"Bearer {wrong}"), wrong
    assert "several" in refusal(known, "Bearer sesame", "Bearer sesame")


def test_the_hash_of_no_text_lets_nobody_in() -> None:
    known = tokens(ControlToken(name="ci", role="operate", token_sha256=hashed("")))
    for none in ("Bearer", "Bearer ", "bearer  "):
        assert "needs `Authorization" in refusal(known, none), none


def test_a_token_that_stands_in_two_places_has_the_name_that_it_was_given() -> None:
    assert tokens(ControlToken(name="ci", token_sha256=hashed("x")), token="x").caller(["Bearer x"]).name == "ci"


def test_a_token_is_refused_from_its_end_on() -> None:
    for expires in (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1)):
        token = ControlToken(name="ada", token_sha256=hashed("x"), expires=expires)
        assert tokens(token, now=NOW - 1).caller(["Bearer x"]).name == "ada"
        assert refusal(tokens(token), "Bearer x") == "the token 'ada' expired at 2027-01-01T00:00:00+00:00"
        assert "no token of" in refusal(tokens(token), "Bearer y")


def test_a_token_file_is_read_again_when_it_changes_and_closes_when_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "ci"
    file.write_text("first")
    known = tokens(ControlToken(name="ci", token_file=str(file)))

    def look() -> None:
        asyncio.run(known.files[0].look())

    assert known.caller(["Bearer first"]).name == "ci"
    other = tmp_path / "new"
    other.write_text("second, longer")
    other.replace(file)
    look()
    assert known.caller(["Bearer second, longer"]).name == "ci"
    assert refusal(known, "Bearer first")
    file.write_text("")
    look()
    assert refusal(known, "Bearer second, longer")
    assert refusal(known, "Bearer ")
    file.write_text("second, longer")
    look()
    file.unlink()
    look()
    assert refusal(known, "Bearer second, longer")
    file.write_text("third")
    look()
    assert known.caller(["Bearer third"]).name == "ci"


def test_every_token_is_compared_in_constant_time_whichever_fits() -> None:
    known = tokens(*(ControlToken(name=f"t{at}", token_sha256=hashed(f"{at}")) for at in range(5)), token="last")
    real = hmac.compare_digest
    for given in ("0", "4", "last", "none"):
        with patch("hmac.compare_digest", side_effect=real) as compared:
            try:
                known.caller([f"Bearer {given}"])
            except UnknownToken:
                assert given == "none"
        assert compared.call_count == 6
        assert all(len(each) == 32 for call in compared.call_args_list for each in call.args)
