"""Every policy of this gateway by name: the registry's, and those ready-made in the settings.

A ready-made policy (`policies: {fast: {name: ..., params: {...}}}`) is built once, at start, and its name is used like
any other. It takes no parameters, because the settings give them.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.policy.model import Create
from router.settings import PolicySpec
from schedulers import registry
from schedulers.errors import InvalidParams, UnknownPolicy
from schedulers.named import Named
from schedulers.protocols import Scheduler


class PolicyCatalog:
    """Names -> policies."""

    def __init__(self, ready_made: Mapping[str, PolicySpec], create: Create = registry.create) -> None:
        """Builds the ready-made ones. Raises UnknownPolicy or InvalidParams, naming the one that cannot be built.

        `create` builds what is in the registry.
        """
        self._create = create
        self._ready = {name: _built(name, spec, create) for name, spec in ready_made.items()}
        self._by_name = {name: self.create(name) for name in self.names()}

    def names(self) -> tuple[str, ...]:
        """Every name that `create` takes: the registry's first."""
        return (*registry.names(), *self._ready)

    def create(self, name: str, params: Mapping[str, object] | None = None) -> Scheduler:
        """The policy `name`. Raises UnknownPolicy or InvalidParams, saying what would be right."""
        ready = self._ready.get(name)
        if ready is None:
            return self._registered(name, params)
        if params:
            raise InvalidParams(
                f"policy {name!r} is ready-made in the settings and takes no parameters; "
                f"ask for {ready.policy.name!r} to give your own"
            )
        # A new object each time: a policy that was taken out for its failures is identified by its object, and decides
        # again when an operator sets it again.
        return Named(name, ready.policy)

    def by_name(self) -> Mapping[str, Scheduler]:
        """Each policy with its default parameters, or as it is ready-made: what a request may ask for.

        One mapping for the life of the catalog; `add` and `remove` change it.
        """
        return self._by_name

    def add(self, name: str) -> None:
        """Offer a policy that was registered after the catalog was built. Raises UnknownPolicy or InvalidParams."""
        self._by_name[name] = self.create(name)

    def remove(self, name: str) -> None:
        """Stop offering a policy; nothing happens if it is not offered."""
        self._by_name.pop(name, None)

    def _registered(self, name: str, params: Mapping[str, object] | None) -> Scheduler:
        try:
            return self._create(name, {} if params is None else params)
        except UnknownPolicy as error:
            if not self._ready:
                raise
            raise UnknownPolicy(f"{error}; ready-made: {', '.join(self._ready)}") from None


def _built(name: str, spec: PolicySpec, create: Create) -> Named:
    try:
        return Named(name, create(spec.name, spec.params))
    except (UnknownPolicy, InvalidParams) as error:
        raise type(error)(f"ready-made policy {name!r}: {error}") from None
