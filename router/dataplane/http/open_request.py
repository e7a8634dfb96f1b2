"""A request that is being answered, as its connection knows it. Knows no HTTP, no connection and no pod."""

from __future__ import annotations

from typing import Protocol, TypeVar


class OpenRequest(Protocol):
    """A request that is being answered, as its connection knows it."""

    @property
    def deadline(self) -> float:
        """When the request must be over, on the connection's clock; 0.0 for never."""

    def pause(self) -> None:
        """The client's write buffer is full: write no more of the answer for now."""

    def resume(self) -> None:
        """The client takes bytes again."""


R = TypeVar("R", bound=OpenRequest)
"""The requests of a connection."""
