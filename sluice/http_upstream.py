"""The HTTP upstream: one call per ID, the IDs of a batch at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import anyio
import httpcore
import httpx
from pydantic_core import from_json, to_json

from sluice.early_connections import EarlyConnections
from sluice.ingestion import Batch
from sluice.upstream import Json, PreparedUpstream, UpstreamError, UpstreamUnavailable, too_large

# Seconds that an idle connection is kept. Shorter than any common server keeps it (gunicorn 2,
# uvicorn, Node and Apache 5): a call on a connection that is just being closed fails.
KEEP_ALIVE = 1.0
# Seconds within which the calls of a batch count as one. What is sent later waited for a connection: if the pace did
# not count from that, an upstream that counts calls would see the next batch's too soon.
TOGETHER = 0.01
LONGEST_RETRY_AFTER = 366 * 86_400.0  # seconds; digits can say infinity
# Compressed, a small body could hide one that takes gigabytes before its size is known.
PLAIN = {"Accept-Encoding": "identity"}
WORTH_ANOTHER_ATTEMPT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
MAY_ASK_FOR_A_HOLD = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class HttpUpstream(PreparedUpstream):
    """A real upstream: `GET` on `url` with `{id}` filled in, the IDs of a batch at the same time.

    A call is done when it is answered 2xx within `timeout` seconds with at most
    `max_bytes`; redirects are not followed. Each call has an `Idempotency-Key` of
    `<batch_id>/<id>`, the same at every attempt. `time` gives Unix seconds.
    `on_sent` is called when the first call of a batch has been sent, and again for
    others that are sent notably later.
    An async context manager: leaving it closes the connections.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is a setting
        self,
        url: str,
        timeout: float,
        max_bytes: int,
        time: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
        may_send: Callable[[], bool] = lambda: True,
        on_sent: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._time = time
        self._may_send = may_send
        self._on_sent = on_sent
        self._sent_at = float("-inf")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE)
        # No cookie is taken: it would go out again with every other call, from one ingestion to the next.
        cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(timeout=timeout, transport=transport, limits=limits, cookies=cookies)
        self._early = EarlyConnections(KEEP_ALIVE)
        # httpx passes none on to its pool. A proxy, which the environment may name, has a pool of its own.
        if isinstance(own := self._client._transport, httpx.AsyncHTTPTransport):
            own._pool._network_backend = self._early

    @property
    def lead(self) -> float:
        """How many seconds before a start it is to be prepared for."""
        return self._early.lead

    def prepare(self, count: int) -> None:
        """Begin to make the connections for so many IDs, if those of the last batch found none to use."""
        self._early.prepare(count)

    async def __aenter__(self) -> Self:
        """Open nothing yet: connections are made, and kept, as calls need them."""
        # Imported now, not by httpx at its first call, which would come late by it: the next start would be early.
        httpcore.AnyIOBackend()
        anyio.get_cancelled_exc_class()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections that are kept, or were made early."""
        try:
            await self._early.aclose()
        finally:
            await self._client.aclose()

    async def process(self, batch: Batch) -> list[object]:
        """Call the upstream once per ID; return the JSON (or text) of each, or the error that took its place."""
        self._sent_at = float("-inf")
        self._early.begin_batch(len(batch.ids))
        # Whatever one of them raises, the slot lasts until all have ended.
        return await asyncio.gather(*map(self._call, batch.ids, batch.batch_ids), return_exceptions=True)

    async def _call(self, item: int, batch_id: str) -> object:
        url, headers = self._url.replace("{id}", str(item)), {"Idempotency-Key": f"{batch_id}/{item}", **PLAIN}
        try:
            # httpx limits each read; a body that trickles in needs a limit on the whole.
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("GET", url, headers=headers, extensions={"trace": self._tracer()}) as response,
            ):
                if not response.is_success:
                    return self._refusal(response)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self._max_bytes:
                        return too_large(self._max_bytes)
        except (TimeoutError, httpx.TimeoutException):
            return UpstreamUnavailable(f"no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return UpstreamUnavailable(type(error).__name__)
        data = _data(bytes(body))
        # Text takes up to six times as much as JSON, which is what is kept and sent.
        return too_large(self._max_bytes) if data is not None and len(data) > self._max_bytes else data

    def _tracer(self) -> Callable[[str, Any], Awaitable[None]]:
        """Return what sends nothing that must not be sent any more, when it comes to that, and tells when it was."""
        is_tunnel = False

        async def trace(event: str, info: Any) -> None:
            nonlocal is_tunnel
            if event.endswith(".send_request_headers.started"):
                # What goes to a proxy before the call itself is traced as well.
                is_tunnel = info["request"].method == b"CONNECT"
                if not self._may_send():
                    raise UpstreamUnavailable("not called: another process runs the lane now")
            elif event.endswith(".send_request_headers.complete") and not is_tunnel:
                now = asyncio.get_running_loop().time()
                if now > self._sent_at + TOGETHER:
                    self._sent_at = now
                    self._on_sent()

        return trace

    def _refusal(self, response: httpx.Response) -> UpstreamError:
        status, text = response.status_code, f"answered {response.status_code}"
        if status in MAY_ASK_FOR_A_HOLD and (asked := self._retry_after(response.headers)) > 0:
            return UpstreamUnavailable(f"{text}, Retry-After {asked:.0f} s", asked)
        if response.is_server_error or status in WORTH_ANOTHER_ATTEMPT:
            return UpstreamUnavailable(text)
        return UpstreamError(text)

    def _retry_after(self, headers: httpx.Headers) -> float:
        """Return the seconds of a `Retry-After`, which has seconds or an HTTP date (RFC 9110, 10.2.3), or 0."""
        value = headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdecimal():
            return min(float(value), LONGEST_RETRY_AFTER)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - self._time()
        return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _data(body: bytes) -> Json | None:
    """Return the JSON in a body as it came, or its text."""
    if not body:
        return None
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError:
        return Json(to_json(body.decode(errors="replace")))
    return Json(body.translate(None, b"\r\n"))  # which in JSON can only be white space
