"""The front: nothing on it is beaten, everything off it is."""

from hypothesis import given
from hypothesis import strategies as st

from farthing.planner.search.pareto import dominates, front

_POINTS = st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=40)


@given(_POINTS)
def test_nothing_on_the_front_is_dominated_and_all_else_is(points):
    found = front(points)
    for index, point in enumerate(points):
        assert (index in found) == (not any(dominates(other, point) for other in points))


@given(_POINTS)
def test_of_equal_points_all_or_none_are_on_the_front(points):
    found = set(front(points + points))
    assert all((index in found) == (index + len(points) in found) for index in range(len(points)))


def test_a_point_does_not_dominate_itself():
    assert not dominates((1, 2), (1, 2))
    assert dominates((1, 2), (1, 3))
    assert not dominates((0, 3), (1, 2))


def test_of_nothing_there_is_no_front():
    assert front([]) == []
