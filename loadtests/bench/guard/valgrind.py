"""Talking to callgrind from inside the program it counts: start, zero, dump. Does nothing without valgrind.

A client request is an instruction sequence that changes nothing on a real CPU and that valgrind takes as a call
(valgrind.h; manual, "The Client Request mechanism"). valgrind.h is for C, so here are the same bytes, called through
ctypes. Without them everything from the interpreter's first instruction on would be instrumented: 80 s of imports.
"""

from __future__ import annotations

import ctypes
import mmap
import platform

_CODE = {
    "x86_64": bytes.fromhex(
        "4889f8"  # mov rax, rdi: the arguments' address
        "31d2"  # xor edx, edx: the answer where there is no valgrind
        "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61, 51: once around
        "4887db"  # xchg rbx, rbx: the request
        "4889d0"  # mov rax, rdx
        "c3"  # ret
    )
}
"""By machine; a function of one argument, the address of six words: the request and its five arguments."""

_RUNNING_ON_VALGRIND = 0x1001
_CALLGRIND = (ord("C") << 24) | (ord("T") << 16)
_ZERO, _DUMP_AT, _START = _CALLGRIND + 1, _CALLGRIND + 3, _CALLGRIND + 4

MACHINES = tuple(_CODE)
"""The supported machines."""


class Unsupported(Exception):
    """No code for this machine."""


class Callgrind:
    """The callgrind this program runs under, if it does."""

    def __init__(self) -> None:
        """Raises Unsupported on a machine that is not in `MACHINES`."""
        machine = platform.machine()
        if machine not in _CODE:
            raise Unsupported(f"no client requests for {machine}, only for {', '.join(MACHINES)}")
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE[machine])
        self._pinned = ctypes.c_char.from_buffer(self._page)  # the page stays where it is while this lives
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(self._pinned))

    @property
    def present(self) -> bool:
        """Whether valgrind runs this program."""
        return bool(self._request(_RUNNING_ON_VALGRIND))

    def start(self) -> None:
        """Instrument from here on."""
        self._request(_START)

    def zero(self) -> None:
        """Count from 0."""
        self._request(_ZERO)

    def dump(self, name: str) -> None:
        """Write what was counted to a file of its own, marked with `name`, and count from 0."""
        self._request(_DUMP_AT, name)

    def _request(self, code: int, text: str = "") -> int:
        words = (ctypes.c_uint64 * 6)(code)
        kept = ctypes.create_string_buffer(text.encode())
        words[1] = ctypes.addressof(kept)
        answer: int = self._call(ctypes.addressof(words))
        return answer
