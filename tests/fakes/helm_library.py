"""Answers questions about a chart, a line of JSON each, by Helm's own library. Runs in a process of its own:
the library is a Go program, whose threads and signal handlers stay out of the tests. usage: helm_library.py CHART
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python  # type: ignore[import-untyped, import-not-found, unused-ignore]

NO_CLUSTER = "apiVersion: v1\nkind: Config\n"


def answer(path: str, chart: Any, what: str, given: list[Any]) -> Any:
    """The answer to one question. Raises HelmError."""
    if what == "render":
        return chart.render(given[0], name=given[1], namespace=given[2])
    if what == "lint":
        return helm_python.lint(path, given[0], strict=True, kube_version=given[1])["messages"]
    if what == "package":
        return helm_python.package(path, destination=given[0])
    if what == "load":
        with helm_python.Chart.load(given[0]) as packed:
            return {"version": packed.version, "files": [each["name"] for each in packed.files]}
    with helm_python.Config(kubeconfig_content=NO_CLUSTER, namespace=given[2]) as config:
        return config.install(chart, given[1], given[0], namespace=given[2], dry_run="client")


def main(path: str) -> None:
    """Answers until standard input ends."""
    chart = helm_python.Chart.load(path)
    for line in sys.stdin:
        what, *given = json.loads(line)
        try:
            said = {"result": answer(path, chart, what, given)}
        except helm_python.HelmError as error:
            said = {"error": str(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
