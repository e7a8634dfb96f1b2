from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.api import WRITERS
from loadtests.sim.simpod.openai import tokenize
from loadtests.sim.simpod.script import ApiError, PodSpec, Script

SPEC = PodSpec("pod-1", ("m",), PROFILES["tiny"])
FIELDS = (
    "dimensions encoding_format ignore_eos input max_completion_tokens max_tokens messages min_tokens model n prompt "
    "stream stream_options system tool_choice tools"
).split()

SCALARS = st.none() | st.booleans() | st.integers(-5, 20) | st.text(max_size=5) | st.just(2**63)
MESSAGE = st.fixed_dictionaries({"role": st.just("user"), "content": SCALARS | st.lists(SCALARS, max_size=3)})
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "function"]), inner),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES) | st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=3), "prompt": SCALARS, "input": SCALARS, "max_tokens": SCALARS},
    optional=dict.fromkeys(("tools", "tool_choice", "stream", "stream_options", "system", "min_tokens"), VALUES),
)


@settings(max_examples=150)
@given(BODIES)
def test_any_json_object_becomes_a_script_or_an_error_with_its_reason(body: dict[str, object]) -> None:
    for path, write in WRITERS.items():
        try:
            script = write(body, SPEC)
        except ApiError as error:
            assert error.status in (400, 404) and error.message, path
            continue
        assert script.prompt_tokens >= 1, path
        assert script.prompt_tokens + len(script.pieces) <= SPEC.profile.max_model_len, path
        assert script.whole(0), path
        check_stream(script)


def check_stream(script: Script) -> None:
    """Assert that every event of a stream is complete, and that it has text."""
    if script.stream is None:
        return
    assert script.pieces
    middle = [script.stream.before + script.pieces[0] + script.stream.after]
    assert all(event.endswith(b"\n\n") for event in [*script.stream.opening(0), *middle, *script.stream.closing(0)])


@settings(max_examples=100)
@given(BODIES)
def test_tokenize_returns_tokens_or_an_error_with_its_reason(body: dict[str, object]) -> None:
    try:
        assert tokenize(body, SPEC)
    except ApiError as error:
        assert error.status in (400, 404)
