"""The fields beside `model` by which an engine chooses an adapter. A tenant with a list of models may use none of them:
its list names models only. Pure; only for requests of such a tenant.
"""

from __future__ import annotations

from typing import Final

import msgspec

from router.dataplane.request import lenient_json
from router.dataplane.request.multipart import is_form
from router.errors import PermissionDenied

_SIGNS: Final = (b"lora", b"adapter", b"\\u", b"\0")
"""What a body with such a field contains at least one of: a part of its name, an escape in it, or the zero bytes of
UTF-16 and UTF-32, which engines read as well."""

_NULL: Final = msgspec.Raw(b"null")


class _Chosen(msgspec.Struct, gc=False):
    """SGLang's `lora_path`, llama.cpp's `lora`, TGI's and LoRAX's `adapter_id`, TensorRT-LLM's `lora_request`."""

    adapter_id: msgspec.Raw = _NULL
    adapter_source: msgspec.Raw = _NULL
    adapters: msgspec.Raw = _NULL
    lora: msgspec.Raw = _NULL
    lora_id: msgspec.Raw = _NULL
    lora_name: msgspec.Raw = _NULL
    lora_path: msgspec.Raw = _NULL
    lora_request: msgspec.Raw = _NULL
    merged_adapters: msgspec.Raw = _NULL
    parameters: msgspec.Raw = _NULL


_decode: Final = msgspec.json.Decoder(_Chosen).decode
_NAMES: Final = [name for name in _Chosen.__struct_fields__ if name != "parameters"]


def check_adapters(content_type: bytes, body: bytes) -> None:
    """Raise PermissionDenied for a body that chooses an adapter beside its model."""
    if not body or is_form(content_type) or not any(sign in body for sign in _SIGNS):
        return
    try:
        fields = _decode(lenient_json.readable(lenient_json.in_utf8(body)))
        inner = bytes(fields.parameters)
        found = [fields, _decode(inner)] if inner.startswith(b"{") else [fields]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, lenient_json.UnreadableBody):
        return  # it is refused when it is read for its route
    for each in found:
        for name in _NAMES:
            if bytes(getattr(each, name)) != b"null":
                raise PermissionDenied(
                    f"This key may use some models only, and the field {name!r} may choose any adapter: name it as "
                    "'model'."
                )
