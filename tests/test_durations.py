"""Durations: the same as Prometheus' own histograms tell."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from sluice.durations import DurationsCollector
from sluice.metrics import COMMIT

LABELS = st.sampled_from(["one", "other"])


@given(st.lists(st.tuples(LABELS, st.floats(0, 20) | st.sampled_from(COMMIT)), max_size=50))
def test_scrape_is_the_same_as_of_a_histogram_of_prometheus(observed: list[tuple[str, float]]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("wait_seconds", "How long.", ["lane"], buckets=COMMIT, registry=theirs)
    collector = DurationsCollector("wait_seconds", "How long.", ["lane"], COMMIT)
    ours.register(collector)

    for lane, seconds in observed:
        histogram.labels(lane).observe(seconds)
        collector.of(lane).observe(seconds)

    assert generate_latest(ours) == generate_latest(theirs)
