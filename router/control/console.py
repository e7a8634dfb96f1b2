"""The web console, `/console`: static files of this package, for browsers. They ask the admin API with the viewer's own
token; the page itself shows nothing and needs none. Nothing comes from another host.

The files are under a path with their digest, so that browsers may keep them: another version has another path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from router.control.answers import ControlError

CONSOLE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy."""

FOLDER: Final = Path(__file__).parent / "static"
PAGE: Final = "index.html"
_KINDS: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BASE: Final = b"{{base}}"
"""In the page: where its files are."""


class ConsoleFiles(NamedTuple):
    """All files, and their digest."""

    version: str
    page: bytes
    files: Mapping[str, bytes]


@cache
def console_files() -> ConsoleFiles:
    """Read them, at first use."""
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in _KINDS}
    version = hashlib.sha256(b"".join([name.encode() + text for name, text in files.items()])).hexdigest()[:16]
    page = files.pop(PAGE).replace(_BASE, f"/console/{version}".encode())
    return ConsoleFiles(version, page, files)


def console_routes(_: object) -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def root() -> Response:
        """To the console."""
        return RedirectResponse("/console")

    @router.get("/console")
    async def page(request: Request) -> Response:
        """The page, for people."""
        found = console_files()
        tag = f'"{found.version}"'
        headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": CONSOLE_POLICY}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(found.page, headers=headers | {"referrer-policy": "no-referrer"}, media_type="text/html")

    @router.get("/console/{version}/{name}")
    async def file(version: str, name: str) -> Response:
        """A file of the page."""
        found = console_files()
        if version != found.version or name not in found.files:
            raise ControlError(404, "not_found", "the console has no such file; load the page again")
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(found.files[name], headers=headers, media_type=_KINDS[Path(name).suffix])

    return router
