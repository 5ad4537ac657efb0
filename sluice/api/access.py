"""Who may ask for what: a rule for every route, and how it is kept."""

import re
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any

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

Check = Callable[[Scope], None]
Headers = dict[bytes, bytes]  # those that are `OF_INTEREST`

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


def guard(routes: Iterable[BaseRoute], keys: Keys, hosts: Collection[str] = ()) -> list[tuple[Route, Check | None]]:
    """Have every route keep its rule; return each with what it asks of a request, by a 401, 403 or 421 if need be.

    None where there is nothing to ask. With `hosts`, requests must be for one of these
    names. Raises `LookupError` for a route that has no rule.
    """
    checks: list[tuple[Route, Check | None]] = []
    for route in routes:
        if not isinstance(route, Route):
            raise LookupError(f"there is no rule for {route}")
        if check := _check_of(route, keys, hosts):
            route.app = _guarded(route.app, check)
        checks.append((route, check))
    return checks


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


def _check_of(route: Route, keys: Keys, hosts: Collection[str]) -> Check | None:
    methods = (route.methods or set()) - {"HEAD"}
    names = {f"{method} {route.path}" for method in methods}
    if missing := names - RULES.keys():
        raise LookupError(f"there is no rule for {min(missing)}")
    rules = {RULES[name] for name in names}
    if len(rules) != 1:
        raise LookupError(f"{route.path} has several rules")
    (roles,) = rules
    own_names = () if route.path in FOR_PROBES else hosts
    is_safe, needs_key = methods <= SAFE, bool(roles) and not keys.is_open
    if is_safe and not needs_key and not own_names:
        return None

    def check(scope: Scope) -> None:
        # Of what comes twice the last one counts; no browser and no client of good will sends any of it twice.
        found = {name: value for name, value in scope["headers"] if name in OF_INTEREST}
        if own_names and PORT.sub("", found.get(b"host", b"").decode("latin-1")).lower() not in own_names:
            raise ProblemError(HTTPStatus.MISDIRECTED_REQUEST, OTHER_HOST)
        if scope["method"] not in SAFE:
            _refuse_cross_site(found)
        if needs_key:
            scope["state"]["caller"] = _admitted(found, scope, keys, roles)

    return check


def _guarded(app: ASGIApp, check: Check) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        check(scope)
        await app(scope, receive, send)

    return serve


def _admitted(found: Headers, scope: Scope, keys: Keys, roles: frozenset[Role]) -> Caller:
    secret, session = _secret(found), ""
    if secret is not None:
        caller = keys.caller(secret)
    else:
        session = _session(scope) if b"cookie" in found else ""
        caller = keys.caller_of_session(session) if session else None
    if caller is None:
        detail = WRONG_KEY if secret or session else NO_KEY
        raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
    if caller.role not in roles:
        raise ProblemError(HTTPStatus.FORBIDDEN, _not_for(caller.role, roles))
    return caller


def _not_for(role: Role, roles: frozenset[Role]) -> str:
    return (
        f"A key with the role {role} is not for that; it takes {' or '.join(each for each in Role if each in roles)}."
    )


def _refuse_cross_site(found: Headers) -> None:
    """Fetch Metadata, as every browser of today sends it; else the origin (OWASP, CSRF Prevention Cheat Sheet)."""
    if site := found.get(b"sec-fetch-site"):
        is_own = site in (b"same-origin", b"none")
    else:
        origin = found.get(b"origin")
        is_own = not origin or origin.partition(b"://")[2] == found.get(b"host", b"")
    if not is_own:
        raise ProblemError(HTTPStatus.FORBIDDEN, CROSS_SITE)


def _secret(found: Headers) -> str | None:
    """Return the secret that a request was sent with, "" where that is no secret, None where there is none."""
    if (authorization := found.get(b"authorization")) is not None:
        scheme, _, rest = authorization.decode("latin-1").partition(" ")
        return rest.strip() if scheme.lower() == "bearer" else ""
    secret = found.get(b"x-api-key")
    return None if secret is None else secret.decode("latin-1")


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
