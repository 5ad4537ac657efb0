"""The live page: `/` and the files it is made of."""

from http import HTTPStatus
from pathlib import Path, PurePosixPath

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
# What of this folder is the page's, and as what it is sent, whatever the machine's own table of types says.
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # Nothing from elsewhere, nothing inline: text that clients sent could not become code even if it got into the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    # Kept, but asked about each time: a new version is there at once, and all of it.
    "Cache-Control": "no-cache",
}


def add_routes(router: APIRouter) -> None:
    """Add `/`, the live page, and `/dashboard/…`, its scripts and styles; neither is in the OpenAPI document."""
    files = StaticFiles(directory=HERE)

    async def send(request: Request, path: str) -> Response:
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix)
        if media_type is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        response = await files.get_response(path, request.scope)
        response.headers.update({**HEADERS, "Content-Type": media_type})
        return response

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        """Show what runs, what waits, and when each job will be done."""
        return await send(request, "index.html")

    @router.api_route("/dashboard/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, path: str) -> Response:
        """Send a file of the page."""
        return await send(request, path)
