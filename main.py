"""The ASGI application: `uvicorn main:app`."""

import gc

gc.disable()  # All that is loaded stays: it would only be looked through again and again while it comes in.
from sluice.app import create_app  # noqa: E402

app = create_app()
gc.enable()
