"""Every knob, its unit and its default, read once from the environment."""

import sys
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import httpx
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# uvicorn's code for "would fail the same way on every restart": its supervisor stops at it.
START_REFUSED = 3

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The service's configuration; the upper-case field names are the environment variables."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(ge=1, description="IDs per batch, at most")] = 3
    batch_interval: Annotated[Seconds, Field(description="seconds from one batch start to the next, at least")] = 5.0
    upstream_url: Annotated[
        str | None, Field(description="called once per ID with `{id}` filled in; unset: simulated")
    ] = None
    upstream_delay: Annotated[Seconds, Field(description="seconds per ID that the simulated upstream takes")] = 1.0
    upstream_timeout: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="seconds after which a call, and its batch, has failed")
    ] = 30.0
    max_ids: Annotated[int, Field(ge=1, description="IDs per ingestion, at most")] = 1_000_000
    max_body_bytes: Annotated[int, Field(ge=1, description="bytes per request body, at most")] = 32 * 1024 * 1024
    shutdown_grace: Annotated[Seconds, Field(description="seconds that a running batch has to finish on SIGTERM")] = (
        10.0
    )

    @field_validator("upstream_url")
    @classmethod
    def _is_url_template(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        try:
            httpx.URL(url.replace("{id}", "1"))
        except httpx.InvalidURL:
            raise ValueError("must be an http:// or https:// URL") from None
        if "{id}" in parts.netloc or "{id}" not in parts.path + parts.query:
            raise ValueError("must have {id} in its path or query, for example https://host/items/{id}")
        return url


def refuse_to_start(reason: str) -> NoReturn:
    """Say why in one line on standard error and exit; a server that imports the app stops with it."""
    print(f"sluice: {reason}", file=sys.stderr)
    raise SystemExit(START_REFUSED)


def load_settings() -> Settings:
    """Read the settings from the environment; refuse to start if any is ill-formed, naming it."""
    try:
        return Settings()
    except ValidationError as error:
        # The value itself stays out of the line: a URL may carry a key.
        complaints = (f"{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors())
        refuse_to_start("; ".join(complaints))
