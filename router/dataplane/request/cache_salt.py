"""The field `cache_salt` of a tenant's requests: engines share a cached prompt only between requests of equal salts, so
that no tenant can learn from times or `cached_tokens` what another has sent. Only for deployments with a tenant that
asks for it. Pure; knows no pod.
"""

from __future__ import annotations

from typing import Final

import msgspec

from router.access.tenants import Tenant
from router.dataplane.request import lenient_json, openai
from router.dataplane.request.multipart import is_form
from router.dataplane.request.owned_state import plain
from router.dataplane.request.paths import INFERENCE_PATHS, ROOT_PATHS

_SIGNS: Final = (b"cache_salt", b"\\u", b"\0")
"""What a body with the field contains at least one of: its name, an escape in it, or the zero bytes of UTF-16 and
UTF-32, which engines read as well."""


_PATHS: Final = INFERENCE_PATHS | ROOT_PATHS


class _Salted(msgspec.Struct, gc=False):
    cache_salt: msgspec.Raw = msgspec.Raw(b"null")


_decode: Final = msgspec.json.Decoder(_Salted).decode


def salted(path: bytes, content_type: bytes, body: bytes, tenant: Tenant) -> bytes:
    """The body with a salt that no other tenant can send: the tenant's name, and after it the client's own. A body
    without one stays as it is unless the tenant's cache is its own."""
    if not body or is_form(content_type) or (path not in _PATHS and plain(path).rstrip(b"/") not in _PATHS):
        return body
    if not tenant.isolate_cache and not any(sign in body for sign in _SIGNS):
        return body
    try:
        raw = bytes(_decode(lenient_json.readable(lenient_json.in_utf8(body))).cache_salt)
        text = msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""  # engines refuse what is no text
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, lenient_json.UnreadableBody):
        return body  # it is refused when it is read for its route
    if raw == b"null" and not tenant.isolate_cache:
        return body
    prefix = f"{tenant.name}:"
    return body if text.startswith(prefix) else openai.with_field(body, "cache_salt", prefix + text)
