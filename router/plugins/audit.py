"""What a file may do while it is checked, in a process of its own: compute, and read. A policy does no I/O, so other
actions are refused and reported. It is a check, not a security boundary: a plugin that passes runs with all the
gateway's rights.
"""

from __future__ import annotations

import io
import os
import resource
import sys
import threading
from typing import Final

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_REFUSED: Final = {
    "socket.": "it opens a socket",
    "subprocess.Popen": "it starts a process",
    "os.system": "it starts a process",
    "os.exec": "it starts a process",
    "os.fork": "it starts a process",
    "os.posix_spawn": "it starts a process",
    "pty.spawn": "it starts a process",
    "os.kill": "it sends a signal",
    "signal.pthread_kill": "it sends a signal",
    "os.remove": "it changes files",
    "os.rename": "it changes files",
    "os.mkdir": "it changes files",
    "os.rmdir": "it changes files",
    "os.truncate": "it changes files",
    "os.chmod": "it changes files",
    "os.link": "it changes files",
    "os.symlink": "it changes files",
    "shutil.": "it changes files",
    "os.putenv": "it changes the environment",
}
"""The beginning of an audit event's name -> what the file does."""


class ActionRefused(RuntimeError):
    """The file did what a policy must not do; the message says what."""


class AuditSandbox:
    """Limits this process and audits what it does; neither can be undone."""

    def __init__(self) -> None:
        """Nothing is limited yet."""
        self.seen = ""
        """The first action that was refused, or the first print."""
        self.when = "while it is loaded"
        """The step of the check, for `seen`."""

    def limit(self, memory_bytes: int, cpu_s: float) -> None:
        """Limit the memory and the processor time of the process."""
        _lower(resource.RLIMIT_AS, memory_bytes)
        _lower(resource.RLIMIT_CPU, int(cpu_s) + 1)
        _lower(resource.RLIMIT_FSIZE, 0)
        _lower(resource.RLIMIT_CORE, 0)

    def close(self) -> None:
        """Refuse forbidden actions from now on."""
        sys.dont_write_bytecode = True
        sys.stdout = CapturedOutput(self)
        # Python 3.11 has no audit event for it.
        setattr(threading.Thread, "start", lambda _: self._refuse("it starts a thread"))  # noqa: B010
        sys.addaudithook(self._audit)

    def note(self, action: str) -> None:
        """Remember the first forbidden action, even if the file swallows the exception."""
        self.seen = self.seen or f"{action} {self.when}: a policy does no I/O"

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        action = _refused(event, args)
        if action:
            self._refuse(action)

    def _refuse(self, action: str) -> None:
        self.note(action)
        raise ActionRefused(f"{action}: a policy does no I/O")


class CapturedOutput(io.TextIOBase):
    """A standard output that reports prints."""

    def __init__(self, sandbox: AuditSandbox) -> None:
        """`sandbox` notes each print."""
        self._sandbox = sandbox

    def writable(self) -> bool:
        """True: `print` asks."""
        return True

    def write(self, text: str, /) -> int:
        """Note the text and drop it."""
        if text.strip():
            self._sandbox.note(f"it prints ({text.strip()!r:.60})")
        return len(text)


def _refused(event: str, args: tuple[object, ...]) -> str:
    if event == "open":
        return _opened(args)
    return next((action for beginning, action in _REFUSED.items() if event.startswith(beginning)), "")


def _opened(args: tuple[object, ...]) -> str:
    """Reading is allowed, since imports read modules; writing is not."""
    _, mode, flags = args
    writes = set(mode) & set("wax+") if isinstance(mode, str) else isinstance(flags, int) and flags & _WRITING
    return "it writes a file" if writes else ""


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard if kind == resource.RLIMIT_AS else value))
