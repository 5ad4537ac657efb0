"""The key that the command line sends: to one server, and shown to nobody."""

import httpx
import pytest

from sluice.cli.client import Client
from sluice.cli.errors import UsageError
from sluice.cli.secret import read_secret
from sluice.cli.stream import Listener

ID = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
SECRET = "sluice_8t3k"


@pytest.mark.parametrize(
    "secret", ["a\r\nX-Evil: 1", "a\x00", "a\x7f", "sluice_é", "sluice_世", "a b", " sluice", "a\udcff"]
)
def test_key_that_can_be_none_is_not_sent(secret: str) -> None:
    with pytest.raises(UsageError, match="what SLUICE_KEY is set to is no key") as refused:
        read_secret({"SLUICE_KEY": secret})

    assert secret not in str(refused.value)


class Echoing:
    """Answers what it is told, and notes what it was asked."""

    def __init__(self, status: int, **headers: str) -> None:
        self.requests: list[httpx.Request] = []
        self._status = status
        self._headers = headers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._status, headers=self._headers, json={"detail": repr(list(request.headers.raw))})

    def client(self) -> Client:
        return Client("http://sluice.test", httpx.MockTransport(self), lambda seconds: None, secret=SECRET)


def test_key_goes_with_the_stream_of_events_and_with_results() -> None:
    server = Echoing(200)
    with server.client().results(ID, follow=False) as pieces:
        list(pieces)
    listener = Listener(server.client().http, "/events")
    while not listener.has_failed:
        listener.wait(5)
    listener.close()

    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {SECRET}"}
    assert {request.url.path for request in server.requests} == {f"/results/{ID}", "/events"}


def test_key_is_not_sent_on_to_where_a_redirect_points() -> None:
    server = Echoing(307, Location="http://evil.test/")
    with pytest.raises(UsageError, match=r"sends on to http://evil\.test/"):
        server.client().queue(None)
    listener = Listener(server.client().http, "/events")
    while not listener.has_failed:
        listener.wait(5)
    listener.close()

    assert {request.url.host for request in server.requests} == {"sluice.test"}


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_key_that_a_server_sends_back_is_not_shown(status: int) -> None:
    with pytest.raises(Exception, match="Bearer SLUICE_KEY") as refused:
        Echoing(status).client().queue(None)

    assert SECRET not in str(refused.value)


def test_key_that_a_redirect_has_in_it_is_not_shown() -> None:
    with pytest.raises(UsageError, match="key=SLUICE_KEY;"):
        Echoing(302, Location=f"http://evil.test/?key={SECRET}").client().queue(None)


def test_key_for_this_machine_is_given_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    def goes_to_a_proxy(url: str) -> bool:
        client = Client(url, secret=SECRET).http
        return client._transport_for_url(client.base_url) is not client._transport

    assert goes_to_a_proxy("http://sluice.test")
    assert not any(map(goes_to_a_proxy, ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"]))


def test_url_with_a_user_leaves_no_room_for_a_key() -> None:
    with pytest.raises(UsageError, match="room for one") as refused:
        Client("http://me:password@sluice.test", secret=SECRET)

    assert SECRET not in str(refused.value)
    assert "password" not in str(refused.value)


def test_refusal_of_a_proxy_without_a_key_is_told_as_it_came() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403)

    with pytest.raises(UsageError, match="403 Forbidden"):
        Client("http://sluice.test", httpx.MockTransport(refuse)).queue(None)
