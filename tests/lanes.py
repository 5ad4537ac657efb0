"""A service with a second lane, `maps`, that has a pace and a batch size of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sluice.settings import Settings
from tests.api import ManualClock, ScriptedUpstream, Service, serving, settings_for

MAPS_INTERVAL = 2.0
MAPS = f"""
[[lanes]]
name = "maps"
interval = {MAPS_INTERVAL}
batch_size = 2
"""


class Both(NamedTuple):
    """A started service, and the upstreams of its two lanes: each hangs on the ID that is there for it."""

    service: Service
    default: ScriptedUpstream
    maps: ScriptedUpstream


def lanes_settings(backend: str, folder: Path, **settings: Any) -> Settings:
    """Return settings for a backend with two lanes."""
    path = folder / "lanes.toml"
    path.write_text(MAPS)
    return settings_for(backend, folder, lanes=path, retry_base=0, **settings)


@contextmanager
def serving_both(settings: Settings, seconds: float = 0.0) -> Iterator[Both]:
    """Start the service `seconds` after the clock began to count, and stop it at the end of the block."""
    default, maps = ScriptedUpstream(hanging=[1]), ScriptedUpstream(hanging=[101])
    upstreams = {"default": default} | ({"maps": maps} if "maps" in settings.by_lane else {})
    with serving(settings, upstreams, ManualClock(seconds)) as service:
        yield Both(service, default, maps)
