"""`role`: pods that do this kind of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from schedulers.parts import texts
from schedulers.types import LoadSnapshot, RequestInfo, Role

_ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class HasRole:
    """Passes pods whose role is one of `roles`. Source: llm-d's `decode-filter` and `prefill-filter`."""

    name: ClassVar[str] = "role"

    roles: tuple[str, ...] = texts("both", "decode")
    required: bool = True

    def __post_init__(self) -> None:
        unknown = [role for role in self.roles if role not in _ROLES]
        if unknown or not self.roles:
            raise ValueError(f"roles must be some of {', '.join(_ROLES)}, not {list(self.roles)}")

    def passes(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Sequence[int]:
        """Positions of the pods with such a role."""
        roles = self.roles
        return [at for at, (pod, _) in enumerate(snapshot.candidates) if pod.role in roles]
