import msgspec
import pytest

from loadtests.sim.simpod.bodies import ChatBody, decode, read
from loadtests.sim.simpod.errors import NOT_FOUND, ApiError, BodyError, rejected


def error(caught: pytest.ExceptionInfo[BodyError]) -> dict[str, object]:
    return msgspec.json.decode(caught.value.openai())["error"]  # type: ignore[no-any-return]


def test_a_missing_field_is_said_as_vllm_says_it() -> None:
    with pytest.raises(BodyError) as caught:
        read(ChatBody, {"model": "tiny"})
    detail = "{'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}"
    assert error(caught) == {
        "message": f"1 validation error:\n  {detail}",
        "type": "Bad Request",
        "param": "body.messages",
        "code": 400,
    }


def test_many_errors_are_counted_and_ten_of_them_listed() -> None:
    with pytest.raises(BodyError) as caught:
        read(ChatBody, {"messages": [1] * 30})
    lines = str(error(caught)["message"]).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("30 validation errors:", 12, "  ...and 20 more errors")


def test_a_long_value_is_repeated_in_part_only() -> None:
    with pytest.raises(BodyError) as caught:
        read(ChatBody, {"messages": "x" * 10000})
    assert "x" * 200 + "...[truncated]" in caught.value.message and len(caught.value.message) < 500


@pytest.mark.parametrize("raw", [b"{", b"", b"\xff", b'{"a":1} x', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_400(raw: bytes) -> None:
    with pytest.raises(BodyError, match="json_invalid" if raw else "missing") as caught:
        decode(raw)
    assert caught.value.status == 400


def test_what_python_takes_beyond_json_is_taken_as_in_vllm() -> None:
    assert decode(b'{"a": Infinity}') == {"a": float("inf")}


def test_a_rejected_value_is_named_in_the_message() -> None:
    assert rejected("x must be y.", "x", 3).message == "x must be y. (parameter=x, value=3)"
    assert (rejected("z.").message, rejected("z.").param) == ("z.", None)


def test_each_api_has_its_own_shape() -> None:
    one = ApiError(404, "no", "NotFoundError")
    assert msgspec.json.decode(one.anthropic()) == {
        "type": "error",
        "error": {"type": "NotFoundError", "message": "no"},
    }
    assert NOT_FOUND.openai() == b'{"detail":"Not Found"}'
