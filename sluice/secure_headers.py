"""What every answer tells browsers, so that none of them can be misused by a page of another site."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """Return what is told with a problem where the middleware does not see it."""
    return [*ALWAYS, NOT_KEPT, *([ENCRYPTED] if encrypted else [])]


class SecureHeaders:
    """An ASGI middleware that adds what browsers are to be told (OWASP, HTTP Headers Cheat Sheet)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = [*message["headers"], *ALWAYS]
                given = dict(headers)
                if b"cache-control" not in given:
                    headers.append(NOT_KEPT)
                if given.get(b"content-type", b"").startswith(b"text/html"):
                    headers += FOR_PAGES
                if is_encrypted(scope):
                    headers.append(ENCRYPTED)
            await send(message)

        await self._app(scope, receive, adding)
