"""`turnout keys ...`: makes, lists and revokes API keys, in a file or by a control port in the shared state. A key is
made here and printed once; what is written or sent is its hash.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from router.access.key_file import change_file
from router.access.keys import (
    NAME,
    BadKeys,
    KeyNameTaken,
    KeyRecord,
    UnknownKey,
    digest_of,
    new_key,
    parse_keys,
    read_keys,
    with_key,
    with_revoked,
    written_keys,
)
from router.cli.control import add_control, control, print_json, print_line, print_table
from router.cli.policy import AUTHOR_VARIABLE
from router.cli.serve_flags import UsageError

_SPANS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")

_Actions = Any
"""What `add_subparsers` gives; argparse does not name its type."""


def add_keys(keys: argparse.ArgumentParser) -> None:
    """The actions of `turnout keys`."""
    actions: _Actions = keys.add_subparsers(required=True, metavar="ACTION")
    create = _add(actions, "create", "make a key and print it: it is shown this once", _create)
    create.add_argument("--tenant", metavar="NAME", required=True, type=_name, help="whose it is")
    create.add_argument("--name", metavar="NAME", type=_name, help="to revoke it by (default: TENANT and six digits)")
    create.add_argument(
        "--expires", metavar="WHEN", type=_when, help="90d, 12h, 30m or a time such as 2027-01-31T00:00:00Z"
    )
    _add(actions, "list", "show every key's name, tenant and state", _list)
    revoke = _add(actions, "revoke", "refuse a key from now on", _revoke)
    revoke.add_argument("name", metavar="NAME")


def _add(
    actions: _Actions, name: str, help_text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    action.add_argument("--file", metavar="FILE", help="the file of `auth.keys_file`; without it, the shared state")
    add_control(action)
    action.add_argument("--by", metavar="NAME", default="", help="who, for the history (TURNOUT_AUTHOR)")
    action.set_defaults(run=run)
    return action


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits, '.', '_' and '-', at most 63")
    return text


def _when(text: str) -> datetime:
    """A moment, by its distance or itself."""
    if span := _SPAN.fullmatch(text):
        return _now() + timedelta(**{_SPANS[span[2]]: int(span[1])})
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter on the first and last days that there are
        raise argparse.ArgumentTypeError(f"{text!r} is neither a span such as 90d nor a time") from None
    if moment <= _now():
        raise argparse.ArgumentTypeError(f"{text} is over")
    return moment


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _create(given: argparse.Namespace) -> int:
    key = new_key()
    name = given.name or f"{given.tenant[:56]}-{secrets.token_hex(3)}"
    record = KeyRecord(name, given.tenant, digest_of(key), created=_now(), expires=given.expires)
    if given.file:
        _change(given.file, lambda keys: with_key(keys, record))
        created = record.describe(_now().timestamp())
    else:
        body = {field: value for field, value in msgspec.to_builtins(record).items() if field != "created"}
        with control(given) as client:
            created = client.create_key(body, _author(given))
    if given.json:
        print_json({**created, "key": key})
        return 0
    until = f", until {_time(created.get('expires'))} UTC" if record.expires is not None else ""
    # Beside the key, which alone is the output: `KEY=$(turnout keys create ...)`.
    sys.stderr.write(f"key {record.name} of tenant {record.tenant}{until}; it is not shown again\n")
    print_line(key)
    return 0


def _list(given: argparse.Namespace) -> int:
    if given.file:
        keys = _in_file(given.file)
    else:
        with control(given) as client:
            keys = client.keys()
    if given.json:
        print_json(keys)
        return 0
    rows = [("NAME", "TENANT", "STATE", "CREATED (UTC)", "EXPIRES (UTC)")]
    for key in keys:
        name, tenant, state = (str(key[field]) for field in ("name", "tenant", "state"))
        rows.append((name, tenant, state, _time(key.get("created")), _time(key.get("expires"))))
    print_table(rows)
    return 0


def _revoke(given: argparse.Namespace) -> int:
    if given.file:
        _change(given.file, lambda keys: with_revoked(keys, given.name, _now()))
        key: Mapping[str, object] = next(each for each in _in_file(given.file) if each["name"] == given.name)
    else:
        with control(given) as client:
            key = client.revoke_key(given.name, _author(given))
    if given.json:
        print_json(key)
    else:
        print_line(f"key {given.name} is revoked")
    return 0


def _in_file(path: str) -> list[dict[str, object]]:
    now = _now().timestamp()
    try:
        return [each.describe(now) for each in read_keys(path)]
    except BadKeys as error:
        raise UsageError(f"{path} {error}") from None


def _change(path: str, change: Callable[[Sequence[KeyRecord]], Sequence[KeyRecord]]) -> None:
    try:
        change_file(path, lambda before: written_keys(change(parse_keys(before))))
    except BadKeys as error:
        raise UsageError(f"{path} {error}") from None
    except (KeyNameTaken, UnknownKey) as error:
        raise UsageError(f"{path}: {error}") from None


def _author(given: argparse.Namespace) -> str:
    return given.by or os.environ.get(AUTHOR_VARIABLE, "")


def _time(moment: object) -> str:
    """A time as the API answers it, for people."""
    if not isinstance(moment, str):
        return "-"
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M}"
