"""Makes what a lane consists of, as its settings say."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from sluice.clock import Clock
from sluice.dispatcher import Dispatcher, Limits
from sluice.journal import Journal
from sluice.lane import Lane
from sluice.models import DEFAULT_LANE
from sluice.order import Order
from sluice.pace import Pace
from sluice.quiet import Quiet
from sluice.retention import Retention
from sluice.retry import RetryPolicy
from sluice.sequencer import Sequencer
from sluice.settings import Settings
from sluice.upstream import SimulatedUpstream, Upstream

BACKSTOP = 0.5  # seconds


class LaneFactory:
    """Makes lanes, their dispatchers and what forgets what they are done with."""

    def __init__(self, settings: Settings, clock: Clock, upstreams: Mapping[str, Upstream]) -> None:
        """Take the upstreams that are not for the settings to say, by lane."""
        self.settings = settings
        self.by_lane = settings.by_lane
        if strangers := upstreams.keys() - self.by_lane.keys():
            raise ValueError(f"there is no lane {min(strangers)!r} for an upstream")
        self._clock = clock
        self._upstreams = upstreams

    def lane(self, name: str, journal: Journal, sequencer: Sequencer, quiet: Quiet) -> Lane:
        """Return a lane as its journal remembers it; lanes share the last two."""
        settings = self.by_lane[name]
        is_simulated = name not in self._upstreams and settings.url is None
        pace = Pace(settings.interval, seconds_per_id=settings.delay if is_simulated else 0.0)
        return Lane(
            journal,
            pace,
            settings.batch_size,
            name,
            sequencer,
            order=Order(settings.priority_aging),
            fills_slots=settings.fill_slots,
            quiet=quiet,
        )

    def send_limit(self, name: str) -> float:
        """Return the seconds in which an upstream that was called sends its first call: to connect takes time."""
        settings = self.by_lane[name]
        return 0.0 if settings.url is None or name in self._upstreams else settings.timeout

    async def dispatcher(
        self, lane: Lane, stack: AsyncExitStack, may_send: Callable[[], bool] = lambda: True
    ) -> Dispatcher:
        """Return a dispatcher that does not run yet; its upstream lasts as long as `stack`.

        No call is sent where `may_send` is false at the last instant.
        """
        settings = self.by_lane[lane.name]
        timeout: float | None = settings.timeout

        def note_call() -> None:
            # Until now the loop, busy with others, and a connection to be made took time; the next start would
            # come early by what they take less of it.
            lane.pace.started(self._clock.now())
            lane.quiet.end(lane.name)

        if lane.name in self._upstreams:
            upstream = self._upstreams[lane.name]
        elif settings.url is not None:
            # Not where the upstream is simulated: to import an HTTP client takes as long as our own code.
            from sluice.http_upstream import HttpUpstream  # noqa: PLC0415

            upstream = await stack.enter_async_context(
                HttpUpstream(
                    settings.url,
                    settings.timeout,
                    settings.max_result_bytes,
                    self._clock.time,
                    may_send=may_send,
                    on_sent=note_call,
                )
            )
            # It ends its calls itself, and knows which of them was late; this is only a backstop.
            timeout = settings.timeout + BACKSTOP
        else:
            upstream = SimulatedUpstream(settings.delay, on_sent=note_call)
            timeout = None  # however long its delay, it never fails
        retry = RetryPolicy(settings.attempts, settings.retry_base, settings.retry_max, settings.hold_max)
        limits = Limits(timeout, settings.max_result_bytes)
        return Dispatcher(lane, upstream, self._clock, retry, limits, may_send)

    def retention(self, lane: Lane) -> Retention:
        """Return what forgets what is long done."""
        return Retention(lane, self._clock, self.settings.retention_seconds, self.settings.idempotency_ttl)


def by_lane(upstream: Upstream | Mapping[str, Upstream] | None) -> Mapping[str, Upstream]:
    """Return upstreams by lane: one alone is the default lane's."""
    if upstream is None:
        return {}
    return upstream if isinstance(upstream, Mapping) else {DEFAULT_LANE: upstream}
