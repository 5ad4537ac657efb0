"""The API's description for people to read and try: Swagger UI, from this server and no other."""

from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

# Only its files are used, the pages that FastAPI itself makes load theirs from another host.
BUNDLE = "fastapi_offline"
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
HEADERS = {
    # Swagger UI sets styles of its own; scripts only come as the files below.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Sluice: the API</title>
    <link rel="icon" href="/dashboard/icon.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="/docs/swagger-ui.css" />
    <script src="/docs/swagger-ui-bundle.js" defer></script>
    <script src="/docs/start.js" defer></script>
  </head>
  <body><div id="swagger-ui"></div></body>
</html>
"""
START = 'SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true });\n'


def add_routes(router: APIRouter) -> None:
    """Add `/docs` and its files; none of them is in the OpenAPI document."""
    spec = find_spec(BUNDLE)
    assert spec is not None
    assert spec.origin is not None
    files = StaticFiles(directory=Path(spec.origin).parent / "static")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Show the API's description."""
        return HTMLResponse(PAGE, headers=HEADERS)

    @router.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        """Send the script that starts Swagger UI."""
        return Response(START, media_type="text/javascript", headers=HEADERS)

    @router.get("/docs/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        """Send a file of Swagger UI."""
        if name not in FILES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        response = await files.get_response(name, request.scope)
        response.headers.update({**HEADERS, "Content-Type": f"{FILES[name]}; charset=utf-8"})
        return response
