"""Groups of things that are connected by pairs."""

from collections import defaultdict
from collections.abc import Iterable


def joined(pairs: Iterable[tuple[int, int]], count: int) -> list[list[int]]:
    """The groups of `count` things that pairs connect, each in ascending order; what no pair has is one by itself.

    >>> joined([(0, 2), (2, 4)], 5)
    [[0, 2, 4], [1], [3]]
    """
    root = list(range(count))

    def top(index: int) -> int:
        while root[index] != index:
            root[index] = index = root[root[index]]
        return index

    for one, other in pairs:
        low, high = sorted((top(one), top(other)))
        root[high] = low
    groups = defaultdict(list)
    for index in range(count):
        groups[top(index)].append(index)
    return list(groups.values())
