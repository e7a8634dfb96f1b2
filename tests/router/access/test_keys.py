"""A file of keys is read whole or refused with the reason; a key knows when it is no longer accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.access.keys import (
    KEY_BYTES,
    KEY_PREFIX,
    MAX_FILE_BYTES,
    NAME,
    BadKeys,
    KeyNameTaken,
    UnknownKey,
    digest_of,
    new_key,
    parse_keys,
    read_keys,
    with_key,
    with_revoked,
    written_keys,
)
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import record

A, B = "a" * 64, "b" * 64
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_file_has_names_tenants_and_times() -> None:
    (key,) = parse_keys(f"keys:\n- {{name: ci, tenant: search, sha256: {A}, expires: 2026-01-01T00:00:00Z}}\n".encode())
    assert (key.name, key.tenant, key.sha256, key.expires, key.revoked) == ("ci", "search", A, WHEN, None)


@each_case("text", ["", "keys: []", "{}", "# nothing yet"])
def test_a_file_may_have_no_keys(text: str) -> None:
    assert not parse_keys(text.encode())


@each_case(
    "text, why",
    [
        ("keys: [", "is not YAML in line"),
        ("\x07", "is not YAML"),
        ("- a", "is not a file of keys"),
        ("keys: {a: b}", "`array`"),
        (f"keys: [{{tenant: t, sha256: {A}}}]", "`name`"),
        (f"keys: [{{name: n, sha256: {A}}}]", "`tenant`"),
        ("keys: [{name: n, tenant: t, sha256: abc}]", "$.keys[0].sha256"),
        (f"keys: [{{name: n, tenant: t, sha256: {A}, key: k}}]", "`key`"),
        (f"keys: [{{name: n, tenant: t, sha256: {A}, expires: soon}}]", "$.keys[0].expires"),
        (f"keys: [{{name: n, tenant: t, sha256: {A}, expires: 2026-01-01T00:00:00}}]", "without a zone for key 'n'"),
        (f"keys: [{{name: n, tenant: t, sha256: {A}}}, {{name: n, tenant: t, sha256: {B}}}]", "the name of keys[1]"),
        (f"keys: [{{name: n, tenant: t, sha256: {A}}}, {{name: m, tenant: t, sha256: {A}}}]", "the sha256 of keys[1]"),
        ("#" * (MAX_FILE_BYTES + 1), "more than"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, why: str) -> None:
    with pytest.raises(BadKeys) as caught:
        parse_keys(text.encode())
    assert why in str(caught.value)


def test_a_date_alone_is_no_time() -> None:
    with pytest.raises(BadKeys, match="expires"):
        parse_keys(f"keys: [{{name: n, tenant: t, sha256: {A}, expires: 2026-01-01}}]".encode())


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    with pytest.raises(FileNotFoundError):
        read_keys(str(path))
    path.write_text(f"keys: [{{name: n, tenant: t, sha256: {A}}}]")
    assert [key.name for key in read_keys(str(path))] == ["n"]


def test_a_key_is_refused_from_its_expiry_on() -> None:
    key = record(expires=WHEN)
    assert key.refusal(WHEN.timestamp() - 0.001) == ""
    assert key.refusal(WHEN.timestamp()) == "The API key 'of-search' expired at 2026-01-01 00:00 UTC."


def test_a_revoked_key_is_refused_at_any_time() -> None:
    assert record(revoked=WHEN).refusal(0.0) == "The API key 'of-search' was revoked."


def test_a_new_key_has_256_random_bits_behind_a_prefix_that_scanners_find() -> None:
    assert KEY_BYTES == 256 / 8
    assert new_key("{} random bytes".format) == f"{KEY_PREFIX}32 random bytes"
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len(KEY_PREFIX) + 43 for key in keys)


def test_what_is_written_is_read_and_holds_no_key() -> None:
    records = [record("tok-a", expires=WHEN), record("tok-b", revoked=WHEN)]
    assert parse_keys(written_keys(records)) == records
    assert not parse_keys(written_keys([]))
    assert [each.sha256 for each in records] == [digest_of("tok-a"), digest_of("tok-b")]
    assert b"tok-" not in written_keys(records)


def test_a_name_stands_for_one_key_for_ever() -> None:
    keys = with_key([record("tok-a", revoked=WHEN)], record("tok-b"))
    assert [each.name for each in keys] == ["a", "b"]
    with pytest.raises(KeyNameTaken, match="'a'"):
        with_key(keys, record("tok-a"))


def test_a_key_is_revoked_once() -> None:
    keys = [record("tok-a"), record("tok-b")]
    revoked = with_revoked(keys, "a", WHEN)
    assert [each.revoked for each in revoked] == [WHEN, None]
    assert with_revoked(revoked, "a", datetime(2030, 1, 1, tzinfo=UTC)) == revoked
    with pytest.raises(UnknownKey, match="'c'"):
        with_revoked(keys, "c", WHEN)


@each_case("name", ["", "-a", "a b", "a/b", "a\n", "a" * 64])
def test_what_is_no_name_is_not_read(name: str) -> None:
    assert not NAME.fullmatch(name)
    with pytest.raises(BadKeys, match="name"):
        parse_keys(f'keys: [{{"name": {json.dumps(name)}, "tenant": "t", "sha256": "{A}"}}]'.encode())
