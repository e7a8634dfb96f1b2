"""Builds the docs site from docs/ and mkdocs.yml with zensical: `python -m scripts.docs_site [--out site]`.

The pages are written for the repository, so that they can be read there. Some pages of the site lie outside docs/, such
as CHANGELOG.md; they are copied in, and the links between all of them follow. A link to any other file of the
repository becomes its path in the text. The build is strict: a link to a page or a heading that is not there ends it.
The site needs no other host, and no server: `site/index.html` can be opened as a file.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOVED: Mapping[str, str] = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "schedulers/README.md": "built-in-policies.md",
}
"""Pages outside docs/ -> their file on the site."""

_SHIM, _OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker.js"
"""The one script that the theme takes from another host, for the search in files, and the copy of it in docs/."""

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[\w-]+)?\)")
_FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)


def staged(root: Path, to: Path) -> None:
    """Lay the site's sources out below `to`, as the builder reads them."""
    shutil.copytree(root / "docs", to / "docs")
    shutil.copy(root / "mkdocs.yml", to)
    for source in sources(root):
        target = to / "docs" / place(source)
        target.write_text(relinked((root / source).read_text(), source, root))


def sources(root: Path) -> Sequence[str]:
    """Every page of the site, by its path in the repository."""
    inside = [str(path.relative_to(root)) for path in sorted((root / "docs").rglob("*.md"))]
    return [*inside, *MOVED]


def place(source: str) -> str:
    """The file on the site, below its docs folder."""
    return MOVED.get(source) or source.removeprefix("docs/")


def relinked(text: str, source: str, root: Path) -> str:
    """The page with its links as they are on the site."""

    def changed(found: re.Match[str]) -> str:
        return _changed(found, source, root)

    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(changed, part) for part in parts[::2]]
    return "".join(parts)


def _changed(found: re.Match[str], source: str, root: Path) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["target"]))
    if target not in MOVED and not target.startswith("docs/"):
        inner = found["text"] if relinkable(found["text"]) else f"{found['text']} (`{target}`)"
        return inner if (root / target).exists() else found[0]
    start = posixpath.dirname(place(source)) or "."
    return f"{found['image']}[{found['text']}]({posixpath.relpath(place(target), start)}{found['anchor'] or ''})"


def relinkable(text: str) -> bool:
    """Whether a link's text says itself where its target is: it is a path."""
    return text.startswith("`") and text.endswith("`")


def build(out: Path, root: Path = ROOT) -> str:
    """Build the site; returns what the builder printed. Raises CalledProcessError where it found something wrong."""
    with tempfile.TemporaryDirectory(prefix="turnout-docs-") as made:
        to = Path(made)
        staged(root, to)
        command = [str(Path(sys.executable).parent / "zensical"), "build", "-c", "--strict", "-f", "mkdocs.yml"]
        done = subprocess.run(command, cwd=to, capture_output=True, text=True, check=True)
        for page in (to / "site").rglob("*.html"):
            up = "../" * (len(page.relative_to(to / "site").parts) - 1)
            page.write_text(page.read_text().replace(_SHIM, up + _OWN_SHIM))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(to / "site", out)
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Build it, and say where it is or what is wrong."""
    parser = argparse.ArgumentParser(description="Builds the docs site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    given = parser.parse_args(argv)
    try:
        build(given.out)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stdout + error.stderr.partition("Traceback")[0])
        return 1
    sys.stdout.write(f"{given.out}/index.html\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
