"""Histograms of what is measured at every request: Prometheus' own take a lock for each of their numbers."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Durations:
    """How many seconds something took, each time: counted in buckets, each up to its bound, and added up."""

    __slots__ = ("_bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one is of what is beyond every bound
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more; the event loop's thread alone may."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds


class DurationsCollector(Collector):
    """The durations of one name, by their labels; made known to Prometheus whenever it asks."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = bounds
        self._known: dict[tuple[object, ...], Durations] = {}

    def of(self, *labels: object) -> Durations:
        """Return the durations with these labels."""
        known = self._known.get(labels)
        if known is None:
            known = self._known[labels] = Durations(self._bounds)
        return known

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the one family of all of them."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, durations in self._known.items():
            buckets = list(zip(names, accumulate(durations.counts), strict=True))
            family.add_metric([*map(str, labels)], buckets, durations.seconds)
        yield family
