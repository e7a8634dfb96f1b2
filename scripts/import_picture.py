"""The imports of the packages in numbers: folders, and the arrows between them.

A folder is what stands directly in a package: a subpackage with all that is in it, or a single module. An arrow leads
from one folder to another when any module of the first imports any of the second, for types alone included. A set of
folders that reach each other forms a circle: only without circles is there an order in which no arrow points upward.

    python scripts/import_picture.py [--root DIRECTORY] [PACKAGE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("router", "router.dataplane", "statesync", "statesync.store", "schedulers")


class Picture(NamedTuple):
    """One package."""

    package: str
    modules: int
    folders: int
    arrows: frozenset[tuple[str, str]]
    """Pairs of folders, importer first."""

    @property
    def circular(self) -> list[tuple[str, str]]:
        """Arrows inside a circle of folders; without any, every arrow points downward in some order."""
        below = reachable(self.arrows)
        return sorted((a, b) for a, b in self.arrows if a in below.get(b, ()))

    def __str__(self) -> str:
        return (
            f"{self.package}: {self.modules} modules, {self.folders} folders, {len(self.arrows)} arrows between them, "
            f"{len(self.circular)} in circles"
        )


def reachable(arrows: Iterable[tuple[str, str]]) -> Mapping[str, Collection[str]]:
    """All folders that can be reached from each, over any number of arrows."""
    next_to: dict[str, set[str]] = {}
    for start, end in arrows:
        next_to.setdefault(start, set()).add(end)
    found: dict[str, set[str]] = {}
    for start in next_to:
        seen: set[str] = set()
        todo = [start]
        while todo:
            fresh = next_to.get(todo.pop(), set()) - seen
            seen |= fresh
            todo += fresh
        found[start] = seen
    return found


def pictures(packages: Iterable[str] = PACKAGES) -> list[Picture]:
    """The packages as they can be imported from here; nothing is executed."""
    import grimp  # it comes with import-linter

    wanted = list(packages)
    roots = sorted({package.split(".")[0] for package in wanted})
    graph = grimp.build_graph(roots[0], *roots[1:], cache_dir=None)
    return [picture(package, graph.modules, graph.find_modules_directly_imported_by) for package in wanted]


def picture(package: str, modules: Iterable[str], imported_by: object) -> Picture:
    """One package out of the graph of all imports."""
    assert callable(imported_by)
    inside = [module for module in modules if module.startswith(f"{package}.")]
    arrows = {
        (folder(package, module), folder(package, other))
        for module in inside
        for other in imported_by(module)
        if other.startswith(f"{package}.")
    }
    folders = {folder(package, module) for module in inside}
    return Picture(package, len(inside), len(folders), frozenset((a, b) for a, b in arrows if a != b))


def folder(package: str, module: str) -> str:
    """The part of a module's name that stands directly in the package."""
    return module.removeprefix(f"{package}.").split(".")[0]


def main(argv: list[str] | None = None) -> int:
    """Print a line for each package, and each arrow that is part of a circle."""
    parser = argparse.ArgumentParser(description="The imports of the packages in numbers.")
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the tree to look at")
    given = parser.parse_args(argv)
    sys.path.insert(0, str(given.root))
    for each in pictures(given.packages):
        sys.stdout.write(f"{each}\n")
        for start, end in each.circular:
            sys.stdout.write(f"  {start} -> {end}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
