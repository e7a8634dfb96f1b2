"""A browser: on a page of another origin (case D 14), and on the control port's own page."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest

from tests.clients.conftest import CLIENT_S, Clients
from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.programs import need
from tests.fakes.sim_process import MODEL, SimPods

pytestmark = pytest.mark.needs("chromium")

HEADLESS = ("--headless", "--no-sandbox", "--disable-gpu")
PAGE = """<!doctype html><pre id="out">none</pre><script>
const out = document.getElementById("out");
const ask = async (path, options) => {
  try {
    const answer = await fetch("GATEWAY" + path, options);
    return [answer.status, (await answer.text()).includes("[DONE]")];
  } catch (error) {
    return [error.name];
  }
};
const post = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json", authorization: "Bearer none" },
  body: JSON.stringify(body),
});
const chat = { model: "MODEL", messages: [{ role: "user", content: "hello" }], max_tokens: 4 };
(async () => {
  const seen = {
    models: await ask("/v1/models"),
    stream: await ask("/v1/chat/completions", post({ ...chat, stream: true })),
    unknown: await ask("/v1/chat/completions", post({ ...chat, model: "nosuch" })),
  };
  out.textContent = "seen " + JSON.stringify(seen) + " end";
})();
</script>"""


class Site:
    """A web site with one page."""

    def __init__(self) -> None:
        self.page = b""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(site.page)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = Thread(target=site.server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
        site.server.server_close()


def fetched(clients: Clients, site: Site, gateway: GatewayProcess) -> dict[str, list[object]]:
    site.page = PAGE.replace("GATEWAY", gateway.url).replace("MODEL", MODEL).encode()
    options = [*HEADLESS, "--virtual-time-budget=30000", "--timeout=60000"]
    page = clients.run([need("chromium"), *options, f"--user-data-dir={clients.home}", "--dump-dom", site.origin])
    found = re.search(r"seen (\{.*\}) end", page)
    assert found, page
    seen: dict[str, list[object]] = json.loads(found[1])
    return seen


@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_of_another_origin_reads_answers_and_errors_where_it_is_allowed(
    clients: Clients, engines: SimPods, site: Site, tmp_path: Path, allowed: bool
) -> None:
    cors = {"allow_origins": [site.origin if allowed else "http://elsewhere.test"]}
    with running(config(engines.urls, cors=cors), tmp_path / "gateway") as gateway:
        gateway.wait_until_ready()
        seen = fetched(clients, site, gateway)
    if allowed:
        assert seen == {"models": [200, False], "stream": [200, True], "unknown": [404, False]}
    else:
        assert set(map(tuple, seen.values())) == {("TypeError",)}


class Shown(NamedTuple):
    """A page in a browser."""

    page: str
    log: str
    requests: set[str]
    """Every URL that the page made it ask for, by its own log of the network: the page's too."""


def shown(url: str, home: Path) -> Shown:
    log = home / "net.json"
    options = [*HEADLESS, f"--user-data-dir={home / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr"]
    done = subprocess.run(
        [need("chromium"), *options, "--timeout=60000", "--dump-dom", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=CLIENT_S,
    )
    found = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # The browser asks its maker's servers as well, but not on behalf of a page.
    of_page = {each["url"] for each in found if "127.0.0.1" in each.get("network_isolation_key", "") and "url" in each}
    return Shown(done.stdout, done.stderr, of_page)


def test_the_page_of_the_control_port_is_shown_in_its_style_and_asks_no_other_host(
    engines: SimPods, site: Site, tmp_path: Path
) -> None:
    site.page = b'<!doctype html><img src="http://elsewhere.test/leak.png">'
    seen = shown(site.origin, tmp_path)
    assert "http://elsewhere.test/leak.png" in seen.requests, "it would not be seen below"
    with running(config(engines.urls), tmp_path / "gateway") as gateway:
        gateway.wait_until_ready()
        page = f"{str(gateway.control.base_url).rstrip('/')}/docs"
        seen = shown(page, tmp_path)
    assert "/admin/pools/{pool}/policy</code>" in seen.page
    assert "Content Security Policy" not in seen.log, "it refused a part of its own page"
    assert {url for url in seen.requests if not url.endswith("/favicon.ico")} == {page}
