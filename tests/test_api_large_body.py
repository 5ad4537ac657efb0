"""Bodies of very many IDs, validated in slices: as in one go, but for what is said, and with nobody held up."""

import asyncio
import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import from_json

from sluice.api.body import SMALL
from sluice.api.large_body import AT_ONCE, IDS, LONGEST_WAIT, MIN_RATE, PATIENCE, BodyReader
from sluice.keys import Caller, Role
from sluice.problem import ProblemError, body_problem
from sluice.schemas import IngestRequest, ingest_request
from sluice.timeline_schemas import forecast_request
from tests.api import JSON, assert_problem
from tests.virtual import VirtualLoop

MAX_IDS = 40
LIMIT = 1_000_000
TINY = 128
MODEL = ingest_request(MAX_IDS)
MILLION = ingest_request(1_000_000)
SHAPE = ("must begin within the first", "may come behind the array")

Outcome = IngestRequest | ProblemError


class Sender:
    """A client that sends a body in pieces, one every `pause` seconds, and counts those that were asked for."""

    def __init__(
        self, pieces: Iterable[bytes], *, stalls: bool = False, name: str = "", host: str = "", pause: float = 0
    ) -> None:
        self.asked = 0
        self._name, self._host, self._pause = name, host, pause
        self.is_read_to_the_end = False
        self._pieces = iter(pieces)
        self._go_on = asyncio.Event()
        if not stalls:
            self.go_on()

    def go_on(self) -> None:
        self._go_on.set()

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 2:
            await self._go_on.wait()
        if self._pause:
            await asyncio.sleep(self._pause)
        piece = next(self._pieces, None)
        self.is_read_to_the_end = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    @property
    def request(self) -> Request:
        state = {"caller": Caller(self._name, Role.READ)} if self._name else {}
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "headers": headers, "client": (self._host, 1), "state": state}
        return Request(scope, self.receive)


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def in_slices(body: bytes, small: int = TINY, piece: int = 50) -> Outcome:
    async def read() -> Outcome:
        try:
            reader = BodyReader(LIMIT, MAX_IDS, small)
            return await reader.read(Sender(cut(body, piece)).request, MODEL)
        except ProblemError as problem:
            return problem
        except ValidationError as error:
            return body_problem(error)

    return asyncio.run(read())


def in_one_go(body: bytes) -> Outcome:
    try:
        return MODEL.model_validate_json(body)
    except ValidationError as error:
        return body_problem(error)


def has_a_member_twice(body: bytes) -> bool:
    found = []

    def look(members: list[tuple[str, Any]]) -> None:
        found.append(len(dict(members)) < len(members))

    json.loads(body, object_pairs_hook=look, parse_int=str)
    return any(found)


def errors(problem: ProblemError) -> set[tuple[str, str]]:
    return {(error.field, error.detail) for error in problem.errors or []}


# The property


SPACE = st.sampled_from(["", "", "", "", " ", "\n  ", " " * 70, " " * 300])
GOOD_ID = st.sampled_from(["1", "7", "42", "999999999", "1000000007"])
BAD_IDS = ["0", "-1", "-0", "1000000008", "9" * 31, "9" * 200, "01", "-", "1.0", "1e3", "NaN", "1 2", "", ",", "tr"]
BAD_IDS += ["true", "null", "[]", "[1,2]", "[[[", "[" * 150, "[[1,2],{}," * 40, "{}", "{", '{"a":1}', '{"ids":[1]}']
BAD_IDS += ['"x"', '"],["', '"a\\"b"', '"', '"' + "y" * 300 + '"']
BAD_ID = st.sampled_from(BAD_IDS)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    ids = draw(st.lists(GOOD_ID, max_size=MAX_IDS + 5))
    for bad in draw(st.lists(BAD_ID, max_size=1) | st.lists(BAD_ID, max_size=3)):
        ids.insert(draw(st.integers(0, len(ids))), bad)
    array_ = "[" + ",".join(draw(SPACE) + each + draw(SPACE) for each in ids) + draw(SPACE) + "]"
    members = [("ids", array_)]
    members += draw(st.lists(st.just(("priority", '"HIGH"')), min_size=1, max_size=1) | PRIORITIES)
    members += draw(st.just([]) | LANES)
    members += draw(st.just([]) | st.lists(st.sampled_from([*members, ("x", "1"), ("x", "[]")]), max_size=1))
    space = draw(st.sampled_from(["", " ", "\n  "]))
    members = draw(st.permutations(members))
    body = f"{{{space}" + ",".join(f'"{key}"{space}:{space}{value}' for key, value in members) + "}" + draw(SPACE)
    return mutated(draw, body.encode())


PRIORITIES = st.lists(st.sampled_from([("priority", each) for each in ('"LOW"', '"low"', "1", "null")]), max_size=1)
LANES = st.lists(st.sampled_from([("lane", each) for each in ('"maps"', '"a\\"b"', '"\\u0041"', "3")]), max_size=1)


def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    scrap = st.sampled_from([b"", b",", b"]", b"[", b'"', b"}", b"{", b":", b" ", b"5", b"\n", b"\xff", b"\\"])
    places = st.integers(0, len(body))
    for place, new, lost in draw(st.just([]) | st.lists(st.tuples(places, scrap, st.integers(0, 2)), max_size=2)):
        body = body[:place] + new + body[place + lost :]
    return body[: draw(st.just(len(body)) | places)]


@settings(max_examples=1500)
@given(bodies(), st.sampled_from([TINY, 100, 300]), st.sampled_from([1, 50, 10_000]))
@example(b'{"priority":"HIGH","ids":[' + b" " * (TINY - 1) + b"-1]}", TINY, 50)
@example(b'{"pri\nority":"HIGH","ids":[' + b"0," * TINY, TINY, 50)
@example(b'{"ids":[1,0,1' + b" " * TINY + b'],"priority":"HIGH","ids":[', TINY, 1)
def test_slices_are_answered_as_one_go_is(body: bytes, small: int, piece: int) -> None:
    sliced, whole = in_slices(body, small, piece), in_one_go(body)

    if isinstance(sliced, IngestRequest):
        assert isinstance(whole, IngestRequest)
        assert (list(sliced.ids), sliced.priority, sliced.lane) == (list(whole.ids), whole.priority, whole.lane)
        event("accepted")
    elif isinstance(whole, IngestRequest):
        assert sliced.status == 422
        assert has_a_member_twice(body) or any(text in sliced.detail for text in SHAPE)
        event("refused for what is not seen in one go")
    elif sliced.status == whole.status == 400:
        event("no JSON")
    elif sliced.status == 422 and whole.status == 400:
        assert any(text in sliced.detail for text in SHAPE) or is_wrong_before_it_is_no_json(body, sliced)
        event("wrong, then no JSON")
    else:
        assert sliced.status == whole.status == 422
        assert (
            errors(sliced) <= errors(whole)
            or ("not more" in sliced.detail and f"at most {MAX_IDS} items" in whole.detail)
            or any(text in sliced.detail for text in SHAPE)
            or has_a_member_twice(body)
        )
        event("the same error")


def is_wrong_before_it_is_no_json(body: bytes, problem: ProblemError) -> bool:
    """Return whether what stands before the first error of syntax has the error that was told."""
    if "not more" in problem.detail:
        return True
    end = 1
    while end <= len(body):
        try:
            from_json(body[:end])
        except ValueError as error:
            if not str(error).startswith("EOF"):
                break
        end += 1
    # Of a name that is there twice the last one would count; what was told is of the first.
    first, again, rest = body[: end - 1].partition(b'"ids"')
    found = from_json(first + again + rest.partition(b'"ids"')[0], allow_partial=True)
    try:
        IDS.validate_python(found["ids"])
    except ValidationError as error:
        index = error.errors()[0]["loc"][0]
    else:
        index = len(found["ids"])
    return problem.detail.startswith(f"ids[{index}]: ")


# What is documented to differ


def ids_text(count: int) -> bytes:
    return b",".join([b"1234567"] * count)


def test_first_error_is_told_though_the_priority_is_wrong_too() -> None:
    problem = in_slices(b'{"ids":[' + b"1," * 20 + b'"x",' + b"1" + b" " * TINY + b'],"priority":"x"}')

    assert isinstance(problem, ProblemError)
    assert errors(problem) == {("ids[20]", "Input should be a valid integer")}


def test_first_error_is_told_though_what_follows_is_no_json() -> None:
    problem = in_slices(b'{"ids":[0,' + ids_text(20) + b'],"priority":')

    assert isinstance(problem, ProblemError)
    assert (problem.status, [error.field for error in problem.errors or []]) == (422, ["ids[0]"])


def test_no_json_is_told_with_its_place_among_the_ids() -> None:
    problem = in_slices(b'{"ids":[' + ids_text(20) + b',,1],"priority":"HIGH"}')

    assert isinstance(problem, ProblemError)
    assert problem.status == 400
    assert "Invalid JSON: expected value, behind ids[" in problem.detail


def test_no_json_behind_the_ids_is_told_as_that() -> None:
    problem = in_slices(b'{"ids":[' + ids_text(20) + b'],"priority":"HIGH"} x')

    assert isinstance(problem, ProblemError)
    assert problem.detail == "The body is not JSON. Invalid JSON: trailing characters, behind the ids."


def test_too_many_ids_are_told_without_their_number() -> None:
    problem = in_slices(b'{"ids":[' + ids_text(MAX_IDS + 1) + b'],"priority":"HIGH"}')

    assert isinstance(problem, ProblemError)
    assert problem.detail == "ids: List should have at most 40 items after validation, not more"


@pytest.mark.parametrize(
    "body",
    [
        b" " * TINY + b'{"ids":[1],"priority":"HIGH"}',
        b'{"\\u0069ds":[1],"priority":"HIGH"}' + b" " * TINY,
        b'{"priority":"HIGH","x":[],"ids":[' + ids_text(20) + b"]}",
        b'{"priority":"HIGH"}' + b" " * TINY,
        b"[" + ids_text(20) + b"]",
    ],
)
def test_ids_that_begin_too_late_or_nowhere_are_a_422(body: bytes) -> None:
    problem = in_slices(body)

    assert isinstance(problem, ProblemError)
    assert problem.status == 422
    assert problem.detail == "ids: In a body of more than 128 bytes, the array must begin within the first 128"


def test_text_that_is_no_json_from_the_start_is_a_400() -> None:
    problem = in_slices(b"[" * 1000, 300)

    assert isinstance(problem, ProblemError)
    assert problem.status == 400


def test_much_behind_the_ids_is_a_422_but_white_space_is_not() -> None:
    body = b'{"ids":[1],"priority":"HIGH"}' + b" " * 1000

    problem = in_slices(body + b"x")

    assert isinstance(in_slices(body), IngestRequest)
    assert isinstance(problem, ProblemError)
    assert problem.detail == "ids: No more than 128 bytes may come behind the array"


# What it costs


def large(count: int = 100_000) -> bytes:
    return b'{"priority":"HIGH","ids":[' + b",".join([b"1234567"] * count) + b"]}"


def slices_of(body: bytes) -> int:
    return len(body) // (SMALL // 2)


async def turns(tasks: list["asyncio.Task[Any]"]) -> int:
    """Return how often the loop comes by until all is done."""
    count = 0
    while not all(task.done() for task in tasks):
        count += 1
        await asyncio.sleep(0)
    return count


@pytest.mark.parametrize("bodies_at_once", [1, 3])
def test_all_else_goes_on_after_every_slice(loop: VirtualLoop, bodies_at_once: int) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    body = large()

    async def count() -> int:
        reads = [reader.read(Sender([body]).request, MILLION) for _ in range(bodies_at_once)]
        return await turns([asyncio.create_task(read) for read in reads])

    assert loop.run_until_complete(count()) >= bodies_at_once * slices_of(body)


def test_ids_of_a_large_body_are_kept_in_less_than_six_bytes_each(loop: VirtualLoop) -> None:
    read = BodyReader(LIMIT, 1_000_000).read(Sender([large()]).request, MILLION)

    ids = loop.run_until_complete(read).ids

    assert isinstance(ids, array)
    assert len(ids) == 100_000
    assert sys.getsizeof(ids) < 6 * len(ids)


def test_only_so_many_large_bodies_are_read_at_once(loop: VirtualLoop) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    senders = [Sender(cut(large(), SMALL), stalls=True, name=f"n{number}") for number in range(AT_ONCE + 2)]
    tasks = [loop.create_task(reader.read(sender.request, MILLION)) for sender in senders]
    loop.advance(1)

    assert [sender.asked for sender in senders] == [3] * AT_ONCE + [2, 2]

    senders[0].go_on()
    loop.advance(1)

    assert tasks[0].done()
    assert [sender.asked for sender in senders[-2:]] == [3, 2]


@pytest.mark.parametrize("has_key", [True, False])
def test_large_bodies_of_one_caller_leave_room_for_those_of_others(loop: VirtualLoop, has_key: bool) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    name, host = ("greedy", "") if has_key else ("", "10.0.0.1")
    greedy = [Sender(cut(large(), SMALL), stalls=True, name=name, host=host) for _ in range(3 * AT_ONCE)]
    for sender in greedy:
        loop.create_task(reader.read(sender.request, MILLION))
    loop.advance(1)

    other = loop.run_until_complete(reader.read(Sender([large()], host="10.0.0.2").request, MILLION))

    assert len(other.ids) == 100_000
    assert sum(sender.asked > 2 for sender in greedy) == AT_ONCE // 2


def test_large_body_that_waits_too_long_for_its_turn_is_a_503(loop: VirtualLoop) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    body = b'{"ids":[' + b"1," * 495_000
    for _ in range(AT_ONCE // 2):
        # Just fast enough.
        slow = Sender(cut(body, 8192), pause=8192 / MIN_RATE)
        loop.create_task(reader.read(slow.request, MILLION))
    loop.advance(5)  # until each has its place
    waiting = loop.create_task(reader.read(Sender([large()]).request, MILLION))

    loop.advance(LONGEST_WAIT - 2)
    assert not waiting.done()
    loop.advance(3)

    problem = waiting.exception()
    assert isinstance(problem, ProblemError)
    assert (problem.status, problem.headers) == (503, {"Retry-After": "5"})


def test_large_body_that_comes_too_slowly_is_a_408_and_makes_room(loop: VirtualLoop) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    slow = [Sender(cut(large(), 8192), pause=2 * 8192 / MIN_RATE) for _ in range(AT_ONCE // 2)]
    tasks = [loop.create_task(reader.read(sender.request, MILLION)) for sender in slow]
    loop.advance(5)  # until each has its place
    waiting = loop.create_task(reader.read(Sender([large()]).request, MILLION))

    loop.advance(3 * PATIENCE)

    for task in tasks:
        problem = task.exception()
        assert isinstance(problem, ProblemError)
        assert (problem.status, problem.headers) == (408, {"Connection": "close"})
    assert len(waiting.result().ids) == 100_000


def test_time_in_which_a_body_is_not_read_does_not_make_it_slow(loop: VirtualLoop) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    loop.run_until_complete(reader._turn.acquire())
    read = loop.create_task(reader.read(Sender(cut(large(), SMALL)).request, MILLION))
    loop.advance(3 * PATIENCE)
    reader._turn.release()

    assert len(loop.run_until_complete(read).ids) == 100_000


def test_slow_sender_holds_up_neither_small_nor_large_bodies(loop: VirtualLoop) -> None:
    reader = BodyReader(LIMIT, 1_000_000)
    slow = Sender(cut(large(), SMALL), stalls=True)
    waiting = loop.create_task(reader.read(slow.request, MILLION))
    loop.advance(1)

    for body in (b'{"ids":[1],"priority":"HIGH"}', large()):
        assert loop.run_until_complete(reader.read(Sender([body]).request, MILLION)).ids
    assert not waiting.done()


@pytest.mark.parametrize("wrong", [b'{"ids":["', b"[1,2,3", b'{"ids":[1,2,]'])
def test_refused_body_is_read_to_its_end_first(loop: VirtualLoop, wrong: bytes) -> None:
    sender = Sender(cut(wrong + large(), 10_000))

    with pytest.raises(ProblemError):
        loop.run_until_complete(BodyReader(LIMIT, 1_000_000).read(sender.request, MILLION))

    assert sender.is_read_to_the_end


def test_refused_body_over_the_limit_is_a_413_and_read_no_further(loop: VirtualLoop) -> None:
    sender = Sender(cut(b"[" + large(), 10_000))

    with pytest.raises(ProblemError, match="more than 300000 bytes; split the IDs"):
        loop.run_until_complete(BodyReader(300_000, 1_000_000).read(sender.request, MILLION))

    assert sender.asked == 31


def test_forecast_takes_large_bodies_too(loop: VirtualLoop) -> None:
    read = BodyReader(LIMIT, 1_000_000).read(Sender([large()]).request, forecast_request(1_000_000))

    assert loop.run_until_complete(read).total_ids == 100_000


# Over HTTP

LARGE = {"ids": [1_000_000_000 - number for number in range(9000)], "priority": "LOW"}


def test_large_body_is_taken_in_whole(client: TestClient) -> None:
    ingestion_id = client.post("/ingest", json=LARGE).json()["ingestion_id"]

    batches = client.get(f"/status/{ingestion_id}?offset=2900").json()["batches"]

    assert [item for batch in batches for item in batch["ids"]] == LARGE["ids"][8700:]


def test_large_body_with_the_same_key_is_replayed_however_it_is_laid_out(client: TestClient) -> None:
    headers = {**JSON, "Idempotency-Key": "k"}
    first = client.post("/ingest", json=LARGE, headers=headers)

    again = client.post("/ingest", content=json.dumps(LARGE, separators=(",", ":")).encode(), headers=headers)
    other = client.post("/ingest", json={**LARGE, "priority": "HIGH"}, headers=headers)

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(other, 422, "Idempotency-Key")


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("POST", "/ingest", '{"ids":[1],"ids":[2],"priority":"HIGH"}', "ids"),
        ("POST", "/ingest", '{"ids":[1],"priority":"LOW","priority":"HIGH"}', "priority"),
        ("POST", "/ingest", '{"ids":[1],"priority":{"a":1,"a":2},"priority":"HIGH"}', "priority.a"),
        ("POST", "/ingest", '{"ids":[1],"pri\\u006frity":"LOW","priority":"HIGH"}', "priority"),
        ("POST", "/ingest", f'{{"ids":{LARGE["ids"]},"priority":"LOW","priority":"HIGH"}}', "priority"),
        ("POST", "/ingest", f'{{"ids":1,"ids":{LARGE["ids"]},"priority":"HIGH"}}', "ids"),
        ("POST", "/forecast", '{"count":1,"count":2}', "count"),
        ("POST", "/forecast", '{"ids":[1],"lane":"default","lane":"default"}', "lane"),
        ("POST", "/queue/pause", '{"reason":"a","reason":"b"}', "reason"),
        ("PATCH", "/ingestions/{id}", '{"priority":"LOW","priority":"HIGH"}', "priority"),
    ],
)
def test_member_that_is_there_twice_is_a_422_that_names_it(
    client: TestClient, method: str, path: str, body: str, name: str
) -> None:
    path = path.format(id=client.post("/ingest", json={"ids": [1], "priority": "LOW"}).json()["ingestion_id"])

    response = client.request(method, path, content=body, headers=JSON)

    assert response.json()["errors"][0]["field"] == name.rpartition(".")[2]
    assert_problem(response, 422, "is there twice")


@pytest.mark.parametrize("reason", ['a "quoted" word', "\\", '\\"', "é\u2028", 'x":"y"'])
def test_quotes_in_a_text_are_no_members(client: TestClient, reason: str) -> None:
    response = client.post("/queue/pause", json={"reason": reason})

    assert response.json()["paused"]["reason"] == reason


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [("POST", "/queue/pause", 4096), ("PATCH", "/ingestions/{id}", 4096), ("POST", "/session", 1024)],
)
@pytest.mark.parametrize("declared", [True, False])
def test_body_without_ids_is_bounded(client: TestClient, method: str, path: str, limit: int, declared: bool) -> None:
    path = path.format(id=client.post("/ingest", json={"ids": [1], "priority": "LOW"}).json()["ingestion_id"])
    chunks = [b" " * 1000] * (limit // 1000 + 1)

    response = client.request(method, path, content=b"".join(chunks) if declared else iter(chunks), headers=JSON)
    fits = client.request(method, path, content=b" " * limit, headers=JSON)

    assert_problem(response, 413, f"The body has more than {limit} bytes.")
    assert fits.status_code == 400
