"""An example of an agent that keeps state: what each session said, in a file of its own under STATE_DIR, a volume.

POST /agents/SESSION/messages {"id", "text"} keeps a message once, whatever comes twice, and answers when it is on disk.
GET of the same lists all, GET /agents/SESSION/events sends them as events, GET /healthz answers 200.
On SIGTERM it takes requests for SETTLE_S more, finishes them and ends. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

STATE = Path(os.environ.get("STATE_DIR", "/state"))
POD = os.environ.get("POD_NAME", "agent")
SETTLE_S = float(os.environ.get("SETTLE_S", "5"))
SESSION = re.compile(r"/agents/([A-Za-z0-9_-]{1,64})/(messages|events)")

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def messages(session: str) -> list[dict[str, str]]:
    """What the session said, oldest first. A last line that was cut by a crash was never answered, so it is dropped."""
    file = STATE / f"{session}.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def keep(session: str, message: dict[str, str]) -> int:
    """Add a message unless it is there; returns how many there are. It is on disk when this returns."""
    with _locks[session]:
        known = messages(session)
        if all(each["id"] != message["id"] for each in known):
            known.append({"id": message["id"], "text": message["text"]})
            new = STATE / f".{session}.new"
            with new.open("w") as file:
                file.writelines(json.dumps(each) + "\n" for each in known)
                file.flush()
                os.fsync(file.fileno())
            new.replace(STATE / f"{session}.jsonl")
        return len(known)


class Agent(BaseHTTPRequestHandler):
    """One request; its connection closes after it (HTTP/1.0), so that no idle connection delays the end."""

    def do_GET(self) -> None:
        """The messages of a session, or whether the agent is well."""
        found = SESSION.fullmatch(self.path)
        if self.path == "/healthz":
            self._answer(200, {"status": "ok"})
        elif found is None:
            self._answer(404, {"error": "no such path"})
        elif found[2] == "messages":
            self._answer(200, {"pod": POD, "messages": messages(found[1])})
        else:
            self._head(200, "text/event-stream")
            for message in messages(found[1]):
                self.wfile.write(f"data: {json.dumps(message)}\n\n".encode())

    def do_POST(self) -> None:
        """A message of a session."""
        found = SESSION.fullmatch(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if found is None or found[2] != "messages":
            self._answer(404, {"error": "no such path"})
            return
        try:
            count = keep(found[1], json.loads(body))
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"error": "the body is no message"})
            return
        self._answer(200, {"pod": POD, "messages": count})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self._head(status, "application/json", len(body))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int | None = None) -> None:
        """The head; with its length an answer that a crash cut short is seen to be."""
        self.send_response(status)
        self.send_header("content-type", kind)
        if length is not None:
            self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """No line a request."""


class Server(ThreadingHTTPServer):
    """Waits for its requests when it closes."""

    daemon_threads = False
    request_queue_size = 1024


def main() -> None:
    """Serve until SIGTERM."""
    STATE.mkdir(parents=True, exist_ok=True)
    server = Server((os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))), Agent)

    def settle() -> None:
        time.sleep(SETTLE_S)  # gateways and probes notice meanwhile that this pod terminates
        server.shutdown()

    def terminate(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=settle).start()

    signal.signal(signal.SIGTERM, terminate)
    sys.stdout.write(f"{POD} listens on port {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
