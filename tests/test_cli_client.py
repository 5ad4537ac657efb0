"""How the client asks: again where that is safe, and with errors that say what to do."""

from collections.abc import Callable

import httpx
import pytest

from sluice.cli.client import ATTEMPTS, LONGEST_PAUSE, Client
from sluice.cli.errors import UnreachableError, UsageError

ID = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
ACCEPTED = httpx.Response(200, json={"ingestion_id": ID})


class Server:
    """Answers with what it was given, in turn, and notes what it was asked and for how long the client waited."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, url: str = "http://sluice.test") -> Client:
        return Client(url, httpx.MockTransport(self), self.pauses.append)


def problem(status: int, detail: str, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json={"detail": detail}, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.RemoteProtocolError("gone"), problem(502, "x")],
)
def test_a_submission_without_an_answer_is_repeated_with_the_same_key(failure: Exception | httpx.Response) -> None:
    server = Server(failure, ACCEPTED)

    answer = server.client().submit([1], "LOW", None, "k")

    assert answer.content.ingestion_id == ID
    assert [request.headers["Idempotency-Key"] for request in server.requests] == ['"k"', '"k"']
    assert server.requests[0].content == server.requests[1].content == b'{"ids":[1],"priority":"LOW"}'


def test_a_submission_that_is_being_recorded_is_asked_for_again() -> None:
    server = Server(httpx.ReadTimeout("late"), problem(409, "being accepted"), ACCEPTED)

    assert server.client().submit([1], "LOW", None, "k").content.ingestion_id == ID


def test_a_key_is_quoted_as_a_structured_string() -> None:
    server = Server(ACCEPTED)

    server.client().submit([1], "LOW", None, 'a"b\\c')

    assert server.requests[0].headers["Idempotency-Key"] == r'"a\"b\\c"'


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_a_key_that_is_none_is_not_sent(key: str) -> None:
    server = Server(ACCEPTED)

    with pytest.raises(UsageError, match="idempotency key"):
        server.client().submit([1], "LOW", None, key)

    assert not server.requests


def test_pauses_double_and_obey_retry_after_within_reason() -> None:
    server = Server(
        httpx.ConnectError("refused"),
        problem(503, "x", Retry_After="7"),
        problem(429, "x", Retry_After="9999"),
        ACCEPTED,
    )

    server.client().submit([1], "LOW", None, "k")

    assert server.pauses == [0.25, 7.0, LONGEST_PAUSE]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("headers", "pauses"), [({"Retry_After": "3"}, [3.0, 3.0]), ({}, [0.25, 0.5])])
def test_a_busy_server_is_asked_again_when_it_says_or_ever_later(
    status: int, headers: dict[str, str], pauses: list[float]
) -> None:
    server = Server(problem(status, "x", **headers), problem(status, "x", **headers), httpx.Response(200))

    with server.client().results(ID, follow=False):
        assert server.pauses == pauses


def test_trying_failed_ids_again_is_repeated_if_it_was_turned_away() -> None:
    server = Server(problem(429, "x"), problem(409, "No ID has failed."))

    with pytest.raises(UsageError, match="No ID"):
        server.client().retry(ID)


def test_a_redirect_to_nowhere_is_no_good_answer() -> None:
    with pytest.raises(UnreachableError, match="304 Not Modified"):
        Server(httpx.Response(304)).client().status(ID)


def test_a_server_that_never_answers_is_unreachable() -> None:
    server = Server(httpx.ConnectError("refused"))

    with pytest.raises(UnreachableError, match=r"no answer from http://sluice\.test: refused"):
        server.client().status(ID)

    assert len(server.requests) == ATTEMPTS
    assert len(server.pauses) == ATTEMPTS - 1


def test_a_refusal_is_not_repeated_and_says_what_the_server_said() -> None:
    server = Server(problem(422, "ids[1]: too large"))

    with pytest.raises(UsageError, match=r"^ids\[1\]: too large$"):
        server.client().submit([1], "LOW", None, "k")

    assert len(server.requests) == 1


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("late"), problem(503, "x")])
def test_trying_failed_ids_again_is_not_sent_twice(failure: Exception | httpx.Response) -> None:
    server = Server(failure)

    with pytest.raises(UnreachableError):
        server.client().retry(ID)

    assert len(server.requests) == 1


def test_trying_failed_ids_again_is_repeated_if_it_never_left() -> None:
    server = Server(httpx.ConnectError("refused"), problem(409, "No ID has failed."))

    with pytest.raises(UsageError, match="No ID"):
        server.client().retry(ID)


def test_what_is_no_sluice_is_said_to_be_none() -> None:
    with pytest.raises(UnreachableError, match="no Sluice"):
        _ = Server(httpx.Response(200, text="<html>")).client().status(ID).content


def test_a_4xx_that_is_no_problem_is_named_by_its_status() -> None:
    with pytest.raises(UsageError, match="404 Not Found"):
        Server(httpx.Response(404, text="<html>")).client().status(ID)


def test_a_redirect_names_the_place_to_ask() -> None:
    server = Server(httpx.Response(301, headers={"Location": "https://sluice.test/"}))

    with pytest.raises(UsageError, match=r"https://sluice\.test/"):
        server.client().status(ID)


@pytest.mark.parametrize("url", ["", "sluice.test", "ftp://sluice.test", "http://", "http://host:port"])
def test_a_url_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        Client(url)


def test_a_password_in_the_url_is_sent_but_never_shown() -> None:
    server = Server(httpx.ConnectError("refused"))

    with pytest.raises(UnreachableError) as raised:
        server.client("http://me:secret@sluice.test").status(ID)

    assert "Authorization" in server.requests[0].headers
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["https://bob:s3cret@host:notaport", "bob:s3cret@host", "ftp://bob:s3cret@host"])
def test_a_password_in_what_is_no_url_is_not_shown_either(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Client(url)

    assert "s3cret" not in str(refused.value)


def test_an_id_of_the_user_stays_one_segment_of_the_path() -> None:
    server = Server(problem(404, "unknown"))

    with pytest.raises(UsageError):
        server.client("http://sluice.test/behind/a/proxy").cancel("../queue/pause?x=1#y")

    assert server.requests[0].url.raw_path == b"/behind/a/proxy/ingestions/..%2Fqueue%2Fpause%3Fx%3D1%23y"


def test_the_lane_is_named_only_if_it_was_given() -> None:
    calls: list[tuple[Callable[[Client, str | None], object], str]] = [
        (lambda client, lane: client.queue(lane), "/queue"),
        (lambda client, lane: client.resume(lane), "/queue/resume"),
        (lambda client, lane: client.pause(lane, "x"), "/queue/pause"),
    ]
    for call, path in calls:
        server = Server(httpx.Response(200, json={}))

        call(server.client(), None)
        call(server.client(), "maps")

        assert [str(request.url) for request in server.requests] == [
            f"http://sluice.test{path}",
            f"http://sluice.test{path}?lane=maps",
        ]


def test_a_server_whose_clock_is_off_is_counted_by_its_own_clock() -> None:
    server = Server(httpx.Response(200, json={}, headers={"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}))
    client = server.client()

    client.queue(None)

    assert client.now().year in (2019, 2020)
