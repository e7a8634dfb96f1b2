"""Whether a 404 says that the pod lacks the model, in the words of vLLM, OpenAI, Anthropic and Ollama. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

MAX_MESSAGE: Final = 4096
"""Characters of a message that are read."""

_MISSING: Final = re.compile(r"\b(?:does not exist|doesn't exist|not found|unknown|is not served)\b", re.IGNORECASE)
_NAMED: Final = re.compile(r"\s*(?:the |requested )*model\b[\s:=`'\"]*", re.IGNORECASE)
"""What stands before the model's name at the beginning of such a message. Elsewhere a message may quote what the client
sent, such as the id of a response, which must not make a pod seem to lack the model."""


class _Error(msgspec.Struct):
    """The fields of an error that are read; engines give some of them other types."""

    code: Any = None
    message: Any = None
    param: Any = None


class _Answer(_Error):
    """An answer: OpenAI and Anthropic nest the error, vLLM once did not, Ollama writes a text."""

    error: Any = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def lacks_model(body: bytes, model: str) -> bool:
    """Whether this body of a 404 is about the model, and not about a path or anything else that is not there."""
    try:
        answer = _decode(body)
        nested = answer.error
        error = msgspec.convert(nested, _Error) if isinstance(nested, dict) else answer
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    if error.code == "model_not_found":
        return True
    message = nested if isinstance(nested, str) else error.message
    if not isinstance(message, str):
        return False
    message = message[:MAX_MESSAGE]
    named = _NAMED.match(message)
    about_it = error.param == "model" or (named is not None and message.startswith(model, named.end()))
    return about_it and _MISSING.search(message) is not None
