"""Which pool serves a model: two dictionaries, rebuilt when the models of a pool change. Knows no load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from router.dataplane.request.model_cards import CardCatalog
from router.errors import BadRequest, MissingModel, ModelNotFound, PoolNotFound, TargetNotAllowed
from router.settings import LLM, Pool, Timeouts

_HINT_MODELS: Final = 100
"""Models that are served up to which an unknown name is compared with them."""
_HINT_APART: Final = 3
"""Characters by which a name may differ from the unknown one, in one place, and its length."""

Allowed = Callable[[Pool], bool]
"""Whether a client may choose this pool by header."""


_NO_MODELS: Final[frozenset[str]] = frozenset()


class Route(NamedTuple):
    """The pool that serves a model name, and the name there."""

    pool: str
    model: str
    """The name that the pods know; for an alias not the one that the client sent."""


class Routes:
    """Model names and explicit targets -> pools."""

    def __init__(
        self,
        pools: Iterable[Pool],
        default_pool: str,
        timeouts: Timeouts,
        *,
        lists_of: Routes | None = None,
        may_use: Callable[[str], bool] | None = None,
    ) -> None:
        """`lists_of`: shares the pods' lists of models with these routes. `may_use`: which names of models may be used;
        all without it."""
        self.every: Mapping[str, Pool] = {pool.name: pool for pool in pools}
        self.pools: Mapping[str, Pool] = {name: pool for name, pool in self.every.items() if pool.kind == LLM}
        """Those that serve models. No model and no header leads to the others: their paths do."""
        self.timeouts: Mapping[str, Timeouts] = {
            name: timeouts if pool.timeouts is None else pool.timeouts for name, pool in self.every.items()
        }
        self.clusters: Mapping[str, str] = {name: cluster_of(pool) for name, pool in self.every.items()}
        """Pool -> its cluster; empty where it names none."""
        self.default_pool = default_pool if default_pool in self.pools else ""
        halves = {pool.disaggregation.prefill_pool for pool in self.pools.values() if pool.disaggregation is not None}
        self._by_itself = [name for name in self.pools if name not in halves]
        """Pools that requests reach by their model; those that only compute prompts for others are left out."""
        self.may_learn = bool(default_pool) or not all(pool.models for pool in self.pools.values())
        """Whether a pod's list may make a model reachable, or say which pods of the default pool have it."""
        self.may_use: Callable[[str], bool] = may_use or _any
        """Whether a name of a model may lead anywhere here; an empty one stands for a request without a model."""
        self.cards: CardCatalog = CardCatalog() if lists_of is None else lists_of.cards
        self._learned: dict[str, dict[str, frozenset[str] | None]] = {} if lists_of is None else lists_of._learned
        """Pool -> pod -> the models that it lists; None if it has no list."""
        self._served: dict[str, Counter[str]] = {} if lists_of is None else lists_of._served
        """Pool -> model -> how many pods serve it. Routes change only with the first and the last of these pods."""
        self.version = 0
        """Counts the times that they changed."""
        self.by_model: dict[str, Route] = {}
        """The route of every known model name; `resolve` finds the others."""
        self._by_pool: dict[str, dict[str, Route]] = {}
        self.rebuild()

    def learned(self, pool: str, pod: str, models: frozenset[str] | None) -> None:
        """Take in the models that a pod lists, None if it has no list; they count for pools whose models are not
        configured."""
        known, served = self._learned.setdefault(pool, {}), self._served.setdefault(pool, Counter())
        before, now = known.get(pod) or _NO_MODELS, models or _NO_MODELS
        known[pod] = models
        come = now - before
        added = [model for model in come if not served[model]]
        served.update(come)
        if _discount(served, before - now) or added:
            self.rebuild()

    def takes(self, model: str) -> bool:
        """Whether a pool takes the model though no pod is known to have it."""
        return self._anywhere(model) is not None

    def knows(self, model: str) -> bool:
        """Whether a pod of any pool lists the model."""
        return any(model in served for pool, served in self._served.items() if pool in self.pools)

    def may_appear(self, model: str) -> bool:
        """Whether a look at the pods' lists may find the model."""
        return self.may_learn and self.may_use(model) and not self.knows(model)

    def lists(self, pool: str, pod: str, model: str) -> bool:
        """Whether the pod lists the model."""
        return model in (self._learned.get(pool, {}).get(pod) or ())

    def may_serve(self, pool: str, model: str) -> bool:
        """Whether a pod of the pool may have the model, which is the pods' name of it."""
        listed = model in self._served.get(pool, ())
        return listed or bool(self.pools[pool].models) or pool == self.default_pool or self._takes_any(pool)

    def lacks(self, pool: str, pod: str, model: str) -> bool:
        """Whether the pod lists its models, and this one is not among them."""
        listed = self._learned.get(pool, {}).get(pod)
        return listed is not None and model not in listed

    def pools_learned(self) -> set[str]:
        """Pools with at least one pod that reported its models."""
        return {pool for pool, known in self._learned.items() if known}

    def forgotten(self, pool: str, pods: Collection[str]) -> None:
        """Remove pods that are gone, and the models that only they served."""
        self.cards.forget(pool, pods)
        learned, served = self._learned.get(pool, {}), self._served.get(pool, Counter())
        # Not `any`, which would stop at the first pod.
        if sum([_discount(served, learned.pop(pod) or _NO_MODELS) for pod in pods if pod in learned]):
            self.rebuild()

    def models(self) -> dict[str, str]:
        """Every model name that clients may use -> its pool, in the order of the pools."""
        return {name: route.pool for name, route in self.by_model.items()}

    def resolve(
        self, model: str, pool: bytes | None = None, cluster: bytes | None = None, allowed: Allowed | None = None
    ) -> Route:
        """The route of a request that may name a pool or a cluster. `allowed`: which of them its client may choose.

        Raises ModelNotFound, PoolNotFound or TargetNotAllowed, each with what there is instead, or BadRequest.
        """
        if pool is None and cluster is None:
            if not model:
                return self._without_model()
            route = self.by_model.get(model) or self._anywhere(model)
            if route is None:
                raise self._not_found(model, self.by_model)
            return route
        named = self._named(_text(pool, "x-turnout-pool"), _text(cluster, "x-turnout-cluster"))
        return self._among([each.name for each in self._permitted(named, model, allowed)], model)

    def onward(self, asked: str, route: Route, cluster: bytes | None, allowed: Allowed | None = None) -> list[Route]:
        """The other routes that may serve a request, in order: those in the `cluster` it asked for, then the fall-backs
        of its pool. `asked` is the model as the client calls it."""
        home = self.every[route.pool]
        if home.kind != LLM:
            return [Route(name, "") for name in home.fallback if name in self.every]
        named = self._named(None, _text(cluster, "")) if cluster is not None else []
        siblings = [each.name for each in named if allowed is None or allowed(each)]
        others = [
            name for name in dict.fromkeys((*siblings, *home.fallback)) if name != home.name and name in self.pools
        ]
        ways = [self._by_pool[name].get(asked) or self._served_by(name, route.model) for name in others]
        return [way for way in ways if way is not None]

    def within(self, pool: str, asked: str, model: str) -> Route:
        """The route to this pool, wherever the model leads. `asked` is the model as the client calls it, `model` its
        name where the pool knows no other."""
        return self._by_pool[pool].get(asked) or Route(pool, model)

    def _without_model(self) -> Route:
        """The route of a request that names no model: its pods know what they serve."""
        name = self._for_no_model()
        if not name:
            raise MissingModel(
                "The request names no model and there are several pools. Set 'model' to one that GET /v1/models lists.",
                param="model",
            )
        return Route(name, "")

    def _for_no_model(self) -> str:
        """The pool that takes a request without a model; empty if there is none."""
        if not self.may_use(""):
            return ""
        return self.default_pool or (self._by_itself[0] if len(self._by_itself) == 1 else "")

    def _anywhere(self, model: str) -> Route | None:
        """The route of a model that no pool is known to serve."""
        if not self.may_use(model):
            return None
        return next(
            (Route(name, model) for name in self._by_itself if self._takes_any(name) or name == self.default_pool),
            None,
        )

    def _named(self, pool: str | None, cluster: str | None) -> list[Pool]:
        named = [
            each
            for each in self.pools.values()
            if pool in (None, each.name) and cluster in (None, self.clusters[each.name])
        ]
        if not named:
            wanted = f"pool {pool!r}" if pool is not None else f"cluster {cluster!r}"
            both = f" in cluster {cluster!r}" if pool is not None and cluster is not None else ""
            clusters = sorted(set(self.clusters.values()) - {""})
            there = f"pools: {', '.join(self.pools)}" + (f"; clusters: {', '.join(clusters)}" if clusters else "")
            raise PoolNotFound(f"There is no {wanted}{both} here. What there is: {there}.")
        return named

    def _permitted(self, named: list[Pool], model: str, allowed: Allowed | None) -> list[Pool]:
        """Those of `named` that the client may choose. It may always name the pool that its model leads to."""
        if allowed is None:
            return named
        route = self.by_model.get(model) or self._anywhere(model)
        by_itself = self._for_no_model() if not model else "" if route is None else route.pool
        permitted = [each for each in named if allowed(each) or by_itself == each.name]
        if not permitted:
            raise TargetNotAllowed(f"This client may not choose {' or '.join(repr(each.name) for each in named)}.")
        return permitted

    def _among(self, names: list[str], model: str) -> Route:
        if not model:
            return Route(names[0], "") if self.may_use("") else self._without_model()
        for name in names if self.may_use(model) else ():
            route = self._by_pool[name].get(model)
            if route is not None:
                return route
        for name in names if self.may_use(model) else ():
            if self._takes_any(name):
                return Route(name, model)
        there = {known: None for name in names for known in self._by_pool[name] if self.may_use(known)}
        raise self._not_found(model, there)

    def _served_by(self, name: str, model: str) -> Route | None:
        route = self._by_pool[name].get(model)
        if route is None and (self._takes_any(name) or name == self.default_pool):
            return Route(name, model)  # its pods accept or refuse the model
        return route

    def _takes_any(self, pool: str) -> bool:
        """A pool whose models are not configured takes every name if its pods list none, or if one has no list; its
        pods accept or refuse the name."""
        if self.pools[pool].models:
            return False
        return not self._served.get(pool) or None in self._learned[pool].values()

    def _not_found(self, model: str, known: Mapping[str, object]) -> ModelNotFound:
        near = [name for name in known if name[:2] == model[:2]] if len(known) <= _HINT_MODELS else []
        alike = [(_apart(name, model), name) for name in near if abs(len(name) - len(model)) <= _HINT_APART]
        apart, close = min(alike, default=(len(model), ""))
        hint = f" Did you mean {close!r}?" if close and apart <= _HINT_APART else ""
        return ModelNotFound(
            f"The model {model[:200]!r} does not exist here.{hint} GET /v1/models lists what does.", param="model"
        )

    def rebuild(self) -> None:
        """Find the routes of all known models anew."""
        by_model: dict[str, Route] = {}
        by_pool: dict[str, dict[str, Route]] = {}
        for name, pool in self.pools.items():
            served = pool.models or sorted(self._served.get(name, ()))
            mine = {model: Route(name, model) for model in served}
            mine |= {alias: Route(name, model) for alias, model in pool.aliases.items()}
            by_pool[name] = mine
            for model, route in mine.items() if name in self._by_itself else ():
                if self.may_use(model):
                    by_model.setdefault(model, route)  # the first pool in the file wins
        self.by_model, self._by_pool = by_model, by_pool
        self.version += 1


def _apart(one: str, other: str) -> int:
    """Characters of the longer name between the beginning and the end that both have."""
    shorter, longer = sorted((len(one), len(other)))
    begin = end = 0
    while begin < shorter and one[begin] == other[begin]:
        begin += 1
    while end < shorter - begin and one[-1 - end] == other[-1 - end]:
        end += 1
    return longer - begin - end


def _any(model: str) -> bool:
    return True


def cluster_of(pool: Pool) -> str:
    """The cluster a pool is in; empty if it names none."""
    return pool.cluster or pool.labels.get("cluster", "")


def _discount(served: Counter[str], models: frozenset[str]) -> bool:
    """Count one pod less for each of these models; returns whether one of them has no pod left."""
    served.subtract(models)
    last = [model for model in models if not served[model]]
    for model in last:
        del served[model]
    return bool(last)


def _text(value: bytes | None, header: str) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"The header {header} is not UTF-8.") from None
