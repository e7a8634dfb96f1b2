"""The bodies of a request that two pods serve: one computes the prompt, the other generates the answer from its KV
cache. Pure: a body and a connector in, bodies out. Knows no pod and no load.

`nixl` is vLLM's protocol: the prefill pod answers one token and says where its blocks are (`kv_transfer_params`), and
the decode request repeats that. With `shared_storage` the decode pod finds them by the prompt itself. `sglang` sends
both requests at once; the pods meet in a numbered room of the prefill pod's bootstrap server.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from statesync.discovery import address as addresses

NIXL: Final = "nixl"
SHARED_STORAGE: Final = "shared_storage"
SGLANG: Final = "sglang"
CONNECTORS: Final = (NIXL, SHARED_STORAGE, SGLANG)

PATHS: Final = frozenset((b"/v1/chat/completions", b"/v1/completions"))
"""What the engines' own proxies split."""

OWN_FIELDS: Final = ("kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room")
"""Fields that a client's body never brings to a pod: they name other requests' blocks."""

ROOMS: Final = (1 << 63) - 1
"""SGLang's room numbers are below it."""

_ONCE: Final = ("n", "best_of")
"""More than one answer for a prompt is generated where the prompt was computed."""

_WHOLE: Final = ("echo", "prompt_logprobs", "use_beam_search")
"""Answers that contain what only the computation of the prompt gives."""

_NOT_FOR_PREFILL: Final = ("stream_options", "min_tokens", "min_completion_tokens", "logprobs", "top_logprobs")
_NOTHING: Final = frozenset((b"null", b"false", b"0"))
_BATCH: Final = re.compile(rb"\[\s*+[\"\[]")
"""The beginning of a list of prompts."""

_REMOTE_DECODE: Final = msgspec.Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,'
    b'"remote_host":null,"remote_port":null}'
)

Fields = dict[str, msgspec.Raw]


class KvAnswer(msgspec.Struct):
    """What is read of a prefill pod's answer."""

    kv_transfer_params: msgspec.Raw = msgspec.Raw(b"null")


class TwoBodies(NamedTuple):
    """What the two pods get."""

    prefill: bytes
    decode: bytes
    """As it is before the prefill pod has answered."""


def fields_of(path: bytes, content_type: bytes, body: bytes) -> Fields | None:
    """The body's fields; None for a request that is never split."""
    if path not in PATHS or not content_type.startswith(b"application/json"):
        return None
    try:
        return msgspec.json.decode(body, type=Fields)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def without_own(fields: Fields, body: bytes) -> bytes:
    """The client's body, without fields that are the gateway's to set; they are taken out of `fields`, too."""
    taken = [name for name in OWN_FIELDS if fields.pop(name, None) is not None]
    return msgspec.json.encode(fields) if taken else body


def can_split(fields: Fields, connector: str) -> bool:
    """Whether two pods may serve the request."""
    if any(bytes(fields.get(name, b"1")) not in (b"1", b"null") for name in _ONCE):
        return False
    if any(bytes(fields.get(name, b"null")) not in _NOTHING for name in _WHOLE):
        return False
    return connector == SGLANG or not _BATCH.match(fields.get("prompt", b""))


def vllm_bodies(fields: Fields, body: bytes, connector: str) -> TwoBodies:
    """What vLLM's pods get: the decode pod the client's own body, until `with_params` adds to it."""
    prefill = {name: value for name, value in fields.items() if name not in _NOT_FOR_PREFILL}
    prefill["stream"] = msgspec.Raw(b"false")
    prefill["max_tokens"] = msgspec.Raw(b"1")
    if "max_completion_tokens" in prefill:
        prefill["max_completion_tokens"] = msgspec.Raw(b"1")
    if connector == NIXL:
        prefill["kv_transfer_params"] = _REMOTE_DECODE
    return TwoBodies(msgspec.json.encode(prefill), body)


def with_params(decode: bytes, answer: bytes) -> bytes:
    """The decode body with the prefill pod's answer's `kv_transfer_params`; unchanged where it has none, as for a
    prompt shorter than a block. Raises ValueError for an answer that is no JSON object."""
    try:
        params = msgspec.json.decode(answer, type=KvAnswer).kv_transfer_params
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if bytes(params) == b"null":
        return decode
    return msgspec.json.encode({**msgspec.json.decode(decode, type=Fields), "kv_transfer_params": params})


def sglang_body(fields: Fields, prefill_address: str, port: int, room: int, rank: int = 0, ranks: int = 1) -> bytes:
    """What both of SGLang's pods get. A batch has a room for each prompt. `port`: 0 is the prefill pod's own. The
    decode pod looks for the prompt of room n on the prefill pod's rank n modulo `ranks`, so that is `rank`."""
    address = addresses.of(prefill_address)
    host, port = address.host, port or address.port
    room += rank - room % ranks
    rooms: object = room
    prompt = fields.get("prompt", msgspec.Raw(b""))
    hosts: object = host
    ports: object = port
    if _BATCH.match(prompt):
        count = len(msgspec.json.decode(prompt, type=list[msgspec.Raw]))
        rooms, hosts, ports = [(room + at * ranks) % ROOMS for at in range(count)], [host] * count, [port] * count
    encode = msgspec.json.encode
    return encode({**fields, "bootstrap_host": hosts, "bootstrap_port": ports, "bootstrap_room": rooms})
