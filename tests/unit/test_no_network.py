"""No test reaches the network."""

import socket
import urllib.request

import pytest


def test_a_connection_out_is_refused():
    with pytest.raises(AssertionError, match="tried to"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(AssertionError, match="tried to"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
