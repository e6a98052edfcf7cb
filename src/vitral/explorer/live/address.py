"""Where the local page is: on this machine only, unless a person says otherwise."""

import ipaddress
import socket

from vitral.base.errors import ConfigError

LOCALHOST = "127.0.0.1"


def find_address(host: str, allow_remote: bool) -> str:
    """The address that a host stands for. No name is looked up.

    Raises `ConfigError` for what is no address, and for one that other machines can reach unless that is allowed.
    """
    if host == "localhost":
        return LOCALHOST
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ConfigError(
            f"--host {host} is not an IP address. Use {LOCALHOST}, or the address of this machine."
        ) from None
    if not address.is_loopback and not allow_remote:
        raise ConfigError(
            f"--host {host} lets other machines open the page, with your images and the model's answers, and without a "
            f"password. Leave --host out to keep it on this machine ({LOCALHOST}); if others are meant to see it, add "
            "--allow-remote."
        )
    return str(address)


def is_own_name(header: str | None, is_remote: bool) -> bool:
    """Whether a request's Host header names this server, and not a site that had its name point here (DNS rebinding).

    An address of digits is no name. The port may differ, as behind a tunnel.

    >>> is_own_name("localhost:8765", False), is_own_name("[::1]:80", False), is_own_name("evil.example:8765", False)
    (True, True, False)
    """
    name = (header or "").strip().lower()
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or (is_remote and name == socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return is_remote or address.is_loopback
