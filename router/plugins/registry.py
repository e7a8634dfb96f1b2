"""The plugins of this process: the result of each file's check, which versions are offered, and when one is withdrawn.
Decides and keeps; reads no directory, starts no process and loads no file on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from router.plugins.directory import DirectoryListing
from router.plugins.loading import Loaded, PluginError, digest_of, load, unload
from router.plugins.thread_limit import bounded_in_thread
from router.plugins.types import CheckReport
from schedulers import registry
from schedulers.errors import SchedulerError
from schedulers.guard import PolicyQuit, PolicyTimeout

_log = logging.getLogger("turnout.plugins")

LOAD_S: Final = 20.0
"""Seconds that loading a checked file may take in this process. Its check allowed one of processor time; here the
thread that loads it shares the interpreter with requests, which do not wait for it."""


class UncheckedFile(NamedTuple):
    """A version of a file that has no check result yet."""

    file: str
    source: bytes


class LoadedFile(NamedTuple):
    """A version of a file after its check, and after loading it where the check passed."""

    report: CheckReport
    loaded: Loaded | None = None
    """None where the report names a problem."""


class PluginRegistry:
    """The files that are present, and the versions that are offered."""

    def __init__(self) -> None:
        """Empty."""
        self._files: dict[str, str] = {}
        """Digest by file name, as of the last listing."""
        self._unreadable: Mapping[str, str] = {}
        self._reports: dict[str, CheckReport] = {}
        """By digest."""
        self.problem = ""
        """Why the directory cannot be read."""

    def see(self, found: DirectoryListing) -> list[UncheckedFile]:
        """Note the listing; returns what has to be checked now."""
        if found.problem:
            self._note_problem(found.problem)
            return []
        self.problem = ""
        self._files = {file: digest_of(source) for file, source in found.sources.items()}
        for file, why in found.unreadable.items():
            if self._unreadable.get(file) != why:
                _log.error("plugin %s is not offered: it %s", file, why)
        self._unreadable = found.unreadable
        new = {
            digest: UncheckedFile(file, found.sources[file])
            for file, digest in self._files.items()
            if digest not in self._reports
        }
        return list(new.values())

    def take(self, file: LoadedFile) -> Sequence[str]:
        """Keep the result of a check and offer the policies; returns the names that are offered from now on."""
        report = _offered(file.report, file.loaded) if file.loaded is not None else file.report
        self._reports[report.digest] = report
        if report.problem:
            _log.error("plugin %s (%s) is not offered: %s", report.file, report.digest, report.problem)
            return ()
        names = ", ".join(report.names)
        message = "plugin %s offers %s: checked in %.1f s, %d recorded requests replayed"
        _log.info(message, report.file, names, report.took_s, report.replayed)
        return report.names

    def tidy(self, in_use: Collection[str]) -> Sequence[str]:
        """Withdraw versions whose file is gone and that are not `in_use`; returns the names withdrawn."""
        withdrawn: list[str] = []
        for digest in self._reports.keys() - set(self._files.values()):
            report = self._reports[digest]
            if not any(name in in_use for name in report.names):
                del self._reports[digest]
                _withdraw(report)
                withdrawn += report.names
        return withdrawn

    def describe(self) -> list[dict[str, object]]:
        """Each file with its check result, then older versions that are still offered."""
        files = [(file, self._reports.get(digest), digest) for file, digest in self._files.items()]
        listed = [_describe(file, digest, report, present=True) for file, report, digest in files]
        listed += [_unread(file, why) for file, why in self._unreadable.items()]
        older = [each for digest, each in self._reports.items() if digest not in self._files.values()]
        return listed + [_describe(each.file, each.digest, each, present=False) for each in older]

    def _note_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _log.error("plugins: %s; what is offered stays", problem)


def load_checked(due: UncheckedFile, report: CheckReport) -> LoadedFile:
    """Load the very bytes that were checked, if they passed. Blocks up to `LOAD_S` and more: not for the event loop."""
    if report.problem:
        return LoadedFile(report)
    try:
        return LoadedFile(report, bounded_in_thread(LOAD_S, load, due.source, due.file, _module(report.digest)))
    except (PluginError, PolicyTimeout, PolicyQuit, RuntimeError) as error:  # RuntimeError: no thread can be started
        return LoadedFile(_refused(report, error))


def _offered(report: CheckReport, loaded: Loaded) -> CheckReport:
    """Register the policies under their versioned names. Returns the report, with a problem if that fails."""
    try:
        for own_name, policy in loaded.policies.items():
            offered = f"{own_name}@{report.digest}"
            registry.offer(offered, policy)
            # Decisions name the version that made them. The class belongs to this load alone, so it can be renamed.
            setattr(policy, "name", offered)  # noqa: B010  a read-only property, as far as the protocol is concerned
    except SchedulerError as error:
        for name in report.names:
            registry.withdraw(name)
        return _refused(report, error)
    return report


def _refused(report: CheckReport, error: Exception) -> CheckReport:
    unload(_module(report.digest))
    return report._replace(policies=(), problem=f"passes its check, but not in the gateway: {error}")


def _withdraw(report: CheckReport) -> None:
    for name in report.names:
        registry.withdraw(name)
    unload(_module(report.digest))
    if report.names:
        _log.info("plugin %s is gone: %s is offered no more", report.file, ", ".join(report.names))


def _module(digest: str) -> str:
    return f"turnout_plugin_{digest}"


def _describe(file: str, digest: str, report: CheckReport | None, *, present: bool) -> dict[str, object]:
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
    return _describe(file, "", CheckReport(file, "", problem=why), present=True)
