"""From the bytes of a file to the policies in it. Runs the file: one that has not passed its check is loaded in a
process of its own only (`check.py`).
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Final, NamedTuple

from schedulers import registry
from schedulers.errors import InvalidPolicy
from schedulers.protocols import Scheduler

DIGEST_DIGITS: Final = 8


class PluginError(Exception):
    """A file that is no plugin; the message says why, and where in it."""


class Loaded(NamedTuple):
    """A file's policies."""

    module: ModuleType
    policies: Mapping[str, type[Scheduler]]
    """By their own names."""


def digest_of(source: bytes) -> str:
    """The version of a file: the first eight hexadecimal digits of its SHA-256."""
    return hashlib.sha256(source).hexdigest()[:DIGEST_DIGITS]


def load(source: bytes, filename: str, module_name: str) -> Loaded:
    """Run the file as the module `module_name`, which stays in `sys.modules`. Raises PluginError.

    `filename` is what tracebacks and messages say; the file is not read.
    """
    code = _compiled(source, filename)
    module = sys.modules[module_name] = ModuleType(module_name)  # dataclasses look their annotations up there
    module.__file__ = filename
    try:
        _run(code, module, filename)
        return Loaded(module, _policies(module))
    except BaseException:
        if sys.modules.get(module_name) is module:  # a later load of the same file may have taken its place
            unload(module_name)
        raise


def unload(module_name: str) -> None:
    """Remove the module from `sys.modules`; objects made from it live on."""
    sys.modules.pop(module_name, None)


def where(error: BaseException, filename: str) -> str:
    """` (line 7)`: the last line of this file that the error passed; empty if it passed none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    return f" (line {lines[-1]})" if lines else ""


def _compiled(source: bytes, filename: str) -> CodeType:
    try:
        # The __future__ imports of this file must not apply to that one.
        return compile(source, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise PluginError(f"line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise PluginError(f"cannot be compiled: {error}") from None


def _run(code: CodeType, module: ModuleType, filename: str) -> None:
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001  foreign code runs here
        raise PluginError(f"loading it raised {type(error).__name__}: {error}{where(error, filename)}") from None


def _policies(module: ModuleType) -> dict[str, type[Scheduler]]:
    """Every class defined in the module that has a name, or a `pick`, must be a policy."""
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    meant = [each for each in own if isinstance(getattr(each, "name", None), str) and hasattr(each, "pick")]
    found: dict[str, type[Scheduler]] = {}
    for each in meant or [each for each in own if hasattr(each, "pick")]:
        policy: type[Scheduler] = each
        try:
            registry.check_class(policy)
        except InvalidPolicy as error:
            raise PluginError(str(error).replace(f"{module.__name__}.", "")) from None
        if found.setdefault(str(policy.name), policy) is not policy:
            raise PluginError(f"two of its policies are named {policy.name!r}")
    if not found:
        raise PluginError("there is no policy in it: a frozen dataclass with a `name` and a method `pick`")
    return found
