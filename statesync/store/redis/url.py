"""Parses a --state URL for Redis: nodes, login, database, TLS. Pure, except that it reads the named certificate files.

No message made here repeats any part of a URL that could contain a password: not even what seems to be a port, as it
may be the end of a password that was not percent-encoded.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from statesync.errors import BadStoreUrl


class UrlForm(NamedTuple):
    """The meaning of a scheme."""

    kind: str
    """`server`, `socket`, `sentinel` or `cluster`."""
    tls: bool = False
    port: int = 6379
    """Port if the URL has none."""


FORMS: Final[Mapping[str, UrlForm]] = MappingProxyType(
    {
        "redis": UrlForm("server"),
        "rediss": UrlForm("server", tls=True),
        "unix": UrlForm("socket"),
        "redis+sentinel": UrlForm("sentinel", port=26379),
        "rediss+sentinel": UrlForm("sentinel", tls=True, port=26379),
        "redis+cluster": UrlForm("cluster"),
        "rediss+cluster": UrlForm("cluster", tls=True),
    }
)
"""The form of each scheme."""

_TLS_OPTIONS: Final = frozenset(
    {
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"),
        *("ssl_certfile", "ssl_keyfile", "ssl_password"),
    }
)
"""Options for TLS, with redis-py's names."""

_NO: Final = frozenset({"0", "f", "false", "n", "no"})
_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_NODE: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\s:\[\],/@]+))(?::(?P<port>[0-9]{1,5}))?")


class RedisUrl(NamedTuple):
    """A parsed --state URL. Its text shows no password."""

    form: UrlForm
    nodes: tuple[tuple[str, int], ...] = ()
    """Host and port each: the server, the sentinels, or some of the cluster's nodes."""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None
    path: str = ""
    """The unix socket."""
    service: str = ""
    """Sentinel's name for the master."""
    sentinel_username: str = ""
    sentinel_password: str = ""

    def __repr__(self) -> str:
        nodes = self.path or ",".join(f"{host}:{port}" for host, port in self.nodes)
        return f"<RedisUrl {self.form.kind} {nodes} {self.service}/{self.db}>"


def parse(url: str) -> RedisUrl:
    """Parse a URL. Raises BadStoreUrl, which says what is wrong and what to write instead."""
    scheme, mark, _ = url.partition("://")
    form = FORMS.get(scheme)
    if not mark or form is None:
        raise BadStoreUrl(f"not a URL for Redis; there are {', '.join(f'{name}://' for name in FORMS)}")
    parts = _split(url, scheme)
    options = _options(parts.query, scheme, form)
    username, password = _login(parts.netloc, scheme)
    service, db = _path(parts.path, options, scheme, form)
    return RedisUrl(
        form,
        nodes=() if form.kind == "socket" else _nodes(parts.netloc.rpartition("@")[2], scheme, form),
        username=username,
        password=password,
        db=_database(db, scheme),
        tls=_tls(options, scheme) if form.tls else None,
        path=unquote(parts.path) if form.kind == "socket" else "",
        service=service,
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
    )


def _split(url: str, scheme: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadStoreUrl(f"{scheme}://: brackets belong around an IPv6 address only") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise BadStoreUrl(f"{scheme}://: in a name or password write / ? # @ % as %2F %3F %23 %40 %25")
    if parts.fragment:
        raise BadStoreUrl(f"{scheme}://: nothing may follow a #")
    return parts


def _options(query: str, scheme: str, form: UrlForm) -> dict[str, str]:
    known = _known_options(form)
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if name not in known:
            problem = f"unknown option {name}" if name.isidentifier() else "an option without a name"
            raise BadStoreUrl(f"{scheme}://: {problem}; there are {', '.join(sorted(known))}")
    if len(dict(pairs)) < len(pairs):
        raise BadStoreUrl(f"{scheme}://: an option is given twice")
    return dict(pairs)


def _known_options(form: UrlForm) -> frozenset[str]:
    by_kind = {"sentinel": {"db", "sentinel_username", "sentinel_password"}, "cluster": set[str]()}
    return frozenset(by_kind.get(form.kind, {"db"}) | (_TLS_OPTIONS if form.tls else set()))


def _login(netloc: str, scheme: str) -> tuple[str, str]:
    login, mark, _ = netloc.rpartition("@")
    username, _, password = login.partition(":")
    if mark and not password:
        raise BadStoreUrl(f"{scheme}://: a login needs a password; one without a user name is :password@")
    return unquote(username), unquote(password)


def _nodes(hosts: str, scheme: str, form: UrlForm) -> tuple[tuple[str, int], ...]:
    if "," in hosts and form.kind == "server":
        raise BadStoreUrl(f"{scheme}:// takes one host; several need redis+sentinel:// or redis+cluster://")
    found = [_NODE.fullmatch(node) for node in hosts.split(",")]
    nodes = tuple((unquote(node["v6"] or node["name"]), int(node["port"] or form.port)) for node in found if node)
    if len(nodes) < len(found) or not all(0 < port < 65536 for _, port in nodes):
        many = ",host:port,..." if form.kind != "server" else ""
        raise BadStoreUrl(f"{scheme}:// needs host:port{many}, with a port from 1 to 65535; IPv6 as [::1]:{form.port}")
    return nodes


def _path(path: str, options: Mapping[str, str], scheme: str, form: UrlForm) -> tuple[str, str]:
    """The service and the database, as written."""
    steps = path.strip("/").split("/")
    if form.kind == "socket":
        if not path:
            raise BadStoreUrl(f"{scheme}:// needs the path of a socket: unix:///run/redis.sock")
        return "", options.get("db", "")
    if form.kind == "cluster" and path.strip("/"):
        raise BadStoreUrl(f"{scheme}:// has no databases; nothing may follow the hosts")
    service = unquote(steps.pop(0)) if form.kind == "sentinel" else ""
    if form.kind == "sentinel" and not service:
        raise BadStoreUrl(f"{scheme}:// needs the master's name: {scheme}://host:26379/mymaster")
    if len(steps) > 1 or (steps and steps[0] and "db" in options):
        raise BadStoreUrl(f"{scheme}:// takes one database: /0 or ?db=0")
    return service, options.get("db", "") or "".join(steps)


def _database(written: str, scheme: str) -> int:
    if not re.fullmatch(r"[0-9]{0,9}", written):
        raise BadStoreUrl(f"{scheme}://: a database is a number: /0")
    return int(written or 0)


def _tls(options: Mapping[str, str], scheme: str) -> ssl.SSLContext:
    reqs = _CERT_REQS.get(options.get("ssl_cert_reqs", "required").lower())
    if reqs is None:
        raise BadStoreUrl(f"{scheme}://: ssl_cert_reqs is one of {', '.join(_CERT_REQS)}")
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
        )
        if "ssl_certfile" in options:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(
                options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password", "")
            )
    except OSError as error:
        named = ", ".join(sorted(options.keys() & _TLS_OPTIONS - {"ssl_password"})) or "the system's certificates"
        raise BadStoreUrl(f"{scheme}://: {named}: {error.strerror or 'not what OpenSSL can read'}") from None
    context.check_hostname = reqs != ssl.CERT_NONE and options.get("ssl_check_hostname", "1").lower() not in _NO
    context.verify_mode = reqs
    return context
