import pytest

from loadtests.sim.simpod.bodies import Sampled
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.limits import check_sampling, check_stream_options, limit_of
from loadtests.sim.simpod.text import prompt_of
from tests.loadtests.sim.simpod.written import SPEC


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"temperature": -1}, "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)", "t"),
        ({"top_p": 0}, "top_p must be in (0, 1], got 0.0. (parameter=top_p, value=0.0)", "t"),
        ({"min_p": 2}, "min_p must be in [0, 1], got 2.0.", None),
        ({"min_tokens": 9}, "min_tokens must be less than or equal to max_tokens=4, got 9.", None),
        ({"stop": [""]}, "stop cannot contain an empty string.", None),
    ],
)
def test_values_out_of_their_range_are_refused_in_vllms_words(
    fields: dict[str, object], message: str, param: str | None
) -> None:
    with pytest.raises(ApiError) as caught:
        check_sampling(Sampled.model_validate(fields), 4)
    assert (caught.value.message, caught.value.status) == (message, 400)
    assert (caught.value.param is None) == (param is None)


def test_values_in_their_range_pass() -> None:
    check_sampling(Sampled.model_validate({"temperature": 2, "top_p": 1, "top_k": -1, "stop": ["a"]}), 4, n=3)


@pytest.mark.parametrize(("size", "asked", "limit"), [(8191, None, 1), (8000, 192, 192), (8000, 4000, 192)])
def test_the_limit_is_cut_to_what_fits_the_context(size: int, asked: int | None, limit: int) -> None:
    """As vLLM does: only a limit that could never fit is refused."""
    assert limit_of(prompt_of(b"abcd" * size), asked, SPEC) == limit


@pytest.mark.parametrize(
    ("size", "asked", "message"),
    [
        (8193, None, "maximum context length is 8192 tokens"),
        (1, 8193, "max_tokens=8193 cannot be greater than max_model_len=8192"),
    ],
)
def test_a_prompt_or_a_limit_longer_than_the_context_is_refused(size: int, asked: int | None, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        limit_of(prompt_of(b"abcd" * size), asked, SPEC)


def test_stream_options_need_a_stream() -> None:
    with pytest.raises(ApiError):
        check_stream_options(Sampled.model_validate({"stream_options": {"include_usage": True}}))
