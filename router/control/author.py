"""Who makes a change, for the history and the audit log."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Header, Request

from router.control.tokens import Caller

AUTHOR: Final = "x-turnout-author"
"""The header in which a caller names itself."""


def author_of(header: str) -> str:
    """What a caller calls itself: mostly UTF-8, which a header's text shows byte by byte."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def made_by(caller: Caller, author: str) -> str:
    """The token's name, which cannot be made up, before what the caller calls itself. No name has a colon."""
    return ": ".join(filter(None, (caller.name, author)))


async def _maker(request: Request, x_turnout_author: Annotated[str, Header(max_length=200)] = "") -> str:
    return made_by(request.state.caller, author_of(x_turnout_author))


Maker = Annotated[str, Depends(_maker)]
"""Who makes the change that a route is asked for."""
