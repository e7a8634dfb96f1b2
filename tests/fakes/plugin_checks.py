"""A check of plugin files without a process, for tests of the steps before and after a check."""

from __future__ import annotations

from collections.abc import Sequence

from router.plugins.checking import CheckLimits
from router.plugins.examples import Example
from router.plugins.loading import PluginError, digest_of, load, unload
from router.plugins.types import CheckReport

MODULE = "turnout_plugin_that_is_checked"


def check(source: bytes, file: str, recorded: Sequence[Example] = (), limits: CheckLimits | None = None) -> CheckReport:
    """Replaces `checking.check`: a file that loads passes, and no policy is called."""
    try:
        policies = tuple(load(source, file, MODULE).policies)
    except PluginError as error:
        return CheckReport(file, digest_of(source), problem=str(error))
    finally:
        unload(MODULE)
    return CheckReport(file, digest_of(source), policies, replayed=len(recorded))
