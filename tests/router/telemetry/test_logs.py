"""The form of a log line, with unusual values and with secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.trace import TraceState

from router.settings import Logging
from router.telemetry import logs


@pytest.fixture(autouse=True)
def _put_logging_back() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    logging.getLogger(logs.ACCESS).disabled = False


def written(settings: Logging) -> io.StringIO:
    # pytest's capture raises at unusual values, so the stream under test is read instead.
    captures = [handler for handler in logging.getLogger().handlers if type(handler).__name__ == "LogCaptureHandler"]
    for capture in captures:
        logging.getLogger().removeHandler(capture)
    stream = io.StringIO()
    logs.configure(settings, stream)
    return stream


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_the_five_fields_and_those_of_the_call() -> None:
    stream = written(Logging(format="json"))
    logging.getLogger("turnout.x").warning("pod %s is out", "a:1", extra={"request_id": "r-9", "pod": "a:1", "n": 3})
    (line,) = json_lines(stream)
    assert str(line.pop("ts")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "turnout.x",
        "msg": "pod a:1 is out",
        "request_id": "r-9",
        "pod": "a:1",
        "n": 3,
    }


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        Odd(),
        LOOP,
        float("nan"),
        float("inf"),
        "\ud800 alone",
        b"\xff",
        {1: {"a": Odd()}, Odd(): 2},
        {3, 4},
        10**5000,
        None,
        "a\nb",
        "x" * 100_000,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("form", ["json", "human"])
def test_a_line_survives_any_value_as_field_and_as_argument(value: object, form: str) -> None:
    stream = written(Logging(format=form))
    logger = logging.getLogger("turnout.odd")
    logger.info("field", extra={"value": value})
    logger.info("argument %s", value)
    logger.info("too many", value)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(len(line) < 20_000 for line in lines)
    if form == "json":
        assert [line["level"] for line in json_lines(stream)] == ["info"] * 3


def test_a_field_cannot_replace_the_level() -> None:
    stream = written(Logging(format="json"))
    logging.getLogger("turnout.x").error("boom", extra={"level": "debug", "ts": "never"})
    (line,) = json_lines(stream)
    assert (line["level"], line["level_"], line["ts_"]) == ("error", "debug", "never")


@pytest.mark.parametrize("form", ["json", "human"])
def test_secrets_and_prompts_never_reach_the_stream(form: str) -> None:
    stream = written(Logging(format=form))
    logger = logging.getLogger("turnout.x")
    logger.info("sent Authorization: Bearer hush-1", extra={"token": "hush-2", "prompt": "hush-3"})
    logger.info(
        "state redis://user:hush-4@host:6379/0", extra={"detail": {"Authorization": "hush-5", "body": "hush-6"}}
    )
    try:
        raise RuntimeError("Bearer hush-7")
    except RuntimeError:
        logger.exception("failed")
    assert "hush" not in stream.getvalue()
    assert "redis://[removed]@host:6379/0" in stream.getvalue()


def test_a_secret_with_colons_is_found_and_a_path_of_colons_has_none() -> None:
    """Case E 21: the search is linear."""
    stream = written(Logging())
    logging.getLogger("turnout.x").info("redis://user:hush:hush@host and x://%s", ":" * 60_000)
    assert "redis://[removed]@host and x://:::" in stream.getvalue()


def test_a_human_line_is_readable_and_control_characters_cannot_forge_it() -> None:
    stream = written(Logging())
    logging.getLogger("turnout.x").warning("model %s", "a\n12:00 error\x1b[2J", extra={"request_id": "r\n1"})
    (line,) = stream.getvalue().splitlines()
    assert line[12:].startswith(" warning turnout.x: model a\\n12:00 error\\x1b[2J")
    assert line.endswith(" request_id=r\\n1")


def test_a_traceback_is_below_the_human_line_and_inside_the_json_one() -> None:
    for form, lines in (("human", 4), ("json", 1)):
        stream = written(Logging(format=form))
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("turnout.x").exception("it broke")
        assert "ValueError: why" in stream.getvalue()
        assert len(stream.getvalue().splitlines()) >= lines
        assert form == "human" or len(stream.getvalue().splitlines()) == 1


def test_the_libraries_loggers_write_in_the_same_form() -> None:
    noisy = logging.StreamHandler(io.StringIO())
    logging.getLogger("uvicorn.error").addHandler(noisy)
    stream = written(Logging(format="json"))
    logging.getLogger("uvicorn.error").error("from uvicorn")
    logging.getLogger("redis").warning("from redis")
    logging.getLogger("httpx").info("GET /metrics 200")
    assert [line["logger"] for line in json_lines(stream)] == ["uvicorn.error", "redis"]
    assert noisy not in logging.getLogger("uvicorn.error").handlers


def test_configuring_again_replaces_the_handler_instead_of_doubling_lines() -> None:
    first = written(Logging(format="json"))
    second = written(Logging(format="json", level="error"))
    logging.getLogger("turnout.x").warning("too low")
    logging.getLogger("turnout.x").error("once")
    assert first.getvalue() == ""
    assert [line["msg"] for line in json_lines(second)] == ["once"]


def test_the_access_log_is_off_unless_asked_for() -> None:
    stream = written(Logging(format="json"))
    logging.getLogger(logs.ACCESS).info("GET")
    assert stream.getvalue() == ""
    stream = written(Logging(format="json", access=True))
    logging.getLogger(logs.ACCESS).info("GET")
    assert len(json_lines(stream)) == 1


def test_what_a_client_sent_as_state_of_a_trace_is_not_logged() -> None:
    stream = written(Logging())
    assert not TraceState.from_header(["v=1,sk-secret"])
    assert stream.getvalue() == ""
