"""nginx as a peer: its configuration, all of it inside one temporary directory, so that no system nginx is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Template

_CONF = Template("""\
${user}worker_processes 1;
worker_rlimit_nofile 16000;
daemon off;
pid $directory/nginx.pid;
error_log $directory/error.log warn;
events { worker_connections 15000; }
http {
    access_log off;
    client_body_buffer_size 1m;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    keepalive_requests 100000000;
    upstream engines {
        $method
$servers
        keepalive 256;
        keepalive_requests 100000000;
    }
    server {
        listen 127.0.0.1:$port$tls;
        location / {
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
    }
}
""")


def program() -> str | None:
    """The path of nginx; Debian's is not on a plain user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def config(
    directory: Path, port: int, engines: Sequence[int], method: str = "", pair: tuple[Path, Path] | None = None
) -> str:
    """One worker that proxies `port` to the engines' ports over kept connections; in turn, or by another method. With
    `pair`, a certificate and its key, it speaks TLS.

    Bodies of up to 1 MB stay in memory, and streams pass unbuffered, which is its fastest setting.
    """
    # As root, nginx would run its worker as another user, without access to the temporary directory.
    user = "user root;\n" if os.geteuid() == 0 else ""
    servers = "\n".join(f"        server 127.0.0.1:{engine};" for engine in engines)
    tls = " backlog=4096" if pair is None else " ssl backlog=4096; ssl_certificate {}; ssl_certificate_key {}"
    filled = {"servers": servers, "port": port, "method": method and f"{method};", "tls": tls.format(*pair or ())}
    return _CONF.substitute(filled, user=user, directory=directory)


def command(
    directory: Path, port: int, engines: Sequence[int], method: str = "", pair: tuple[Path, Path] | None = None
) -> list[str]:
    """Write the configuration into `directory` and return the command that runs it."""
    path = directory / "nginx.conf"
    path.write_text(config(directory, port, engines, method, pair))
    return [program() or "nginx", "-p", str(directory), "-c", str(path), "-e", str(directory / "error.log")]
