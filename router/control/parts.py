"""What the control port keeps as long as it lives, and shows of it in the metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from router.control.audit import AuditLog
from router.control.tokens import ControlTokens
from router.settings import Control
from router.telemetry.family import Family, single


class ControlParts(NamedTuple):
    """Tokens and audit log."""

    tokens: ControlTokens
    audit: AuditLog | None
    """None where changes are not audited."""

    @classmethod
    def of(cls, control: Control, replica: str, clock: Callable[[], float]) -> Self:
        """Those of the settings. Opens no file for writing yet."""
        audit = AuditLog(control, replica, wall=time.time, clock=clock) if control.audit_file else None
        return cls(ControlTokens(control, os.environ, time.time), audit)

    def families(self) -> Iterator[Family]:
        """The metrics."""
        if (audit := self.audit) is not None:
            yield single("counter", "turnout_audit_lost", "Audit lines that the disk did not take.", audit.lost)
