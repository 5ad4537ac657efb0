"""How a browser signs in: with a key once, and from then on with a cookie that is not the key."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sluice.api.access import CHALLENGE, CHALLENGED, COOKIE, HOST_COOKIE, WRONG_KEY, caller_of
from sluice.api.body import read_json
from sluice.api.documented import BODY_PROBLEMS, not_allowed, request_body
from sluice.api.route import JSON
from sluice.keys import ANYONE, Caller, Keys, Role
from sluice.problem import ProblemError, documented
from sluice.secure_headers import is_encrypted
from sluice.settings import Settings

LONGEST_REQUEST = 1024  # bytes, of which anyone may send some


class SessionRequest(BaseModel):
    """What `POST /session` takes."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": {"key": "sluice_…"}})

    key: Annotated[str, Field(min_length=1, max_length=200)]


class SessionResponse(BaseModel):
    """Who is signed in."""

    name: Annotated[str | None, Field(description="The name of the key; null where none is needed.")]
    role: Role


def add_routes(router: APIRouter, settings: Settings, keys: Keys) -> None:
    """Add `/session`."""

    @router.get(
        "/session",
        summary="Who am I?",
        response_model=SessionResponse,
        responses=not_allowed("PUT", "/session"),
    )
    async def who(request: Request) -> Response:
        """Tell whose key, or session, the request comes with, and what it is for."""
        return _answer(caller_of(request))

    @router.post(
        "/session",
        summary="Sign in",
        response_model=SessionResponse,
        responses={
            **not_allowed("PUT", "/session"),
            **BODY_PROBLEMS,
            401: documented(HTTPStatus.UNAUTHORIZED, WRONG_KEY, headers=CHALLENGED),
        },
        openapi_extra=request_body(SessionRequest.model_json_schema()),
    )
    async def sign_in(request: Request) -> Response:
        """Set a cookie that stands for the key in this browser, for `SESSION_TTL` seconds at most."""
        wanted = await read_json(request, SessionRequest, LONGEST_REQUEST)
        if keys.is_open:
            return _answer(ANYONE)
        if (signed_in := keys.session(wanted.key)) is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, WRONG_KEY, headers=CHALLENGE)
        caller, session = signed_in
        response = _answer(caller)
        response.set_cookie(max_age=int(settings.session_ttl), value=session, **_cookie(request))
        return response

    @router.delete(
        "/session",
        summary="Sign out",
        status_code=HTTPStatus.NO_CONTENT,
        responses=not_allowed("PUT", "/session"),
    )
    async def sign_out(request: Request) -> Response:
        """Have the browser forget its cookie."""
        response = Response(status_code=HTTPStatus.NO_CONTENT)
        response.delete_cookie(**_cookie(request))
        return response


def _answer(caller: Caller) -> Response:
    session = SessionResponse(name=caller.name or None, role=caller.role)
    return Response(session.model_dump_json(), media_type=JSON)


def _cookie(request: Request) -> dict[str, Any]:
    secure = is_encrypted(request.scope)
    return {"key": HOST_COOKIE if secure else COOKIE, "httponly": True, "samesite": "strict", "secure": secure}
