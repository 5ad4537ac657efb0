"""The way in: `POST /ingest`."""

import asyncio
import re
from array import array
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus
from math import ceil

from fastapi import APIRouter, Request, Response

from sluice.admission import Quota, Room, SubmissionRate
from sluice.api.access import caller_of
from sluice.api.body import header
from sluice.api.documented import (
    ACCEPTED,
    BODY_PROBLEMS,
    KEY_PARAMETER,
    LONGEST_KEY,
    NO_ROOM,
    TOO_FAST,
    TOO_MANY,
    conflict,
    not_allowed,
    request_body,
)
from sluice.api.large_body import BodyReader
from sluice.api.route import Answer, lane_of, lanes_of
from sluice.clock import Clock
from sluice.events import Idempotency
from sluice.intake import IN_FLIGHT, Intake, Submission
from sluice.models import DEFAULT_LANE, Priority
from sluice.problem import ProblemError
from sluice.schemas import IngestRequest, IngestResponse, ingest_request
from sluice.settings import Settings

VISIBLE = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")
BAD_KEY = f"Send an Idempotency-Key of 1 to {LONGEST_KEY} visible ASCII characters, in double quotes or without."


def add_routes(router: APIRouter, settings: Settings, clock: Clock, bodies: BodyReader) -> None:
    """Add `POST /ingest`."""
    model = ingest_request(settings.longest)
    policy = (b"ratelimit-policy", b'"submissions";q=%d;w=1' % settings.submit_rate)
    intake = Intake(Room(settings.max_waiting, settings.max_backlog_ids), settings.idempotency_ttl, clock)

    async def ingest(request: Request) -> Response:
        """Take in an ingestion and answer at once with its id; `Location` is where its status is.

        The IDs are sliced into batches that start one per slot, in the order of
        priority, then arrival.
        """
        owner = caller_of(request).name
        rate: SubmissionRate = request.scope["state"]["submission_rate"]
        quota = rate.count(owner)
        headers = [policy, (b"ratelimit", _rate_limit(quota))]
        if quota.retry_after:
            headers.append((b"retry-after", b"%d" % ceil(quota.retry_after)))
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY.format(settings.submit_rate), headers=_as_text(headers)
            )
        wanted = await bodies.read(request, model)
        lanes = lanes_of(request)
        lane = lane_of(request, wanted.lane)
        priority = Priority[wanted.priority]
        if (key := header(request, b"idempotency-key")) is None:
            ingestion_id, is_replayed = await intake.take(lane, Submission(wanted.ids, priority, owner)), False
        else:
            # A space is in no key: those of two owners are never the same.
            own_key = f"{owner} {_parse(key)}" if owner else _parse(key)
            idempotency = Idempotency(own_key, await _digest(wanted))
            submission = Submission(wanted.ids, priority, owner, idempotency)
            ingestion_id, is_replayed = await intake.take_once(lanes, lane, submission)
        name = ingestion_id.encode()
        headers.append((b"location", b"/status/" + name))
        if is_replayed:
            headers.append((b"idempotency-replayed", b"true"))
        return Answer(b'{"ingestion_id":"' + name + b'"}', headers)

    router.add_api_route(
        "/ingest",
        ingest,
        methods=["POST"],
        summary="Submit IDs",
        response_model=IngestResponse,
        responses={
            **ACCEPTED,
            **not_allowed("GET", "/ingest"),
            **conflict(IN_FLIGHT),
            **BODY_PROBLEMS,
            **TOO_FAST,
            **NO_ROOM,
        },
        openapi_extra={**request_body(model.model_json_schema()), "parameters": [KEY_PARAMETER]},
    )


def _rate_limit(quota: Quota) -> bytes:
    """Return a `RateLimit` field: what is left, and the seconds until all is (draft-ietf-httpapi-ratelimit-headers)."""
    return b'"submissions";r=%d;t=%d' % (quota.left, ceil(quota.reset_after))


def _as_text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


def _parse(header: str) -> str:
    """Return the key in an `Idempotency-Key` header: a structured string, or what many send, the bare text.

    draft-ietf-httpapi-idempotency-key-header, section 2.1; RFC 9651, section 3.3.3.
    """
    key = header.strip(" \t")
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not VISIBLE.fullmatch(key):
        raise ProblemError(HTTPStatus.BAD_REQUEST, BAD_KEY)
    return key


async def _digest(wanted: IngestRequest) -> bytes:
    """Return what tells one submission from another; how its JSON is laid out does not matter."""
    lane = "" if wanted.lane == DEFAULT_LANE else f"{wanted.lane} "
    digest = sha256(f"{lane}{wanted.priority}".encode())
    if isinstance(wanted.ids, array):
        # There may be very many; a thread holds nobody up.
        await asyncio.to_thread(digest.update, wanted.ids)
    else:
        digest.update(array("I", wanted.ids))
    return digest.digest()
