from __future__ import annotations

import pytest

from router.dataplane.request.adapters import check_adapters
from router.errors import PermissionDenied
from tests.fakes.each_case import each_case

JSON = b"application/json"


@each_case(
    "body",
    [
        b'{"model":"m","lora_path":"other"}',
        b'{"model":"m","lora_path":["other",null]}',
        b'{"model":"m","lora":[{"id":0,"scale":1.0}]}',
        b'{"model":"m","\\u006cora":[{"id":0}]}',
        b'{"model":"m","adapter_id":"other"}',
        b'{"inputs":"hi","parameters":{"adapter_id":"other"}}',
        b'{"model":"m","lora_request":{"lora_name":"other"},"top_p":NaN}',
        '{"model":"m","lora_path":"other"}'.encode("utf-16"),
    ],
)
def test_a_field_that_chooses_an_adapter_is_refused(body: bytes) -> None:
    with pytest.raises(PermissionDenied, match="name it as 'model'"):
        check_adapters(JSON, body)


@each_case(
    "content_type, body",
    [
        (JSON, b""),
        (JSON, b'{"model":"m","messages":[]}'),
        (JSON, b'{"model":"base:lora","lora_path":null,"messages":[{"content":"lora \\u00e9","lora":1}]}'),
        (JSON, b'{"model":"m","parameters":"adapter"}'),
        (JSON, b"lora is no JSON, and refused where its route is sought"),
        (b"multipart/form-data; boundary=x", b'--x\r\n{"lora":1}'),
    ],
)
def test_what_chooses_none_passes(content_type: bytes, body: bytes) -> None:
    check_adapters(content_type, body)
