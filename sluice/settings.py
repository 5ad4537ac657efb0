"""Every knob, its unit and its default, read once from the environment."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import httpx
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# uvicorn's code for "would fail the same way on every restart": its supervisor stops at it.
START_REFUSED = 3

DAY = 86_400.0
SQLITE = "sqlite:///"

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
    upstream_attempts: Annotated[int, Field(ge=1, description="calls per ID, at most, until it has failed")] = 3
    retry_base: Annotated[Seconds, Field(description="seconds of the first backoff, at most; doubles each time")] = 1.0
    retry_max: Annotated[Seconds, Field(description="seconds of any backoff, at most")] = 60.0
    hold_max: Annotated[Seconds, Field(description="seconds that a Retry-After holds everything, at most")] = 600.0
    max_result_bytes: Annotated[int, Field(ge=1, description="bytes of an upstream's answer to one ID, at most")] = (
        65_536
    )
    database_url: Annotated[str | None, Field(description="`sqlite:///file.db`; unset: memory")] = None
    retention: Annotated[
        Seconds | None,
        Field(description="seconds that finished ingestions and results are kept; unset: a day, with a file 7"),
    ] = None
    idempotency_ttl: Annotated[Seconds, Field(description="seconds that an Idempotency-Key is remembered")] = 86_400.0
    max_ids: Annotated[int, Field(ge=1, description="IDs per ingestion, at most")] = 1_000_000
    max_body_bytes: Annotated[int, Field(ge=1, description="bytes per request body, at most")] = 32 * 1024 * 1024
    shutdown_grace: Annotated[Seconds, Field(description="seconds that a running batch has to finish on SIGTERM")] = (
        10.0
    )

    @property
    def database_path(self) -> Path | None:
        """The SQLite file, or None for memory."""
        return Path(self.database_url.removeprefix(SQLITE)) if self.database_url else None

    @property
    def retention_seconds(self) -> float:
        """How long finished ingestions are kept."""
        if self.retention is not None:
            return self.retention
        return 7 * DAY if self.database_url else DAY

    @field_validator("database_url")
    @classmethod
    def _is_sqlite_url(cls, url: str | None) -> str | None:
        if url is not None and (not url.startswith(SQLITE) or url in (SQLITE, f"{SQLITE}:memory:")):
            raise ValueError("must be sqlite:///file.db (four slashes for an absolute path)")
        return url

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
