"""What every answer tells browsers, so that none of them can be misused by a page of another site."""

from collections.abc import Sequence

from starlette.types import Scope

# No more than what matters for data, for each costs a request its time: nobody is to take it for something
# else, to embed it, or to keep it.
ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin"))
NOT_KEPT = (b"cache-control", b"no-store")
# Pages say themselves what they may load.
FOR_PAGES = ((b"x-frame-options", b"DENY"), (b"cross-origin-opener-policy", b"same-origin"))
# Half a year; subdomains are others' to decide about.
ENCRYPTED = (b"strict-transport-security", b"max-age=15768000")
FORWARDED = (b"x-forwarded-proto", b"https")


def is_encrypted(scope: Scope) -> bool:
    """Return whether the client came encrypted, if need be to the proxy before this server."""
    # Whoever makes that header up only keeps his own cookie from travelling in the clear.
    return scope["scheme"] == "https" or FORWARDED in scope["headers"]


def for_problems(*, encrypted: bool) -> list[tuple[bytes, bytes]]:
    """Return what is told with a problem where no edge sees it."""
    return [*ALWAYS, NOT_KEPT, *([ENCRYPTED] if encrypted else [])]


def added_to(headers: Sequence[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with what browsers are to be told (OWASP, HTTP Headers Cheat Sheet)."""
    told = [*headers, *ALWAYS]
    is_kept = is_page = False
    for name, value in headers:
        if name == b"cache-control":
            is_kept = True
        elif name == b"content-type":
            is_page = value.startswith(b"text/html")
    if not is_kept:
        told.append(NOT_KEPT)
    if is_page:
        told += FOR_PAGES
    if is_encrypted(scope):
        told.append(ENCRYPTED)
    return told
