"""Where keys come from: files, and the shared state. Opens what `auth` names and follows it; looks nothing up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from router.access.certificates import CertificateTenants
from router.access.identity import AccessControl
from router.access.keys import read_keys
from router.access.shared_keys import SharedKeys
from router.access.tenants import tenants_by_name
from router.followed_files import FollowedFiles
from router.settings import JwtAuth, Settings
from statesync.store.protocol import StateStore


class AccessSources(NamedTuple):
    """What says whose a request is, and where it learns that from."""

    control: AccessControl
    shared: SharedKeys | None
    """The keys in the shared state; None where they are not there."""
    files: Sequence[FollowedFiles[Any]]


def open_access(settings: Settings, store: StateStore, wall: Callable[[], float]) -> AccessSources | None:
    """What says whose a request is; None without `auth`. `wall` gives Unix seconds. Raises OSError, and ValueError for
    a file that cannot be used."""
    auth = settings.auth
    if auth is None:
        return None
    in_state = bool(auth.keys_from)
    control = AccessControl(
        tenants_by_name(settings.tenants), wall, unread=lambda: in_state and not store.health().warm
    )
    if certificates := CertificateTenants(control.tenants.values()):
        control.certificates = certificates
    files: list[FollowedFiles[Any]] = []
    if auth.keys_file:
        files.append(FollowedFiles([auth.keys_file], partial(read_keys, auth.keys_file), control.use))
    if auth.jwt is not None:
        files.append(_tokens(auth.jwt, control, wall))
    return AccessSources(control, SharedKeys(store, control, wall) if in_state else None, files)


def _tokens(settings: JwtAuth, control: AccessControl, wall: Callable[[], float]) -> FollowedFiles[Any]:
    """Let `control` accept tokens; returns the file of their keys."""
    from router.access.tokens import KeySet, TokenVerifier, read_key_set  # an extra: see there

    control.tokens = verifier = TokenVerifier(settings, control.tenants, wall)

    def use(keys: KeySet) -> None:
        verifier.use(keys)
        control.look_up_again()  # tokens of a key that is gone are refused

    files = FollowedFiles([settings.jwks_file], partial(read_key_set, settings.jwks_file), use)
    verifier.reread = files.again
    return files
