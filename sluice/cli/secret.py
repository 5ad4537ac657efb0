"""The key that goes with every request: from the environment to one server, and nowhere else."""

import re
from collections.abc import Mapping
from ipaddress import ip_address

import httpx

from sluice.cli.errors import UsageError

VARIABLE = "SLUICE_KEY"
KEY = re.compile(r"[!-~]+")


def read_secret(environment: Mapping[str, str]) -> str:
    """Return the key that is set, or nothing; raise `UsageError`, without what it is, if it can be none."""
    secret = environment.get(VARIABLE, "")
    if secret and not KEY.fullmatch(secret):
        raise UsageError(f"what {VARIABLE} is set to is no key: a key is visible ASCII characters, without spaces")
    return secret


def is_loopback(url: httpx.URL) -> bool:
    """Return whether what is sent there stays on this machine."""
    host = url.host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_readable_on_the_way(url: httpx.URL) -> bool:
    """Return whether others than the server could read what is sent there."""
    return url.scheme == "http" and not is_loopback(url)
