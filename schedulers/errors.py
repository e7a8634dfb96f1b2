"""What can be wrong with a policy's name or parameters. Each message says what, where and what to do."""

from __future__ import annotations


class SchedulerError(Exception):
    """Root of everything this package raises."""


class UnknownPolicy(SchedulerError):
    """A name that is not in the registry."""


class InvalidParams(SchedulerError):
    """Parameters that the policy does not have, or values it refuses."""


class DuplicatePolicy(SchedulerError):
    """Two policies with one name."""


class InvalidPolicy(SchedulerError):
    """A class that cannot be a policy, or an entry point that does not lead to one."""
