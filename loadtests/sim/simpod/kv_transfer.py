"""KV caches that go from one simulated engine to another: vLLM's NIXL protocol and SGLang's rooms, over the pods' own
ports (`/sim/kv/...`), so that a pod that is gone fails its transfers as an engine does.

A decode request that names blocks which no pod holds is answered 500, as with `kv_load_failure_policy: fail`. Blocks
are held for `LEASE_S`, and until they were read once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from loadtests.sim.simpod.errors import ApiError, rejected
from loadtests.sim.simpod.faults import Outlet
from loadtests.sim.simpod.script import Script, encode
from loadtests.sim.simpod.wire import Exchange
from statesync.tasks import spawn

NIXL: Final = "nixl"
SGLANG_PREFILL: Final = "sglang-prefill"
SGLANG_DECODE: Final = "sglang-decode"
MODES: Final = (NIXL, SGLANG_PREFILL, SGLANG_DECODE)

LEASE_S: Final = 30.0
"""How long blocks are kept for the pod that is to read them."""

MEET_S: Final = 10.0
"""How long a decode pod waits for a prefill pod in a room."""

TOKEN_S: Final = 2.6e-6
"""Seconds a token's blocks take: 128 KB (an 8B model) over 400 Gbit/s."""

_NEEDED: Final = ("remote_engine_id", "remote_request_id", "remote_block_ids", "remote_host", "remote_port")
_JSON: Final = b"application/json"
_LOST: Final = ApiError(500, "KV load failed: the remote blocks are not there.", "InternalServerError")

Start = Callable[[Script, Outlet], Exchange]
"""Hands a script to the engine."""


class Place(NamedTuple):
    """Where another pod holds something."""

    host: str
    port: int
    path: str


class Held:
    """Something that another pod will read: the blocks of a prompt, once they are computed."""

    def __init__(self) -> None:
        self.tokens = 0
        self.computed = asyncio.Event()


class Transfers:
    """The transfers of one pod."""

    def __init__(self, mode: str, start: Start, where: Callable[[], tuple[str, int]], speed: float) -> None:
        """`where` is the pod's own host and port; `speed` divides durations."""
        self._mode = mode
        self._start = start
        self._where = where
        self._speed = speed
        self._engine_id = secrets.token_hex(8)
        self._held: dict[str, Held] = {}
        self.sent = self.received = 0
        """Prompts that other pods read here, and that came from other pods."""

    def begin(self, given: Mapping[str, Any], script: Script, outlet: Outlet) -> Exchange:
        """Answer a request, with its transfer if it has one. Raises ApiError."""
        if self._mode != NIXL:
            room = given.get("bootstrap_room")
            if not isinstance(room, int):
                raise rejected("Disaggregated request received without bootstrap room id", "bootstrap_room")
            if self._mode == SGLANG_PREFILL:
                return self._start(self._keep(_first_token(script), self._hold(str(room))), outlet)
            place = Place(str(given.get("bootstrap_host")), int(given.get("bootstrap_port") or 0), f"/sim/kv/{room}")
            return Arrival(self, place, script, outlet)
        params = given.get("kv_transfer_params") or {}
        if params.get("do_remote_decode"):
            return self._start(self._announced(script), outlet)
        if params.get("do_remote_prefill"):
            if any(params.get(name) is None for name in _NEEDED):
                raise _LOST
            name = f"{params['remote_engine_id']}/{params['remote_request_id']}"
            place = Place(params["remote_host"], params["remote_port"], f"/sim/kv/{name}")
            return Arrival(self, place, script, outlet)
        return self._start(script, outlet)

    def read(self, path: str, outlet: Outlet) -> Exchange | None:
        """GET /sim/kv/NAME: another pod asks for blocks. In a room it may be here first."""
        name = path.removeprefix("/sim/kv/")
        held = self._held.get(name)
        if held is None and self._mode == SGLANG_PREFILL:
            held = self._hold(name)
        if held is None:
            outlet.whole(404, _JSON, b"{}")
            return None
        return Departure(self, name, held, outlet)

    async def arrive(self, place: Place, script: Script) -> Script | None:
        """Read the blocks of a script's prompt; None if they are not there."""
        try:
            async with asyncio.timeout(LEASE_S):
                tokens = await _get(place)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            return None
        if tokens is None:
            return None
        await asyncio.sleep(tokens * TOKEN_S / self._speed)
        self.received += 1
        return script._replace(choices=[choice._replace(transferred=tokens) for choice in script.choices])

    def start(self, script: Script, outlet: Outlet) -> Exchange:
        """Hand a script to the engine."""
        return self._start(script, outlet)

    def given_away(self, name: str) -> None:
        """Another pod has read these blocks."""
        if self._held.pop(name, None) is not None:
            self.sent += 1

    def _hold(self, name: str) -> Held:
        if name not in self._held:
            self._held[name] = Held()
            asyncio.get_running_loop().call_later(LEASE_S, self._held.pop, name, None)
        return self._held[name]

    def _keep(self, script: Script, held: Held) -> Script:
        """The script, whose prompt is held once it is computed."""

        def kept(cached: int) -> None:
            held.tokens = script.choices[0].prompt_tokens
            held.computed.set()

        return script._replace(kept=kept)

    def _announced(self, script: Script) -> Script:
        """The script with an answer that says where the prompt's blocks are."""
        request_id = secrets.token_hex(8)
        host, port = self._where()
        blocks = -(-script.choices[0].prompt_tokens // 16)
        params = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [list(range(blocks))]}
        params |= {"remote_engine_id": self._engine_id, "remote_request_id": request_id, "tp_size": 1}
        params |= {"remote_host": host, "remote_port": port}

        def whole(cached: int) -> bytes:
            return encode({**msgspec.json.decode(script.whole(cached)), "kv_transfer_params": params})

        return self._keep(script, self._hold(f"{self._engine_id}/{request_id}"))._replace(whole=whole)


class Arrival:
    """A decode request: its prompt's blocks are read, then the engine gets it."""

    def __init__(self, transfers: Transfers, place: Place, script: Script, outlet: Outlet) -> None:
        self._transfers, self._outlet = transfers, outlet
        self._answer: Exchange | None = None
        self._task = spawn(self._run(place, script), name="kv arrival")

    def resume(self) -> None:
        """See `Exchange`."""
        if self._answer is not None:
            self._answer.resume()

    def cancel(self) -> None:
        """See `Exchange`."""
        self._task.cancel()
        if self._answer is not None:
            self._answer.cancel()

    async def _run(self, place: Place, script: Script) -> None:
        ready = await self._transfers.arrive(place, script)
        if ready is None:
            self._outlet.whole(_LOST.status, _JSON, _LOST.openai())
        else:
            self._answer = self._transfers.start(ready, self._outlet)


class Departure:
    """Another pod waits for blocks."""

    def __init__(self, transfers: Transfers, name: str, held: Held, outlet: Outlet) -> None:
        self._task = spawn(self._run(transfers, name, held, outlet), name="kv departure")

    def resume(self) -> None:
        """See `Exchange`."""

    def cancel(self) -> None:
        """See `Exchange`."""
        self._task.cancel()

    async def _run(self, transfers: Transfers, name: str, held: Held, outlet: Outlet) -> None:
        try:
            async with asyncio.timeout(MEET_S):
                await held.computed.wait()
        except TimeoutError:
            outlet.whole(404, _JSON, b"{}")
        else:
            transfers.given_away(name)
            outlet.whole(200, _JSON, b'{"tokens":%d}' % held.tokens)


def _first_token(script: Script) -> Script:
    """What a prefill pod generates: one token, and no stream."""
    choices = [choice._replace(tokens=1, event=None) for choice in script.choices]
    return script._replace(choices=choices, stream=None)


async def _get(place: Place) -> int | None:
    """The number of tokens whose blocks are there."""
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        writer.write(b"GET %b HTTP/1.1\r\nhost: sim\r\n\r\n" % place.path.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        return int(msgspec.json.decode(body)["tokens"]) if b" 200 " in head[:16] else None
    finally:
        writer.close()
