"""The service over HTTP: typed answers, safe retries, errors that say what to do."""

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from sluice.cli.errors import DeniedError, TruncatedError, UnreachableError, UsageError
from sluice.cli.secret import VARIABLE, is_loopback
from sluice.schemas import (
    IngestionResponse,
    IngestResponse,
    ListResponse,
    PriorityName,
    QueueResponse,
    StatusResponse,
)
from sluice.timeline_schemas import ForecastsResponse

TIMEOUT = httpx.Timeout(30.0, connect=5.0)  # seconds
# No answer is not the end of a stream that has nothing to say; the system finds out when the other side is gone.
SILENT_FOR_LONG = httpx.Timeout(30.0, connect=5.0, read=None)
ATTEMPTS = 4
BACKOFF = 0.25  # seconds before the second attempt; it doubles with each
LONGEST_PAUSE = 30.0  # seconds that a `Retry-After` is obeyed, at most
LEAST_SKEW = timedelta(seconds=2)  # `Date` has whole seconds, and an answer takes its time
PAGE = 1000  # batches, or ingestions, that the API shows at once
KEY = re.compile(r"[!-~]{1,255}")
BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Answer(Generic[Model]):
    """What the server answered: the JSON as it came, and what it says."""

    text: str
    model: type[Model]

    @cached_property
    def content(self) -> Model:
        """The answer as a model; raise `UnreachableError` if it is none."""
        try:
            return self.model.model_validate_json(self.text)
        except ValidationError as error:
            raise UnreachableError("what answers there is no Sluice, or of another version") from error


class Client:
    """Asks one server, with a key if there is a `secret`.

    Every method raises `DeniedError` where it takes a key, or another one, `UsageError`
    for another 4xx, `UnreachableError` if there is no good answer.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        *,
        secret: str = "",
    ) -> None:
        self.url = _server(url)
        if secret and self.url.userinfo:
            raise UsageError(f"the URL has a user, and {VARIABLE} is set: a request has room for one of them")
        self.http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            timeout=TIMEOUT,
            transport=transport,
            # A proxy's loopback is another machine's, and the key is not for that.
            mounts={f"all://{self.url.netloc.decode()}": None} if is_loopback(self.url) else None,
            follow_redirects=False,  # the key is for this server alone
        )
        # Whatever is shown may end up in a log: no password goes with it.
        self.name = str(self.url.copy_with(userinfo=b"")).rstrip("/")
        self.skew = timedelta(0)
        self._sleep = sleep
        self._secret = secret

    def now(self) -> datetime:
        """Return the time by the server's clock, as far as that is known."""
        return datetime.now(UTC) + self.skew

    def submit(self, ids: Sequence[int], priority: PriorityName, lane: str | None, key: str) -> Answer[IngestResponse]:
        """Submit IDs; `key` makes that one submission, however often the request is repeated."""
        if not KEY.fullmatch(key):
            raise UsageError("an idempotency key is 1 to 255 visible ASCII characters")
        body = {"ids": ids, "priority": priority} | _lane(lane)
        quoted = key.replace("\\", "\\\\").replace('"', '\\"')  # RFC 9651, section 3.3.3
        # With a key, 409 says that the first attempt, whose answer was lost, is being recorded right now.
        return self._ask(
            IngestResponse, "POST", "/ingest", json=body, headers={"Idempotency-Key": f'"{quoted}"'}, again={409}
        )

    def forecast(self, count: int, lane: str | None) -> Answer[ForecastsResponse]:
        """Ask when `count` IDs would be done, were they submitted now."""
        return self._ask(ForecastsResponse, "POST", "/forecast", json={"count": count} | _lane(lane))

    def status(self, ingestion_id: str, offset: int = 0, limit: int = PAGE) -> Answer[StatusResponse]:
        """Ask how far an ingestion has come, and for `limit` of its batches from `offset` on."""
        return self._ask(
            StatusResponse, "GET", f"/status/{_segment(ingestion_id)}", params={"offset": offset, "limit": limit}
        )

    def list(self, **filters: str | int | None) -> Answer[ListResponse]:
        """Ask for a page of ingestions, newest first; filters that are None are left out."""
        params = {name: value for name, value in filters.items() if value is not None}
        return self._ask(ListResponse, "GET", "/ingestions", params=params)

    def cancel(self, ingestion_id: str) -> Answer[IngestionResponse]:
        """Cancel what has not started."""
        return self._ask(IngestionResponse, "DELETE", f"/ingestions/{_segment(ingestion_id)}")

    def reprioritise(self, ingestion_id: str, priority: PriorityName) -> Answer[IngestionResponse]:
        """Give an ingestion another priority."""
        return self._ask(
            IngestionResponse, "PATCH", f"/ingestions/{_segment(ingestion_id)}", json={"priority": priority}
        )

    def retry(self, ingestion_id: str) -> Answer[IngestionResponse]:
        """Have the failed IDs tried again. Sent once: a second time it would be refused."""
        path = f"/ingestions/{_segment(ingestion_id)}/retry"
        return self._ask(IngestionResponse, "POST", path, is_repeatable=False)

    def queue(self, lane: str | None) -> Answer[QueueResponse]:
        """Ask what waits and what runs."""
        return self._ask(QueueResponse, "GET", "/queue", params=_lane(lane))

    def pause(self, lane: str | None, reason: str) -> Answer[QueueResponse]:
        """Start no batch until `resume`."""
        return self._ask(QueueResponse, "POST", "/queue/pause", params=_lane(lane), json={"reason": reason})

    def resume(self, lane: str | None) -> Answer[QueueResponse]:
        """Start batches again."""
        return self._ask(QueueResponse, "POST", "/queue/resume", params=_lane(lane))

    @contextmanager
    def results(self, ingestion_id: str, *, follow: bool) -> Iterator[Iterator[bytes]]:
        """Stream the results, some lines at a time; raise `TruncatedError` if the connection breaks meanwhile."""
        request = self.http.build_request(
            "GET",
            f"/results/{_segment(ingestion_id)}",
            params={"follow": "true"} if follow else {},
            timeout=SILENT_FOR_LONG if follow else TIMEOUT,
        )
        response = self._attempt(request, is_repeatable=True, again=frozenset(), stream=True)
        try:
            keep_alive(response)
            yield response.iter_bytes()
        except httpx.TransportError as error:
            raise TruncatedError(f"the results broke off: {_reason(error)}") from error
        finally:
            response.close()

    def _ask(
        self,
        model: type[Model],
        method: str,
        path: str,
        *,
        is_repeatable: bool = True,
        again: set[int] | frozenset[int] = frozenset(),
        **content: Any,
    ) -> Answer[Model]:
        request = self.http.build_request(method, path, **content)
        response = self._attempt(request, is_repeatable=is_repeatable, again=again)
        return Answer(response.text, model)

    def _attempt(
        self, request: httpx.Request, *, is_repeatable: bool, again: set[int] | frozenset[int], stream: bool = False
    ) -> httpx.Response:
        """Send until there is a good answer; what is not repeatable is sent again only if it never left."""
        for attempt in range(ATTEMPTS):
            is_last = attempt == ATTEMPTS - 1
            pause = BACKOFF * 2**attempt
            try:
                response = self.http.send(request, stream=stream)
                if response.is_success:
                    self._note_skew(response)
                    return response
                response.read()
                self._raise_if_usage(response, again if not is_last else frozenset())
                failure = f"{self.name} answered {self._detail(response)}"
                pause = max(pause, _retry_after(response))
                was_turned_away = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
                is_last = is_last or not (is_repeatable or was_turned_away)
            except httpx.UnsupportedProtocol as error:
                raise UsageError(str(error)) from error
            except httpx.TransportError as error:
                never_left = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                is_last = is_last or not (is_repeatable or never_left)
                failure = f"no answer from {self.name}: {_reason(error)}"
            if is_last:
                break
            self._sleep(pause)
        raise UnreachableError(failure)

    def _raise_if_usage(self, response: httpx.Response, again: set[int] | frozenset[int]) -> None:
        if response.has_redirect_location:
            place = self._without_key(response.headers["Location"])
            raise UsageError(f"{self.name} sends on to {place}; give that as the URL")
        if self._secret and response.status_code in DENIED:
            raise DeniedError(f"the key in {VARIABLE} is refused: {self._detail(response)}")
        if response.status_code == HTTPStatus.UNAUTHORIZED and not self.url.userinfo:
            raise DeniedError(f"{self.name} wants a key: set {VARIABLE}")
        if response.is_client_error and response.status_code not in {*again, *BUSY}:
            raise UsageError(self._detail(response))

    def _detail(self, response: httpx.Response) -> str:
        """Return what a problem says, or the status where the answer is none."""
        try:
            return self._without_key(str(response.json()["detail"]))
        except (ValueError, KeyError, TypeError):
            return self._without_key(f"{response.status_code} {response.reason_phrase}")

    def _without_key(self, text: str) -> str:
        """Return what may be shown of a text of the server's: some send back what they were sent."""
        return text.replace(self._secret, VARIABLE) if self._secret else text

    def _note_skew(self, response: httpx.Response) -> None:
        try:
            skew = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
        except (KeyError, ValueError, TypeError):
            return
        self.skew = skew if abs(skew) > LEAST_SKEW else timedelta(0)


def keep_alive(response: httpx.Response) -> None:
    """Have the system find out, within minutes, when the other side of a silent stream is gone."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream else None
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)


def _lane(lane: str | None) -> dict[str, Any]:
    return {} if lane is None else {"lane": lane}


def _server(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise UsageError(f"{_without_password(text)!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"{_without_password(text)!r} is no URL of a server: it begins with http:// or https://")
    return url


def _without_password(url: str) -> str:
    """Return what may be shown of a text that should be a URL: whatever stands before an @ may be a password."""
    return url.rpartition("@")[2]


def _segment(text: str) -> str:
    return quote(text, safe="")


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE) if value.isascii() and value.isdecimal() else 0.0
