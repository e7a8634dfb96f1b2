"""Why streams stay where they are: every reason has its words."""

from __future__ import annotations

import re
from pathlib import Path

from router.dataplane.failover import reasons
from router.dataplane.failover.continuation import FORBIDDEN
from router.dataplane.failover.reasons import REASONS, NotMoved


def test_every_reason_that_the_code_gives_has_words() -> None:
    folder = Path(reasons.__file__).parent
    given = {reason for _, _, reason in FORBIDDEN}
    for source in (*folder.glob("*.py"), *(folder.parent / f"{name}.py" for name in ("movable_relay", "stream_mover"))):
        given |= set(re.findall(r'(?:NotMoved|give_up)\("(\w+)"\)', source.read_text()))
    assert {"path", "tools", "size", "ended"} <= given <= REASONS.keys()


def test_the_words_end_an_error_message() -> None:
    assert NotMoved("tools").words == " It was not continued on another pod: tools may be called in it."
