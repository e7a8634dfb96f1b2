"""One request of the picker inside the gateway; test_stream.py has what becomes of it."""

from __future__ import annotations

from router.dataplane.http import request_parser
from router.epp.call import PickerCall
from router.errors import BadRequest
from tests.fakes.ext_proc import BODY, CHAT, PickerRig, request_body, request_headers
from tests.fakes.memory_gateway import Rig


def test_a_request_that_has_no_pod_has_nothing_to_say() -> None:
    with Rig() as rig:
        call = PickerCall(PickerRig(rig, spare=2).parts, None)
        call.served("10.0.0.1:8000")
        assert (call.alternatives(), call.response_lines()) == ([], b"")


def test_what_is_refused_before_it_is_a_request_is_counted() -> None:
    with Rig() as rig:
        answer = PickerCall(PickerRig(rig).parts, None).refusal(BadRequest("No."))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert rig.metrics.requests == {("-", "-", "-", 400): 1}


def test_no_endpoint_follows_where_none_is_left() -> None:
    with Rig(pods=1) as rig:
        stream = PickerRig(rig, spare=2).opens().sends(request_headers(CHAT), request_body(BODY))
        named = stream.takes()[0].dynamic_metadata.fields["envoy.lb"].struct_value
        assert named.fields["x-gateway-destination-endpoint"].string_value == "10.0.0.1:8000"
        stream.closes()


def test_heads_of_streams_are_not_kept_as_each_has_the_number_of_its_own() -> None:
    before = len(request_parser._heads)
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, end=True))
        assert stream.takes()
        stream.closes()
    assert len(request_parser._heads) == before
