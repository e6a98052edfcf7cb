"""The local page: the explorer on a web server of this machine, which computes the weights that the page asks for.

It answers two addresses: `/` is the page, and `/weights?image=0&layer=11&direction=to&token=17` are weights. It reads
nothing else, writes nothing, and fetches nothing.
"""

import errno
import ipaddress
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from vitral.base.errors import ConfigError, VitralError
from vitral.explorer.live.address import find_address, is_own_name
from vitral.explorer.live.source import LiveSource

WAIT = 60  # seconds after which a connection without requests is closed
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class LocalPage(ThreadingHTTPServer):
    """A server at an address of this machine; `open_page` gives it something to serve.

    Raises `ConfigError` for an address that is taken, that is not this machine's, or that other machines can reach
    unless `allow_remote`.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would allow two servers at one address

    def __init__(self, host: str, port: int, allow_remote: bool = False) -> None:
        self.host = find_address(host, allow_remote)
        self.is_remote = not ipaddress.ip_address(self.host).is_loopback
        self.address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.page, self.policy = b"", ""
        self.source: LiveSource | None = None
        try:
            super().__init__((self.host, port), Handler)
        except OSError as error:
            raise ConfigError(refusal(error, self.host, port)) from error

    def server_bind(self) -> None:
        """Bind without looking up the machine's name, as the standard library's does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def address(self) -> str:
        """What a person types into a browser."""
        everywhere = ipaddress.ip_address(self.host).is_unspecified
        host = socket.gethostname() if everywhere else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}/"

    def open_page(self, source: LiveSource, page: str, policy: str) -> None:
        """Serve a page, and answer what it asks."""
        self.source, self.page, self.policy = source, page.encode(), policy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a browser goes away."""
        if not isinstance(
            sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], ConnectionError | TimeoutError
        ):
            super().handle_error(request, client_address)


def refusal(error: OSError, host: str, port: int) -> str:
    """Why a server cannot have an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is taken by another program, perhaps another `vitral explore --live`. Choose "
            "another with --port, or let --port 0 find a free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} is not open to you: those below 1,024 are the system's. Choose another with --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine."
    return f"A page cannot be opened at {host}, port {port}: {error.strerror or error}."


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: LocalPage
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vitral", ""
    timeout = WAIT
    wbufsize = -1  # headers and body leave together
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        host = self.headers.get("Host")
        if not is_own_name(host, self.server.is_remote):
            return self.answer(
                421, "text/plain", f"This server does not answer as {host}. Open {self.server.address}\n"
            )
        request = urlsplit(self.path)
        if request.path == "/":
            return self.answer(200, "text/html", self.server.page)
        if request.path == "/favicon.ico":
            return self.answer(204, "text/plain", b"")
        if request.path != "/weights" or self.server.source is None:
            return self.answer(404, "text/plain", f"There is nothing at {request.path}.")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return self.answer(403, "text/plain", "Only the explorer's own page may ask for weights.")
        try:
            weights = self.server.source.answer(dict(parse_qsl(request.query)))
        except VitralError as error:
            return self.answer(400, "text/plain", str(error))
        return self.answer(200, "application/octet-stream", weights)

    do_HEAD = do_GET

    def answer(self, status: int, kind: str, content: str | bytes) -> None:
        """Send a whole answer."""
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind if kind == "application/octet-stream" else f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        policy = self.server.policy if status == 200 and kind == "text/html" else "default-src 'none'"
        self.send_header("Content-Security-Policy", f"{policy}; frame-ancestors 'none'")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *words: Any) -> None:
        """Requests are not printed: there is one per patch."""
