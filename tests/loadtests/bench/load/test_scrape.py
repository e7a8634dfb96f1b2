"""The scraper, with a real metrics page."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from loadtests.bench.load.scrape import scraped


def test_a_page_is_read_at_once_and_until_the_block_ends() -> None:
    read = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            read.set()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            with scraped(f"http://127.0.0.1:{server.server_port}/metrics"):
                assert read.wait(60)
            assert "scrape" not in [thread.name for thread in threading.enumerate()]
        finally:
            server.shutdown()
            serving.join()


def test_without_a_page_no_thread_is_started() -> None:
    with scraped(""):
        assert "scrape" not in [thread.name for thread in threading.enumerate()]
