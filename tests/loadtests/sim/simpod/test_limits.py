import pytest

from loadtests.sim.simpod.bodies import Sampled
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.limits import check_room, check_sampling, check_stream_options
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


@pytest.mark.parametrize(("size", "limit", "fits"), [(8191, None, True), (8192, None, False), (8000, 192, True)])
def test_prompt_and_answer_have_to_fit_the_context(size: int, limit: int | None, fits: bool) -> None:
    prompt = prompt_of(b"abcd" * size)
    if fits:
        check_room(prompt, limit, SPEC)
        return
    with pytest.raises(ApiError, match="maximum context length is 8192 tokens"):
        check_room(prompt, limit, SPEC)


def test_stream_options_need_a_stream() -> None:
    with pytest.raises(ApiError):
        check_stream_options(Sampled.model_validate({"stream_options": {"include_usage": True}}))
