"""The plugins of this process: what each file's check has said, which policies are offered, and when one goes. Decides
and keeps; looks at no directory and starts no process. Main thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from router.plugins.directory import DirectoryListing
from router.plugins.loading import PluginError, digest_of, load, unload
from router.plugins.types import CheckReport
from router.plugins.watchdog import bounded
from schedulers import registry
from schedulers.errors import SchedulerError
from schedulers.guard import PolicyQuit, PolicyTimeout

_log = logging.getLogger("turnout.plugins")

LOAD_S: Final = 2.0
"""Loading a file that took less in its check; every request waits meanwhile."""


class UncheckedFile(NamedTuple):
    """A version of a file that nobody has checked."""

    file: str
    source: bytes


class PluginRegistry:
    """What is there, and what is offered of it."""

    def __init__(
        self, in_use: Callable[[], Collection[str]], offered: Callable[[str], None], withdrawn: Callable[[str], None]
    ) -> None:
        """`in_use` names policies that somebody may still come back to; the others hear of names that come and go."""
        self._in_use = in_use
        self._offered = offered
        self._withdrawn = withdrawn
        self._files: dict[str, str] = {}
        """Digest by file name, as of the last look."""
        self._unreadable: Mapping[str, str] = {}
        self._reports: dict[str, CheckReport] = {}
        """By digest."""
        self.problem = ""
        """Why the directory cannot be looked at."""

    def see(self, found: DirectoryListing) -> list[UncheckedFile]:
        """Take note of a look; what has to be checked now."""
        if found.problem:
            self._tell_problem(found.problem)
            return []
        self.problem = ""
        self._files = {file: digest_of(source) for file, source in found.sources.items()}
        self._unreadable = found.unreadable
        new = {
            digest: UncheckedFile(file, found.sources[file])
            for file, digest in self._files.items()
            if digest not in self._reports
        }
        return list(new.values())

    def take(self, due: UncheckedFile, report: CheckReport) -> None:
        """Its check is through: load and offer it, or say why not."""
        if not report.problem:
            report = _offer(due, report)
        self._reports[report.digest] = report
        if report.problem:
            _log.error("plugin %s (%s) is not offered: %s", report.file, report.digest, report.problem)
            return
        names = ", ".join(report.names)
        words = "plugin %s offers %s: checked in %.1f s, %d recorded requests replayed"
        _log.info(words, report.file, names, report.took_s, report.replayed)
        for name in report.names:
            self._offered(name)

    def tidy(self) -> None:
        """Withdraw versions that are no longer there and that nobody may come back to."""
        gone = self._reports.keys() - set(self._files.values())
        in_use = self._in_use() if gone else ()
        for digest in gone:
            report = self._reports[digest]
            if not any(name in in_use for name in report.names):
                del self._reports[digest]
                self._withdraw(report)

    def shown(self) -> list[dict[str, object]]:
        """Each file with the result of its last check, then older versions that are still offered."""
        files = [(file, self._reports.get(digest), digest) for file, digest in self._files.items()]
        listed = [_shown(file, digest, report, present=True) for file, report, digest in files]
        listed += [_unread(file, why) for file, why in self._unreadable.items()]
        older = [each for digest, each in self._reports.items() if digest not in self._files.values()]
        return listed + [_shown(each.file, each.digest, each, present=False) for each in older]

    def _withdraw(self, report: CheckReport) -> None:
        for name in report.names:
            registry.withdraw(name)
            self._withdrawn(name)
        unload(_module(report.digest))
        if report.names:
            _log.info("plugin %s is gone: %s is offered no more", report.file, ", ".join(report.names))

    def _tell_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _log.error("plugins: %s; what is offered stays", problem)


def _offer(due: UncheckedFile, report: CheckReport) -> CheckReport:
    """Load the very bytes that were checked. The report again, with a problem if that fails nevertheless."""
    module = _module(report.digest)
    try:
        loaded = bounded(LOAD_S, load, due.source, due.file, module)
        for own_name, policy in loaded.policies.items():
            offered = f"{own_name}@{report.digest}"
            registry.offer(offered, policy)
            # Its decisions then say which version made them; it is this load's class and nobody else's.
            setattr(policy, "name", offered)  # noqa: B010  a read-only property, as far as the protocol is concerned
    except (PluginError, PolicyTimeout, PolicyQuit, SchedulerError) as error:
        unload(module)
        for name in report.names:
            registry.withdraw(name)
        return report._replace(policies=(), problem=f"passes its check, but not in the gateway: {error}")
    return report


def _module(digest: str) -> str:
    return f"turnout_plugin_{digest}"


def _shown(file: str, digest: str, report: CheckReport | None, *, present: bool) -> dict[str, object]:
    about = report or CheckReport(file, digest, problem="is being checked")
    return {
        "file": file,
        "digest": digest,
        "policies": list(about.names),
        "problem": about.problem,
        "present": present,
        "load_s": about.load_s,
        "pick_us": {name: dict(by_pods) for name, by_pods in about.pick_us.items()},
        "replayed": about.replayed,
        "check_s": about.took_s,
    }


def _unread(file: str, why: str) -> dict[str, object]:
    return _shown(file, "", CheckReport(file, "", problem=why), present=True)
