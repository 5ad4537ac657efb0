"""Control: listing."""

import pytest

from tests.api import INTERVAL, Service, assert_problem


def listed(service: Service, path: str) -> list[str]:
    return [each["ingestion_id"] for each in service.get(path)["ingestions"]]


def test_ingestions_are_listed_newest_first_and_as_status_tells_them(service: Service) -> None:
    ids = [service.submit([number, number, number, number]) for number in (1, 2, 3)]

    body = service.get("/ingestions")

    assert [each["ingestion_id"] for each in body["ingestions"]] == ids[::-1]
    for each in body["ingestions"]:
        status = service.status(each["ingestion_id"])
        del status["batches"]
        assert each == status
    assert body["next_cursor"] is None
    assert "link" not in service.client.get("/ingestions").headers


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_show_everything_exactly_once_also_while_more_arrives(service: Service, limit: int) -> None:
    ids = [service.submit([number]) for number in range(1, 8)]
    shown: list[str] = []
    url: str | None = f"/ingestions?limit={limit}"

    while url:
        response = service.client.get(url)
        body = response.json()
        shown += [each["ingestion_id"] for each in body["ingestions"]]
        service.submit([99])
        url = response.links["next"]["url"] if "next" in response.links else None
        assert (body["next_cursor"] is None) == (url is None)

    assert shown == ids[::-1]


def test_cursor_of_the_body_leads_where_the_link_does_and_filters_go_along(service: Service) -> None:
    for number in range(1, 10):
        service.submit([number], "LOW" if number % 2 else "HIGH")

    response = service.client.get("/ingestions?limit=2&priority=LOW")

    by_link = listed(service, response.links["next"]["url"])
    by_cursor = listed(service, f"/ingestions?limit=2&priority=LOW&cursor={response.json()['next_cursor']}")
    assert by_link == by_cursor
    assert len(by_link) == 2


def test_page_has_a_hundred_ingestions_unless_asked_otherwise(service: Service) -> None:
    for _ in range(101):
        service.submit([1])

    assert len(listed(service, "/ingestions")) == 100
    assert len(listed(service, "/ingestions?limit=1000")) == 101


def test_filters_let_through_what_has_the_status_and_the_priority(service: Service) -> None:
    done = service.submit([5], "HIGH")
    service.until_completed(done)
    service.advance(INTERVAL)
    running = service.submit([1], "HIGH")
    service.until_running([1])
    low, high = service.submit([2], "LOW"), service.submit([3], "HIGH")

    assert listed(service, "/ingestions?status=completed") == [done]
    assert listed(service, "/ingestions?status=triggered") == [running]
    assert listed(service, "/ingestions?status=yet_to_start") == [high, low]
    assert listed(service, "/ingestions?priority=HIGH") == [high, running, done]
    assert listed(service, "/ingestions?priority=MEDIUM") == []
    assert listed(service, "/ingestions?status=yet_to_start&priority=LOW") == [low]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=x", "cursor"),
        ("cursor=-1", "cursor"),
        ("cursor=18446744073709551616", "cursor"),
        ("cursor=", "cursor"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("priority=high", "priority"),
        ("priority=0", "priority"),
    ],
)
def test_bad_query_is_a_422_that_names_the_parameter(service: Service, query: str, field: str) -> None:
    problem = assert_problem(service.client.get(f"/ingestions?{query}"), 422, field)

    assert [error["field"] for error in problem["errors"]] == [field]
