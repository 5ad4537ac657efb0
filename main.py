"""The ASGI application: `uvicorn main:app`."""

from sluice.app import create_app

app = create_app()
