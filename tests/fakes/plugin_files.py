"""Plugin files for tests: a valid one, and one for each kind of fault. Source texts, not modules."""

from __future__ import annotations

from collections.abc import Mapping

GOOD = '''\
from dataclasses import dataclass
from typing import ClassVar

from schedulers import entropy
from schedulers.params import check, parameter
from schedulers.types import NO_UNTRIED_POD, Decision, Rejection


@dataclass(frozen=True, slots=True)
class FreestKv:
    """The pod with the most KV cache free, below a limit."""

    name: ClassVar[str] = "freest_kv"
    limit: float = parameter(1.0, low=0.0, high=1.0)

    def __post_init__(self):
        check(self)

    def pick(self, request, snapshot):
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        usage = [load.kv_usage for _, load in left.candidates]
        at = entropy.least(usage, request.entropy)
        if usage[at] > self.limit:
            return Rejection("kv_full")
        return Decision(left.candidates[at].pod.id, self.name, usage[at], "most_kv_free")
'''

_HEAD = """\
import time
from dataclasses import dataclass, field
from typing import ClassVar
from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision, PodId, Rejection

SEEN = {}


def right(request, snapshot, name):
    left = snapshot.without(request.tried)
    if left is None:
        return NO_UNTRIED_POD
    return Decision(left.candidates[entropy.index(request.entropy, len(left.candidates))].pod.id, name)


@dataclass(frozen=True, slots=True)
class Mine:
    name: ClassVar[str] = "mine"

    def pick(self, request, snapshot):
"""


def picks(body: str, head: str = "") -> str:
    """A plugin whose pick has this body; `right(request, snapshot, self.name)` is a valid answer. `head` is first."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    return head + _HEAD + lines


RIGHT = "return right(request, snapshot, self.name)"

SOUND: Mapping[str, str] = {
    "one that fills a cache it was given": GOOD,
    "one that picks by the entropy": picks(RIGHT),
    "one that imports what it does not need": picks(RIGHT, "import socket, subprocess, threading, json\n"),
    "one that reads a file when it is loaded": picks(RIGHT, "import re, os\nopen(os.devnull).read()\n"),
    "one that swallows what the check does not raise": picks(f"try:\n    {RIGHT}\nexcept BaseException:\n    raise"),
}

WRONG: Mapping[str, tuple[str, str]] = {
    "a syntax error": ("def pick(:\n", r"line 1: invalid syntax"),
    "no policy": ("X = 1\n", r"there is no policy in it: a frozen dataclass with a `name` and a method `pick`"),
    "a class that is no dataclass": (
        "class Mine:\n    name = 'mine'\n    def pick(self, request, snapshot):\n        pass\n",
        r"Mine is no policy: it needs to be a frozen dataclass",
    ),
    "a name of the gateway's own": (GOOD.replace("freest_kv", "random"), r"'random' is one of the gateway's own"),
    "one that raises when it is loaded": (picks(RIGHT, "1 / 0\n"), r"raised ZeroDivisionError: .* \(line 1\)"),
    "one that exits when it is loaded": (picks(RIGHT, "raise SystemExit(3)\n"), r"raised SystemExit: 3 \(line 1\)"),
    "one that ends the process": (picks(RIGHT, "import os\nos._exit(0)\n"), r"ended without a word while loading it"),
    "one that crashes": (
        picks(RIGHT, "import ctypes\nctypes.string_at(0)\n"),
        r"its check ended with SIGSEGV while loading it",
    ),
    "one that loops when it is loaded": (
        picks(RIGHT, "while True:\n    pass\n"),
        r"loading it did not return within 50? s, it was at line [12] of mine.py",
    ),
    "one that needs what is not there": (
        picks(RIGHT, "import no_such_module_anywhere\n"),
        r"raised ModuleNotFoundError: No module named 'no_such_module_anywhere' \(line 1\)",
    ),
    "one that eats memory": (picks("return bytes(1 << 40)"), r"raised MemoryError|takes more than"),
    "one that raises": (picks("return {}['x']"), r"mine: with 1 pod: it raised KeyError\('x'\)"),
    "one that loops": (
        picks("while True:\n    pass"),
        r"mine: with 1 pod: it did not return within 10? s, it was at line",
    ),
    "one that loops and swallows all": (
        picks("while True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass"),
        r"mine: with 1 pod: it did not return within 10? s",
    ),
    "one that sleeps": (picks(f"time.sleep(0.02)\n{RIGHT}"), r"takes ([2-9]\d|\d{3,})\.\d ms; at most 5 ms will do"),
    "one that answers nothing": (picks("pass"), r"answered None, which is neither a Decision nor a Rejection"),
    "one that picks what is not there": (
        picks("return Decision(PodId('10.9.9.9:1'), self.name)"),
        r"mine: with 1 pod: it picked '10.9.9.9:1', which is not in the snapshot",
    ),
    "one that forgets what was tried": (
        picks("return Decision(snapshot.candidates[0].pod.id, self.name)"),
        r"1 of them tried: it picked .* which already failed this request",
    ),
    "one that rejects for nothing": (
        picks("return NO_UNTRIED_POD"),
        r"it rejects \(no_untried_pod\) where 1 idle pod may be picked",
    ),
    "one that always takes the first": (
        picks(
            "left = snapshot.without(request.tried)\n"
            "return Decision(left.candidates[0].pod.id, self.name) if left else NO_UNTRIED_POD"
        ),
        r"the order of the pods decides",
    ),
    "one that has a favourite": (
        picks(
            "left = snapshot.without(request.tried)\n"
            "return Decision(min(pod.id for pod, _ in left.candidates), self.name) if left else NO_UNTRIED_POD"
        ),
        r"of 2 pods that are alike one got 600 and one 0 of 600 requests; use `request.entropy`",
    ),
    "one that remembers in a global": (
        picks(f"SEEN[request.session_key] = 1\n{RIGHT}"),
        r"keeps state between calls: SEEN is not as it was",
    ),
    "one that remembers in its class": (
        picks(f"Mine.count = getattr(Mine, 'count', 0) + 1\n{RIGHT}"),
        r"keeps state between calls: Mine.count is not as it was",
    ),
    "one that remembers in a default": (
        picks(f"remember()\n{RIGHT}", "def remember(seen=[]):\n    seen.append(1)\n"),
        r"keeps state between calls: remember.__defaults__ is not as it was",
    ),
    "one that remembers in a closure": (
        picks(
            f"REMEMBER()\n{RIGHT}",
            "def made():\n    n = 0\n    def one_more():\n        nonlocal n\n        n += 1\n"
            "    return one_more\nREMEMBER = made()\n",
        ),
        r"keeps state between calls: n of REMEMBER is not as it was",
    ),
    "one that counts with an iterator": (
        picks(
            "left = snapshot.without(request.tried)\n"
            "at = next(COUNT)\n"
            "return Decision(left.candidates[at % len(left.candidates)].pod.id, self.name) if left else NO_UNTRIED_POD",
            "from itertools import count\nCOUNT = count()\n",
        ),
        r"keeps state between calls: COUNT is not as it was",
    ),
    "one that has a random source of its own": (
        picks(
            "left = snapshot.without(request.tried)\n"
            "return Decision(random.choice(left.candidates).pod.id, self.name) if left else NO_UNTRIED_POD",
            "import random\n",
        ),
        r"the same input got another answer.* no random source but `request.entropy`",
    ),
    "one that changes what it is given": (
        picks(f"request.prefix_hits.clear()\n{RIGHT}"),
        r"it changed the request it was given",
    ),
    "one that prints when it is loaded": (
        picks(RIGHT, "print('hello')\n"),
        r"it prints \('hello'\) while it is loaded",
    ),
    "one that prints as it picks": (
        picks(f"print(request)\n{RIGHT}"),
        r"it prints \(.*RequestInfo.* in a pick of mine: a policy",
    ),
    "one that opens a socket": (
        picks(RIGHT, "import socket\nsocket.socket()\n"),
        r"it opens a socket while it is loaded: a policy does no I/O",
    ),
    "one that opens a socket and says nothing": (
        picks(RIGHT, "import socket\ntry:\n    socket.socket()\nexcept Exception:\n    pass\n"),
        r"it opens a socket while it is loaded",
    ),
    "one that writes a file": (
        picks(RIGHT, "open('/tmp/x', 'w')\n"),
        r"it writes a file while it is loaded: a policy does no I/O",
    ),
    "one that starts a thread": (
        picks(RIGHT, "import threading\nthreading.Thread(target=print).start()\n"),
        r"it starts a thread while it is loaded: a policy does no I/O",
    ),
    "one that starts a process": (picks(RIGHT, "import os\nos.system('true')\n"), r"it starts a process"),
    "one that replaces what the check reports with": (
        picks(RIGHT, "import json\njson.dumps = lambda *_, **__: 'x'\n"),
        r"it replaces json.dumps, which all of the gateway uses",
    ),
    "one that stops the clock": (
        picks(RIGHT, "time = None\nimport time as t\nt.perf_counter = lambda: 0.0\n"),
        r"it replaces time.perf_counter, which",
    ),
    "one that replaces chance": (
        picks(RIGHT, "import random\nrandom.random = lambda: 4\n"),
        r"it replaces random.random, which",
    ),
    "one that replaces a built-in function": (
        picks(RIGHT, "import builtins\nbuiltins.len = lambda _: 3\n"),
        r"it replaces builtins.len, which",
    ),
    "one that adds a built-in function": (
        picks(RIGHT, "import builtins\nbuiltins.extra = 3\n"),
        r"it replaces builtins.extra, which",
    ),
    "one that breaks the check itself": (
        picks(RIGHT, "import os\nos.write = None\nos._exit = None\nraise KeyboardInterrupt\n"),
        r"it replaces os.(_exit|write), which",
    ),
    "one that replaces a method when it is asked": (
        picks(f"import json\njson.JSONEncoder.default = None\n{RIGHT}"),
        r"it replaces json.encoder.JSONEncoder.default, which",
    ),
    "one that replaces what only it loads": (
        picks(RIGHT, "import colorsys\ncolorsys.rgb_to_hls = lambda *_: 3\n"),
        r"it replaces colorsys.rgb_to_hls, which",
    ),
    "a parameter without a default": (
        GOOD.replace("parameter(1.0, low=0.0, high=1.0)", "field()").replace(
            "import dataclass", "import dataclass, field"
        ),
        r"every parameter needs a default; these have none: limit",
    ),
}
"""The kind of fault -> the file, and the text that the check must report."""
