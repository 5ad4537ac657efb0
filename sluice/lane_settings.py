"""The knobs of one lane: the environment's, but for what the `LANES` file sets."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sluice.models import DEFAULT_LANE

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MAX_BATCH_SIZE = 1_000_000


def _url_template(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    # As long to import as all of our own code, and most call none.
    import httpx  # noqa: PLC0415

    try:
        httpx.URL(url.replace("{id}", "1"))
    except httpx.InvalidURL:
        raise ValueError("must be an http:// or https:// URL") from None
    if "{id}" in parts.netloc or "{id}" not in parts.path + parts.query:
        raise ValueError("must have {id} in its path or query, for example https://host/items/{id}")
    return url


BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE, description="IDs per batch, at most")]
Interval = Annotated[Seconds, Field(description="seconds from one batch start to the next, at least")]
Url = Annotated[
    str | None, AfterValidator(_url_template), Field(description="called once per ID with `{id}` filled in")
]
Delay = Annotated[Seconds, Field(description="seconds per ID that the simulated upstream takes")]
Timeout = Annotated[
    float, Field(gt=0, allow_inf_nan=False, description="seconds after which a call, and its batch, has failed")
]
Attempts = Annotated[int, Field(ge=1, description="calls per ID, at most, until it has failed")]
RetryBase = Annotated[Seconds, Field(description="seconds of the first backoff, at most; doubles each time")]
RetryMax = Annotated[Seconds, Field(description="seconds of any backoff, at most")]
HoldMax = Annotated[Seconds, Field(description="seconds that a Retry-After holds everything, at most")]
Aging = Annotated[
    float | None,
    Field(gt=0, allow_inf_nan=False, description="seconds after which what waits moves up a class; unset: never"),
]
FillSlots = Annotated[bool, Field(description="whether whole short batches, next in order, share a slot")]
MaxResultBytes = Annotated[int, Field(ge=1, description="bytes of an upstream's answer to one ID, at most")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class LaneSettings(BaseModel):
    """One lane's configuration; the field names are the keys of the `LANES` file, beside `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    batch_size: BatchSize
    interval: Interval
    url: Url
    delay: Delay
    timeout: Timeout
    attempts: Attempts
    retry_base: RetryBase
    retry_max: RetryMax
    hold_max: HoldMax
    max_result_bytes: MaxResultBytes
    priority_aging: Aging
    fill_slots: FillSlots


class _NamedLane(LaneSettings):
    name: Name


class _Overrides(BaseModel):
    model_config = ConfigDict(extra="forbid")

    lanes: list[dict[str, Any]]


def read_lanes(path: Path, default: LaneSettings) -> dict[str, LaneSettings]:
    """Return the lanes of a TOML or JSON file by name, what it leaves open as in `default`, which is one of them.

    Raises `ValueError` with one line that says what is wrong with the file.
    """
    lanes = {DEFAULT_LANE: default}
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        given = _Overrides.model_validate(content if isinstance(content, dict) else {}).lanes
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(f"{path}: {_first(error)}; each lane is an entry of the list 'lanes'") from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ValueError(f"{path} is no {kind}: {error}") from None
    seen = set()
    for number, overrides in enumerate(given):
        try:
            lane = _NamedLane.model_validate({**default.model_dump(), **overrides})
        except ValidationError as error:
            raise ValueError(f"{path}: lanes[{number}].{_first(error)}") from None
        if lane.name in seen:
            raise ValueError(f"{path}: lanes[{number}].name: {lane.name} is there twice")
        seen.add(lane.name)
        lanes[lane.name] = LaneSettings.model_validate(lane.model_dump(exclude={"name"}))
    return lanes


def _first(error: ValidationError) -> str:
    # Without the value: a URL may carry a key.
    failure = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in failure['loc'])}: {failure['msg']}"
