"""Parses and checks a `kubernetes://` URL: names, label selectors and ports by the rules of the API server, so that
`turnout check` finds mistakes before a cluster does. No network, no client.

    kubernetes://NAMESPACE[,NAMESPACE...]?selector=LABELS[&port=PORT]      pods by label, in these namespaces
    kubernetes://*?selector=LABELS                                         in all of them
    kubernetes://?selector=LABELS                                          in the gateway's own
    kubernetes+service://[NAMESPACE/]SERVICE[?port=PORT]                   the endpoints of a Service
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from statesync.errors import DiscoveryError

RELIST_S: Final = 300.0
"""Seconds between two full lists: a deletion that the watch lost is noticed within this time."""
MIN_RELIST_S: Final = 10.0
"""Least seconds between two full lists: one of 1,000 pods is about 10 MB for the API server."""

ALL: Final = "*"
SERVICE_SCHEME: Final = "kubernetes+service"

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_COMMA_OUTSIDE = re.compile(r",(?![^(]*\))")
_IN = re.compile(r"(?P<key>\S+)\s+(?:in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALS = re.compile(r"(?P<key>[^=!<>\s]+)\s*(?:==|=|!=|<|>)\s*(?P<values>[^=!<>\s]*)")
_EXISTS = re.compile(r"!?\s*(?P<key>[^=!<>\s()]+)(?P<values>)")


class KubernetesTarget(NamedTuple):
    """The pods to follow, and the cluster."""

    namespaces: tuple[str, ...]
    """`*` for all; empty for the gateway's own."""
    selector: str = ""
    service: str = ""
    """Follow this Service's endpoints; empty: follow pods."""
    port: str = ""
    """Number or name; empty: the pod declares it."""
    context: str = ""
    """Context of the kubeconfig; empty: the current one."""
    kubeconfig: str = ""
    """A file; empty: KUBECONFIG, the service account, or ~/.kube/config."""
    relist_s: float = RELIST_S

    @property
    def places(self) -> tuple[str, ...]:
        """The namespace of each watch; an empty one is the gateway's own."""
        return self.namespaces or ("",)


def target_of(url: str) -> KubernetesTarget:
    """The target of the URL. Raises DiscoveryError, which says what to write."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    service = scheme == SERVICE_SCHEME
    try:
        params = _params(query)
        target = (_of_service if service else _of_pods)(place.rstrip("/"), params)
        _check(target)
    except ValueError as error:
        raise DiscoveryError(f"discovery source {url!r}: {error}") from None
    return target


def _params(query: str) -> Mapping[str, str]:
    """A selector may contain `=`, `,` and spaces, so only `&` and the first `=` separate; the rest may be %-encoded."""
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in _PARAMS:
            raise ValueError(f"unknown parameter {key!r}; there are {', '.join(_PARAMS)}")
        if key in found:
            raise ValueError(f"{key} is given twice; requirements of a selector are divided by commas")
        found[key] = unquote(value).strip()
    return found


def _of_pods(place: str, params: Mapping[str, str]) -> KubernetesTarget:
    if not params.get("selector"):
        raise ValueError("which pods? write ?selector=app=vllm, or kubernetes+service://NAMESPACE/SERVICE")
    return _filled(tuple(unquote(place).split(",")) if place else (), "", params)


def _of_service(place: str, params: Mapping[str, str]) -> KubernetesTarget:
    namespace, _, service = unquote(place).rpartition("/")
    if not service:
        raise ValueError("which Service? write kubernetes+service://NAMESPACE/SERVICE")
    if "selector" in params:
        raise ValueError("a Service has its own selector; write kubernetes:// to select pods")
    if namespace == ALL:
        raise ValueError("a Service is in one namespace")
    return _filled((namespace,) if namespace else (), service, params)


def _filled(namespaces: tuple[str, ...], service: str, params: Mapping[str, str]) -> KubernetesTarget:
    text = params.get("relist_s", str(RELIST_S))
    try:
        relist_s = float(text)
    except ValueError:
        raise ValueError(f"relist_s is a number of seconds, not {text!r}") from None
    if not MIN_RELIST_S <= relist_s < float("inf"):
        raise ValueError(f"relist_s is at least {MIN_RELIST_S:g} seconds, not {text}")
    selector, port, context, kubeconfig = (params.get(key, "") for key in ("selector", "port", "context", "kubeconfig"))
    return KubernetesTarget(namespaces, selector, service, port, context, kubeconfig, relist_s)


_PARAMS = ("selector", "port", "context", "kubeconfig", "relist_s")


def _check(target: KubernetesTarget) -> None:
    if ALL in target.namespaces and len(target.namespaces) > 1:
        raise ValueError("`*` stands for all namespaces; write it alone")
    if len(set(target.namespaces)) < len(target.namespaces):
        raise ValueError("a namespace is listed twice")
    for namespace in target.namespaces:
        if namespace != ALL:
            _must(_is(_DNS_LABEL), namespace, "is no namespace's name")
    if target.service:
        _must(_is(_DNS_LABEL), target.service, "is no Service's name")
    if target.port:
        _must(is_port, target.port, "is neither a port number nor a port's name")
    if target.selector:
        _check_selector(target.selector)


def is_port(text: str) -> bool:
    """Whether it is a port's number or, as containers and Services have them, a port's name."""
    return 0 < int(text) < 65536 if text.isdecimal() else _PORT_NAME.fullmatch(text) is not None


def _check_selector(selector: str) -> None:
    for part in _COMMA_OUTSIDE.split(selector):
        requirement = part.strip()
        found = next(filter(None, (form.fullmatch(requirement) for form in (_IN, _EQUALS, _EXISTS))), None)
        if found is None:
            raise ValueError(f"{requirement!r} is no label requirement; write app=vllm, tier in (a,b), gpu or !gpu")
        prefix, slash, name = found["key"].rpartition("/")
        if slash:
            _must(_is(_DNS_NAME), prefix, "is no prefix of a label")
        _must(_is(_LABEL_NAME), name, "is no label's name")
        for value in found["values"].split(","):
            if value.strip():
                _must(_is(_LABEL_NAME), value.strip(), "is no label's value")


def _is(form: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: form.fullmatch(text) is not None


def _must(holds: Callable[[str], bool], text: str, words: str) -> None:
    if not holds(text):
        raise ValueError(f"{text!r} {words}")
