"""The Lua scripts by name, and how to run one whether or not the server has it cached.

The head of each script documents its keys and arguments. This file knows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from statesync.store.redis.commands import Part, PreparedCommand
from statesync.store.redis.connection import ReplyError, RespConnection


class LuaScript:
    """One file of `lua/`, beside this module, after the functions of others."""

    def __init__(self, name: str, *before: str) -> None:
        self.name = name
        folder = files("statesync.store.redis").joinpath("lua")
        self.source: Final = b"".join(folder.joinpath(f"{each}.lua").read_bytes() for each in (*before, name))
        self.sha: Final = sha1(self.source, usedforsecurity=False).hexdigest()
        self._command = PreparedCommand("EVALSHA", self.sha)

    async def run(self, link: RespConnection, keys: tuple[str, ...], *args: Part) -> Any:
        """Run it: one round trip, two if the server does not have it cached. Raises ReplyError, StoreUnavailable."""
        try:
            return await link.call("EVALSHA", self.sha, len(keys), *keys, *args)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        return await link.call("EVAL", self.source, len(keys), *keys, *args)

    async def run_packed(self, link: RespConnection, parts: Sequence[bytes]) -> Any:
        """The same for many arguments, with the number of keys as the first part: without hiredis' cost for each."""
        reply = await link.send(self._command.pack(parts))
        if not isinstance(reply, ReplyError):
            return reply
        if reply.code != "NOSCRIPT":
            raise reply
        return await link.call("EVAL", self.source, *parts)

    def __repr__(self) -> str:
        return f"<LuaScript {self.name} {self.sha[:8]}>"


REGISTER: Final = LuaScript("register", "keep_type")
RENEW: Final = LuaScript("renew", "keep_type")
RELEASE: Final = LuaScript("release")
FLUSH: Final = LuaScript("flush")
PUT_POLICY: Final = LuaScript("put_policy", "keep_type", "policy_list")
RESTORE_POLICY: Final = LuaScript("restore_policy", "keep_type", "policy_list")
SHARE_TRIAL: Final = LuaScript("share_trial", "keep_type")
SHARE_LIMITS: Final = LuaScript("share_limits", "keep_type")
OWN: Final = LuaScript("own", "keep_type")
BEGIN_CHECKPOINT: Final = LuaScript("begin_checkpoint")
SWITCH_CHECKPOINT: Final = LuaScript("switch_checkpoint")
REPAIR: Final = LuaScript("repair")
PRUNE_REPORTS: Final = LuaScript("prune_reports")
SAVE_STREAMS: Final = LuaScript("save_streams", "keep_type")
READ_STREAMS: Final = LuaScript("read_streams")
TAKE_STREAM: Final = LuaScript("take_stream")
