"""Which `x-turnout-*` headers of a request count, as the rights of its tenant have it. Pure: headers and a tenant in,
headers out; the stages after routing read the result and know nothing of rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.access.tenants import EVERYTHING, Tenant
from router.errors import BadRequest, PermissionDenied

PRIORITY: Final = b"x-turnout-priority"
POLICY: Final = b"x-turnout-policy"

_BY_RIGHT: Final[Mapping[str, tuple[bytes, ...]]] = {
    "deadline": (b"x-turnout-deadline-ms",),
    "slo": (b"x-turnout-slo-ttft-ms", b"x-turnout-slo-tpot-ms"),
}
"""Headers that are as if they were not there without the right."""

_READ: Final = (PRIORITY, POLICY, *(name for names in _BY_RIGHT.values() for name in names))

RIGHTS: Final = ("priority", *_BY_RIGHT)
"""What a tenant's `headers` may name."""


def as_permitted(header_map: dict[bytes, bytes], tenant: Tenant) -> dict[bytes, bytes]:
    """The headers that count; the same mapping where all do. Raises PermissionDenied for a policy that the tenant may
    not choose, and BadRequest for a priority that is no number."""
    if not tenant.priority and not _names_any(header_map):
        return header_map  # the common case, in a tenth of the time
    policy = header_map.get(POLICY)
    if policy is not None:
        _check_policy(policy.decode("latin-1"), tenant)
    ignored = [name for right, names in _BY_RIGHT.items() if not _has(tenant, right) for name in names]
    asked = header_map.get(PRIORITY)
    priority = _priority(asked, tenant)
    if priority == asked and not any(name in header_map for name in ignored):
        return header_map
    counted = {name: value for name, value in header_map.items() if name not in ignored}
    if priority is not None:
        counted[PRIORITY] = priority
    return counted


def _names_any(header_map: dict[bytes, bytes]) -> bool:
    for name in _READ:  # a generator would cost more than all the look-ups
        if name in header_map:
            return True
    return False


def may_choose(policy: str, tenant: Tenant | None) -> bool:
    """Whether a request of the tenant may choose the policy, where its pool offers it."""
    return tenant is None or EVERYTHING in tenant.policies or policy in tenant.policies


def _check_policy(policy: str, tenant: Tenant) -> None:
    if not may_choose(policy, tenant):
        what = ", ".join(sorted(tenant.policies)) or "none"
        raise PermissionDenied(f"This key may not choose policy {policy[:64]!r}; it may choose: {what}.")


def _has(tenant: Tenant, right: str) -> bool:
    return right in tenant.headers or EVERYTHING in tenant.headers


def _priority(asked: bytes | None, tenant: Tenant) -> bytes | None:
    """The priority as the header has it: that of the tenant in place of none, and as the highest one without the right
    to a higher one."""
    if asked is None:
        return b"%d" % tenant.priority if tenant.priority else None
    if _has(tenant, "priority"):
        return asked
    try:
        return asked if int(asked) <= tenant.priority else b"%d" % tenant.priority
    except ValueError:
        raise BadRequest("The header x-turnout-priority must be a whole number.") from None
