"""Who may ask for what: a rule for every route, and how it is kept."""

import re
from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice.keys import ANYONE, Caller, Keys, Role
from sluice.problem import ProblemError, described, documented
from sluice.secure_headers import is_encrypted

COOKIE = "sluice_session"
# A browser takes it from nobody but this very host, encrypted (RFC 6265bis, section 4.1.3.2).
HOST_COOKIE = f"__Host-{COOKIE}"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sluice"'}
CHALLENGED = described({"WWW-Authenticate": "How to send a key (RFC 6750)."})
NO_KEY = "Send a key: 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."
WRONG_KEY = "This key is not, or no longer, valid."
OTHER_HOST = "This server has another name; ALLOWED_HOSTS has those that it answers to."
CROSS_SITE = "The request comes from a page of another site."
OF_INTEREST = frozenset({b"authorization", b"x-api-key", b"cookie", b"sec-fetch-site", b"origin", b"host"})
PORT = re.compile(r":\d*$")
# Those who look after a server often know its address alone, and there is nothing to learn.
FOR_PROBES = ("/healthz", "/readyz")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

PUBLIC = frozenset[Role]()
ALL = frozenset(Role)
SUBMITTERS = frozenset({Role.SUBMIT, Role.ADMIN})
READERS = frozenset({Role.READ, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
# Where a key with the role `submit` is let in to what is about ingestions, it finds its own and no others.
RULES: dict[str, frozenset[Role]] = {
    "POST /ingest": SUBMITTERS,
    "POST /forecast": ALL,
    "GET /status/{ingestion_id}": ALL,
    "GET /results/{ingestion_id}": ALL,
    "GET /events/{ingestion_id}": ALL,
    "GET /ingestions": ALL,
    "PATCH /ingestions/{ingestion_id}": ADMINS,
    "DELETE /ingestions/{ingestion_id}": ADMINS,
    "POST /ingestions/{ingestion_id}/retry": ADMINS,
    "GET /events": READERS,
    "GET /queue": READERS,
    "GET /slots": READERS,
    "GET /metrics": READERS,
    "POST /queue/pause": ADMINS,
    "POST /queue/resume": ADMINS,
    "GET /session": ALL,
    "POST /session": PUBLIC,
    "DELETE /session": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /": PUBLIC,
    "GET /dashboard/{path:path}": PUBLIC,
    "GET /docs": ALL,
    "GET /docs/start.js": PUBLIC,
    "GET /docs/{name}": PUBLIC,
    "GET /openapi.json": ALL,
}


class _Credentials(NamedTuple):
    """What the headers of a request say of where it comes from. Texts are empty where there is nothing."""

    secret: str | None
    session: str
    site: str
    origin: str
    host: str


def guard(routes: Iterable[BaseRoute], keys: Keys, hosts: Collection[str] = ()) -> None:
    """Have every route keep its rule, and answer under the names of `hosts` alone, if there are any.

    Raises `LookupError` for a route that has no rule.
    """
    for route in routes:
        if not isinstance(route, Route):
            raise LookupError(f"there is no rule for {route}")
        methods = (route.methods or set()) - {"HEAD"}
        names = {f"{method} {route.path}" for method in methods}
        if missing := names - RULES.keys():
            raise LookupError(f"there is no rule for {min(missing)}")
        rules = {RULES[name] for name in names}
        if len(rules) != 1:
            raise LookupError(f"{route.path} has several rules")
        names_of_this = () if route.path in FOR_PROBES else hosts
        if names_of_this or not keys.is_open or not methods <= SAFE:
            route.app = _guarded(route.app, keys, *rules, hosts=names_of_this)


def caller_of(request: Request) -> Caller:
    """Return who asks."""
    caller: Caller = request.scope["state"].get("caller", ANYONE)
    return caller


def address_or_name(request: Request) -> str:
    """Return what tells one caller from another: the name of the key or, where none is needed, the address."""
    # A name has neither a dot nor a colon: it is never the same as an address.
    return caller_of(request).name or (request.client.host if request.client else "")


def document(openapi: dict[str, Any], keys: Keys, hosts: Collection[str] = ()) -> None:
    """Add to an OpenAPI document which operations need a key, and what is answered without a good one."""
    openapi.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": f"Behind TLS: `{HOST_COOKIE}`."},
    }
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            roles = RULES[f"{method.upper()} {path}"]
            responses = operation["responses"]
            if hosts and path not in FOR_PROBES:
                responses["421"] = documented(HTTPStatus.MISDIRECTED_REQUEST, OTHER_HOST)
            if roles:
                # The empty one: a service without keys asks for none.
                operation["security"] = [
                    {"bearer": []},
                    {"header": []},
                    {"session": []},
                    *([{}] if keys.is_open else []),
                ]
                responses["401"] = documented(HTTPStatus.UNAUTHORIZED, NO_KEY, headers=CHALLENGED)
            if roles not in (PUBLIC, ALL):
                responses["403"] = documented(HTTPStatus.FORBIDDEN, _not_for(Role.SUBMIT, roles))
            elif method.upper() not in SAFE:
                responses["403"] = documented(HTTPStatus.FORBIDDEN, CROSS_SITE)


def _guarded(app: ASGIApp, keys: Keys, roles: frozenset[Role], *, hosts: Collection[str]) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        credentials = _credentials(scope)
        if hosts and PORT.sub("", credentials.host).lower() not in hosts:
            raise ProblemError(HTTPStatus.MISDIRECTED_REQUEST, OTHER_HOST)
        if scope["method"] not in SAFE:
            _refuse_cross_site(credentials)
        if roles and not keys.is_open:
            scope["state"]["caller"] = _admitted(credentials, keys, roles)
        await app(scope, receive, send)

    return serve


def _admitted(credentials: _Credentials, keys: Keys, roles: frozenset[Role]) -> Caller:
    if credentials.secret is not None:
        caller = keys.caller(credentials.secret)
    else:
        caller = keys.caller_of_session(credentials.session) if credentials.session else None
    if caller is None:
        detail = WRONG_KEY if credentials.secret or credentials.session else NO_KEY
        raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
    if caller.role not in roles:
        raise ProblemError(HTTPStatus.FORBIDDEN, _not_for(caller.role, roles))
    return caller


def _not_for(role: Role, roles: frozenset[Role]) -> str:
    return (
        f"A key with the role {role} is not for that; it takes {' or '.join(each for each in Role if each in roles)}."
    )


def _refuse_cross_site(credentials: _Credentials) -> None:
    """Fetch Metadata, as every browser of today sends it; else the origin (OWASP, CSRF Prevention Cheat Sheet)."""
    if credentials.site:
        is_own = credentials.site in ("same-origin", "none")
    else:
        is_own = not credentials.origin or credentials.origin.partition("://")[2] == credentials.host
    if not is_own:
        raise ProblemError(HTTPStatus.FORBIDDEN, CROSS_SITE)


def _credentials(scope: Scope) -> _Credentials:
    # Of what comes twice the last one counts; no browser and no client of good will sends any of it twice.
    found = {name: value.decode("latin-1") for name, value in scope["headers"] if name in OF_INTEREST}
    secret = found.get(b"x-api-key")
    if (authorization := found.get(b"authorization")) is not None:
        scheme, _, rest = authorization.partition(" ")
        secret = rest.strip() if scheme.lower() == "bearer" else ""
    session = _session(scope) if b"cookie" in found else ""
    return _Credentials(
        secret, session, found.get(b"sec-fetch-site", ""), found.get(b"origin", ""), found.get(b"host", "")
    )


def _session(scope: Scope) -> str:
    """Return the session in the cookies, or "" where there is none, or several: one of them is somebody else's."""
    wanted = HOST_COOKIE if is_encrypted(scope) else COOKIE
    cookies = (
        cookie.strip().partition("=")
        for field, value in scope["headers"]
        if field == b"cookie"
        for cookie in value.decode("latin-1").split(";")
    )
    sessions = [value for name, _, value in cookies if name == wanted]
    return sessions[0] if len(sessions) == 1 else ""
