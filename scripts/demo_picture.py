"""Prints an SVG of the live view of a `turnout demo` that runs: the picture in the README, docs/images/demo.svg.

usage: demo_picture.py [CONTROL_URL] > docs/images/demo.svg
"""

from __future__ import annotations

import asyncio
import io
import re
import sys

import httpx
from rich.console import Console

from loadtests.sim.demo import CONTROL_PORT, INFERENCE_PORT, WINDOW_S, Ports, footer, reading
from loadtests.sim.ports import HOST
from router.cli.fleet_view import Size, screen

COLUMNS = 80
LINES = 24


async def picture(control: str) -> str:
    """The screen that the demo shows, from two readings that are WINDOW_S apart."""
    async with httpx.AsyncClient(base_url=control, trust_env=False) as client:
        before = await reading(client)
        await asyncio.sleep(WINDOW_S)
        now = await reading(client)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(screen(now, before, footer(Ports(INFERENCE_PORT, CONTROL_PORT, ())), Size(COLUMNS, LINES)))
    # A fixed id: two pictures of the same readings are the same file.
    return without_fonts(console.export_svg(title="turnout demo", unique_id="demo"))


def without_fonts(svg: str) -> str:
    """GitHub loads no fonts for an image: the viewer's own monospace font takes the place of rich's web font."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://{HOST}:{CONTROL_PORT}"
    sys.stdout.write(asyncio.run(picture(url)) + "\n")
