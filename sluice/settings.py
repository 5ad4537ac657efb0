"""Every knob, its unit and its default, read once from the environment."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.keys import Key, read_keys
from sluice.lane_settings import (
    Aging,
    Attempts,
    BatchSize,
    Delay,
    FillSlots,
    HoldMax,
    Interval,
    LaneSettings,
    MaxResultBytes,
    RetryBase,
    RetryMax,
    Seconds,
    Timeout,
    Url,
    read_lanes,
)
from sluice.models import DEFAULT_LANE

# uvicorn's code for "would fail the same way on every restart": its supervisor stops at it.
START_REFUSED = 3

DAY = 86_400.0
SQLITE = "sqlite:///"
POSTGRESQL = ("postgresql://", "postgres://")


class Settings(BaseSettings):
    """The service's configuration; the upper-case field names are the environment variables."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    batch_size: BatchSize = 3
    batch_interval: Interval = 5.0
    upstream_url: Url = None
    upstream_delay: Delay = 1.0
    upstream_timeout: Timeout = 30.0
    upstream_attempts: Attempts = 3
    retry_base: RetryBase = 1.0
    retry_max: RetryMax = 60.0
    hold_max: HoldMax = 600.0
    max_result_bytes: MaxResultBytes = 65_536
    priority_aging: Aging = None
    fill_slots: FillSlots = False
    lanes: Annotated[Path | None, Field(description="a TOML or JSON file with further lanes; unset: one lane")] = None
    database_url: Annotated[str | None, Field(description="`sqlite:///file.db` or `postgresql://…`; unset: memory")] = (
        None
    )
    database_pool_size: Annotated[
        int, Field(ge=2, description="connections to PostgreSQL per process, at most, and one to listen")
    ] = 4
    database_timeout: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="seconds that PostgreSQL has for any statement")
    ] = 5.0
    worker: Annotated[
        Literal["inline", "off"],
        Field(description="`inline`: a web process stands by to send batches as well; `off`: `worker` processes do"),
    ] = "inline"
    lease: Annotated[
        float,
        Field(ge=0.5, allow_inf_nan=False, description="seconds without a sign of life after which another takes over"),
    ] = 5.0
    retention: Annotated[
        Seconds | None,
        Field(description="seconds that finished ingestions and results are kept; unset: a day, with a file 7"),
    ] = None
    idempotency_ttl: Annotated[Seconds, Field(description="seconds that an Idempotency-Key is remembered")] = 86_400.0
    api_keys: Annotated[
        str | None,
        Field(repr=False, description="`name:role:sha256` entries, as `python -m sluice key` makes them; unset: open"),
    ] = None
    session_ttl: Annotated[Seconds, Field(description="seconds that a browser stays signed in")] = 43_200.0
    allowed_hosts: Annotated[
        str | None, Field(description="names that the service is reached by, without ports; unset: any")
    ] = None
    max_ids: Annotated[int, Field(ge=1, description="IDs per ingestion, at most")] = 1_000_000
    max_backlog_ids: Annotated[int, Field(ge=1, description="IDs that wait in a lane, at most")] = 20_000_000
    max_waiting: Annotated[int, Field(ge=1, description="ingestions that wait in a lane, at most")] = 100_000
    submit_rate: Annotated[
        int, Field(ge=1, description="submissions a second with one key, at most, and as many at once after a pause")
    ] = 1000
    max_body_bytes: Annotated[int, Field(ge=1, description="bytes per body with IDs, at most")] = 32 * 1024 * 1024
    max_header_bytes: Annotated[int, Field(ge=1, description="bytes of a request before its body, at most")] = 16_384
    max_url_bytes: Annotated[int, Field(ge=1, description="bytes of a request's URL, at most")] = 8_192
    client_timeout: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="seconds that a client has to go on sending, or reading")
    ] = 20.0
    max_connections: Annotated[int, Field(ge=1, description="connections of clients at once, at most")] = 4_096
    max_streams: Annotated[
        int, Field(ge=1, description="events and followed results that one caller has open at once, at most")
    ] = 1000
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Field(description="what is logged, at least; `INFO` has the start and the end of every batch"),
    ] = "INFO"
    shutdown_grace: Annotated[Seconds, Field(description="seconds that a running batch has to finish on SIGTERM")] = (
        10.0
    )

    @property
    def database_path(self) -> Path | None:
        """The SQLite file, if that is the journal."""
        url = self.database_url
        return Path(url.removeprefix(SQLITE)) if url and url.startswith(SQLITE) else None

    @property
    def is_shared(self) -> bool:
        """Whether several processes work on one backlog, in PostgreSQL."""
        return self.database_url is not None and self.database_path is None

    @property
    def retention_seconds(self) -> float:
        """How long finished ingestions are kept."""
        if self.retention is not None:
            return self.retention
        return 7 * DAY if self.database_url else DAY

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that are valid; none where the service is open to all."""
        return read_keys(self.api_keys or "")

    @property
    def hosts(self) -> frozenset[str]:
        """The names that the service is reached by; none where any will do."""
        return frozenset((self.allowed_hosts or "").replace(",", " ").lower().split())

    @property
    def longest(self) -> int:
        """How many IDs an ingestion can have: more than may wait would never be let in."""
        return min(self.max_ids, self.max_backlog_ids)

    @property
    def by_lane(self) -> dict[str, LaneSettings]:
        """Every lane's settings by its name, `default` first; raise `ValueError` if the file is ill-formed now."""
        default = LaneSettings(
            batch_size=self.batch_size,
            interval=self.batch_interval,
            url=self.upstream_url,
            delay=self.upstream_delay,
            timeout=self.upstream_timeout,
            attempts=self.upstream_attempts,
            retry_base=self.retry_base,
            retry_max=self.retry_max,
            hold_max=self.hold_max,
            max_result_bytes=self.max_result_bytes,
            priority_aging=self.priority_aging,
            fill_slots=self.fill_slots,
        )
        return read_lanes(self.lanes, default) if self.lanes else {DEFAULT_LANE: default}

    @model_validator(mode="after")
    def _has_sound_lanes(self) -> Self:
        _ = self.by_lane
        return self

    @field_validator("api_keys")
    @classmethod
    def _has_sound_keys(cls, text: str | None) -> str | None:
        if text is not None and not read_keys(text):
            raise ValueError("has no entry; unset it for a service that is open to all")
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _has_a_host(cls, text: str | None) -> str | None:
        if text is not None and not text.replace(",", " ").split():
            raise ValueError("has no name; unset it for a service that is reached by any")
        return text

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, url: str | None) -> str | None:
        if url is None or (url.startswith(SQLITE) and url not in (SQLITE, f"{SQLITE}:memory:")):
            return url
        if url.startswith(POSTGRESQL):
            return url
        raise ValueError("must be sqlite:///file.db (four slashes for an absolute path) or postgresql://host/database")


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
        complaints = (f"{str([*each['loc'], 'LANES'][0]).upper()}: {each['msg']}" for each in error.errors())
        refuse_to_start("; ".join(complaints))
