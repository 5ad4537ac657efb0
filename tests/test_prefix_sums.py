"""PrefixSums against a plain dict of amounts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.prefix_sums import WIDTH, PrefixSums

# Places around every power of the width, where the tree grows a level.
PLACES = st.one_of(
    st.integers(0, 3 * WIDTH),
    st.integers(0, WIDTH**3 + WIDTH),
    st.builds(lambda level, offset: max(0, WIDTH**level + offset), st.integers(1, 4), st.integers(-2, 2)),
)
CHANGES = st.lists(st.tuples(PLACES, st.integers(-5, 1000)), max_size=60)


def nodes(sums: PrefixSums) -> int:
    return sum(len(level) for level in sums._levels)


def changed(changes: list[tuple[int, int]]) -> tuple[PrefixSums, dict[int, int]]:
    """Make the changes, none below 0, to the sums and to the model."""
    sums, model = PrefixSums(), dict[int, int]()
    for place, amount in changes:
        possible = max(amount, -model.get(place, 0))
        sums.add(place, possible)
        model[place] = model.get(place, 0) + possible
    return sums, model


@given(changes=CHANGES, asked=st.lists(PLACES, max_size=20))
def test_sums_are_those_of_a_plain_dict(changes: list[tuple[int, int]], asked: list[int]) -> None:
    sums, model = changed(changes)

    assert sums.total == sum(model.values())
    for place in [*asked, *model, *(place + 1 for place in model)]:
        assert sums.before(place) == sum(amount for each, amount in model.items() if each < place)


@given(changes=CHANGES)
def test_first_place_is_the_smallest_in_use(changes: list[tuple[int, int]]) -> None:
    sums, model = changed(changes)

    assert sums.first() == min((place for place, amount in model.items() if amount), default=None)


@given(changes=CHANGES, data=st.data())
def test_every_node_has_a_place_in_use_beneath_it(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    sums, model = changed(changes)

    for place in data.draw(st.permutations([place for place, amount in model.items() if amount])):
        sums.add(place, -model[place])
        model[place] = 0
        in_use = [place for place, amount in model.items() if amount]
        assert nodes(sums) == sum(
            len({place // WIDTH ** (level + 1) for place in in_use}) for level in range(len(sums._levels))
        )

    assert nodes(sums) == 0
    assert sums.total == 0


@settings(max_examples=10)
@given(window=st.integers(1, 2 * WIDTH))
def test_memory_follows_the_places_in_use_and_not_how_far_they_have_come(window: int) -> None:
    sums = PrefixSums()
    most = 0

    for place in range(20_000):
        sums.add(place, 1)
        if place >= window:
            sums.add(place - window, -1)
        most = max(most, nodes(sums))

    assert sums.total == window
    assert sums.before(20_000 - 1) == window - 1
    assert most <= window // WIDTH + 2 * len(sums._levels)


@given(
    amounts=st.dictionaries(PLACES, st.integers(1, 1000), max_size=60),
    changes=CHANGES,
    asked=st.lists(PLACES, max_size=20),
)
def test_sums_made_at_once_are_and_stay_those_of_amounts_added_one_by_one(
    amounts: dict[int, int], changes: list[tuple[int, int]], asked: list[int]
) -> None:
    at_once, (one_by_one, model) = PrefixSums.of(amounts), changed([*amounts.items()])

    def assert_same() -> None:
        assert at_once.total == one_by_one.total
        assert nodes(at_once) == nodes(one_by_one)
        assert at_once.first() == one_by_one.first()
        for each in [*asked, *model, *(place + 1 for place in model)]:
            assert at_once.before(each) == one_by_one.before(each)

    assert_same()
    for place, amount in changes:
        possible = max(amount, -model.get(place, 0))
        for sums in (at_once, one_by_one):
            sums.add(place, possible)
        model[place] = model.get(place, 0) + possible
        assert_same()
