"""The policies by name: the built-in ones in one table, those that installed packages declare, and those of plugin
files, which come and go while the gateway runs, as `name@digest`.

A name from a request is only looked up here: nothing is imported because of it. Importing this module changes nothing:
`load_entry_points()` is called at start, with the names in the settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from schedulers import params as parameters
from schedulers.errors import DuplicatePolicy, InvalidPolicy, UnknownPolicy
from schedulers.policies.least_load import LeastLoad
from schedulers.policies.p2c import PowerOfTwoChoices
from schedulers.policies.prefix_aware import PrefixAware
from schedulers.policies.profile import Profile
from schedulers.policies.random import Random
from schedulers.policies.round_robin import RoundRobin
from schedulers.policies.session_affinity import SessionAffinity
from schedulers.policies.slo_goodput import SloGoodput
from schedulers.protocols import Scheduler

ENTRY_POINT_GROUP = "turnout.schedulers"
"""Where a package declares its policies: `name = "module:Class"`, the name being the class's `name`."""

BUILT_IN: Mapping[str, type[Scheduler]] = {
    "random": Random,
    "round_robin": RoundRobin,
    "least_load": LeastLoad,
    "p2c": PowerOfTwoChoices,
    "session_affinity": SessionAffinity,
    "prefix_aware": PrefixAware,
    "slo_goodput": SloGoodput,
    "profile": Profile,
}

_OTHER_NAMES: Mapping[str, str] = {
    "cache_aware": "prefix_aware",
    "consistent_hash": "session_affinity",
    "consistent_hashing": "session_affinity",
    "kv_aware": "prefix_aware",
    "least_conn": "least_load",
    "least_request": "least_load",
    "power_of_two": "p2c",
    "prefix_cache": "prefix_aware",
    "session": "session_affinity",
}
"""Other routers' names for the same policy; only for the hint in an error message."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OFFERED = re.compile(r"[a-z][a-z0-9_]{0,62}@[0-9a-f]{8}")

_policies: dict[str, type[Scheduler]] = dict(BUILT_IN)


def names() -> tuple[str, ...]:
    """The names that `create` knows, built-in ones first."""
    return tuple(_policies)


def create(name: str, params: Mapping[str, object] | None = None) -> Scheduler:
    """The policy `name` with these parameters. Raises UnknownPolicy or InvalidParams, with a hint."""
    policy = _policies.get(name)
    if policy is None:
        raise UnknownPolicy(f"no policy {name!r}{_hint(name)}; there are: {', '.join(names())}")
    return parameters.build(policy, {} if params is None else params)


def register(policy: type[Scheduler]) -> None:
    """Add a policy under its own `name`. Raises InvalidPolicy, or DuplicatePolicy if another class has that name."""
    check_class(policy)
    name = str(policy.name)
    if _policies.setdefault(name, policy) is not policy:
        raise DuplicatePolicy(f"{_place(policy)} calls itself {name!r}, but so does {_place(_policies[name])}")


def is_built_in(name: str) -> bool:
    """Whether it is built in; such policies need no watchdog."""
    return name in BUILT_IN


def offer(name: str, policy: type[Scheduler]) -> None:
    """Add a policy that may be withdrawn, as `freest_kv@3f2a9c1d`: its own name and a digest of its source.

    Raises InvalidPolicy, or DuplicatePolicy if another class is offered under that name.
    """
    if not _OFFERED.fullmatch(name):
        raise InvalidPolicy(f"{name!r} is not NAME@DIGEST, eight hexadecimal digits")
    check_class(policy)
    if _policies.setdefault(name, policy) is not policy:
        raise DuplicatePolicy(f"{name!r} is offered already, by another load of the same file")


def withdraw(name: str) -> None:
    """Stop offering it. Instances of it go on; built-in and installed policies cannot be withdrawn."""
    if _OFFERED.fullmatch(name):
        _policies.pop(name, None)


def load_entry_points(wanted: Collection[str] = ("*",), found: Iterable[EntryPoint] | None = None) -> None:
    """Add those of `wanted` (`*`: all) that installed packages declare in the group `turnout.schedulers`. Idempotent.

    `found` replaces the search of the installed packages. Raises InvalidPolicy, DuplicatePolicy, and UnknownPolicy for
    a name that no package declares.
    """
    declared = list(entry_points(group=ENTRY_POINT_GROUP) if found is None else found) if wanted else []
    known = {entry.name for entry in declared}
    if lacking := [name for name in wanted if name != "*" and name not in known]:
        there = ", ".join(sorted(known)) or "none"
        raise UnknownPolicy(f"no installed package declares the policy {lacking[0]!r}; declared: {there}")
    for entry in declared:
        if "*" in wanted or entry.name in wanted:
            register(_loaded(entry))


def _loaded(entry: EntryPoint) -> type[Scheduler]:
    try:
        policy: type[Scheduler] = entry.load()
    except (ImportError, AttributeError) as error:
        raise InvalidPolicy(f"entry point {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    if getattr(policy, "name", None) != entry.name:
        raise InvalidPolicy(f"entry point {entry.name!r} ({entry.value}): the class must have name = {entry.name!r}")
    return policy


def check_class(policy: type[Scheduler]) -> None:
    """Raises InvalidPolicy with all that the class lacks to be a policy."""
    lacking = [words for words, is_met in _NEEDS.items() if not is_met(policy)]
    if lacking:
        raise InvalidPolicy(f"{_place(policy)} is no policy: it needs {', '.join(lacking)}")
    if required := parameters.lacks_default(policy):
        raise InvalidPolicy(
            f"{_place(policy)}: every parameter needs a default; these have none: {', '.join(required)}"
        )


def _is_frozen(policy: object) -> bool:
    return isinstance(policy, type) and bool(getattr(getattr(policy, "__dataclass_params__", None), "frozen", False))


def _has_good_name(policy: object) -> bool:
    name = getattr(policy, "name", None)
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _has_pick(policy: object) -> bool:
    return callable(getattr(policy, "pick", None))


_NEEDS: Mapping[str, Callable[[object], bool]] = {
    "to be a frozen dataclass": _is_frozen,
    "a class attribute `name` in snake_case": _has_good_name,
    "a method `pick`": _has_pick,
}


def _hint(name: str) -> str:
    plain = name[:64].lower().replace("-", "_")
    if versions := [each for each in _policies if each.partition("@")[0] == plain.partition("@")[0] and "@" in each]:
        return f" ({plain.partition('@')[0]!r} of a plugin file is offered as {' and '.join(versions)})"
    near = [_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else difflib.get_close_matches(plain, names(), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _place(policy: object) -> str:
    if isinstance(policy, type):
        return f"{policy.__module__}.{policy.__qualname__}"
    return repr(policy)
