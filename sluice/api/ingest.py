"""The way in: `POST /ingest`."""

from array import array
from hashlib import sha256
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from sluice.api.body import header, read_json
from sluice.api.documented import (
    ACCEPTED,
    BODY_PROBLEMS,
    KEY_PARAMETER,
    LONGEST_KEY,
    NOT_RECORDED,
    conflict,
    not_allowed,
    request_body,
)
from sluice.api.route import JSON, BodyRoute, lane_of, lanes_of
from sluice.clock import Clock
from sluice.events import Idempotency
from sluice.journal import KeyTakenError, SavedKey
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import DEFAULT_LANE, Priority
from sluice.problem import ProblemError
from sluice.schemas import IngestRequest, IngestResponse, ingest_request
from sluice.settings import Settings

BAD_KEY = f"Send an Idempotency-Key of 1 to {LONGEST_KEY} visible ASCII characters, in double quotes or without."
OTHER_BODY = (
    "This Idempotency-Key was used with other IDs, another priority or another lane; "
    "use a new one for a new submission."
)
IN_FLIGHT = "The submission with this Idempotency-Key is being accepted right now; ask again for its answer."


def add_routes(router: APIRouter, settings: Settings, clock: Clock) -> None:
    """Add `POST /ingest`."""
    model = ingest_request(settings.max_ids)

    async def ingest(request: Request) -> Response:
        """Take in an ingestion and answer at once with its id; `Location` is where its status is.

        The IDs are sliced into batches that start one per slot, in the order of
        priority, then arrival.
        """
        wanted = await read_json(request, model, settings.max_body_bytes)
        lanes = lanes_of(request)
        lane = lane_of(request, wanted.lane)
        if (key := header(request, b"idempotency-key")) is not None:
            return await accept_once(lanes, lane, Idempotency(_parse(key), _digest(wanted)), wanted)
        accepted = lane.accept(wanted.ids, Priority[wanted.priority], clock.time())
        await lane.record(accepted)
        return _answer(accepted.ingestion_id)

    def used_before(lanes: Lanes, key: str) -> SavedKey | None:
        saved = lanes.key(key)
        return saved if saved and clock.time() < saved.created_time + settings.idempotency_ttl else None

    async def accept_once(lanes: Lanes, lane: Lane, idempotency: Idempotency, wanted: IngestRequest) -> Response:
        if saved := used_before(lanes, idempotency.key):
            return _replay(saved, idempotency)
        if lanes.is_key_in_flight(idempotency.key):
            raise ProblemError(HTTPStatus.CONFLICT, IN_FLIGHT)
        lane.keys_in_flight.add(idempotency.key)
        accepted = lane.accept(wanted.ids, Priority[wanted.priority], clock.time(), idempotency)
        try:
            await lane.record(accepted)
        except KeyTakenError:
            lane.keys_in_flight.discard(idempotency.key)
            await lanes.catch_up()
            if saved := used_before(lanes, idempotency.key):
                return _replay(saved, idempotency)
            raise ProblemError(HTTPStatus.CONFLICT, IN_FLIGHT) from None
        except Exception:
            lane.keys_in_flight.discard(idempotency.key)
            raise
        return _answer(accepted.ingestion_id)

    router.add_api_route(
        "/ingest",
        ingest,
        methods=["POST"],
        summary="Submit IDs",
        response_model=IngestResponse,
        responses={**ACCEPTED, **not_allowed("GET", "/ingest"), **conflict(IN_FLIGHT), **BODY_PROBLEMS, **NOT_RECORDED},
        openapi_extra={**request_body(model.model_json_schema()), "parameters": [KEY_PARAMETER]},
        route_class_override=BodyRoute,
    )


def _replay(saved: SavedKey, idempotency: Idempotency) -> Response:
    if saved.idempotency != idempotency:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, OTHER_BODY)
    return _answer(saved.ingestion_id, is_replayed=True)


def _answer(ingestion_id: str, *, is_replayed: bool = False) -> Response:
    headers = {"Location": f"/status/{ingestion_id}"}
    if is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(f'{{"ingestion_id":"{ingestion_id}"}}', media_type=JSON, headers=headers)


def _parse(header: str) -> str:
    """Return the key in an `Idempotency-Key` header: a structured string, or what many send, the bare text.

    draft-ietf-httpapi-idempotency-key-header, section 2.1; RFC 9651, section 3.3.3.
    """
    key = header.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not 1 <= len(key) <= LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        raise ProblemError(HTTPStatus.BAD_REQUEST, BAD_KEY)
    return key


def _digest(wanted: IngestRequest) -> bytes:
    """Return what tells one submission from another; how its JSON is laid out does not matter."""
    lane = "" if wanted.lane == DEFAULT_LANE else f"{wanted.lane} "
    return sha256(f"{lane}{wanted.priority}".encode() + array("I", wanted.ids).tobytes()).digest()
