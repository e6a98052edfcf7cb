"""Images divided by what they hold: each in one split, alike shares of every class, and nothing moves later."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.errors import DataError
from vitral.data.division import Division, divide, parts_of

SETTINGS = dict(
    sizes=st.lists(st.integers(10, 40), min_size=1, max_size=4),
    seed=st.integers(0, 5),
    val=st.sampled_from([0.1, 0.15, 0.3]),
    test=st.sampled_from([0.0, 0.15, 0.3]),
)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Files of different contents, named by their numbers."""
    root = tmp_path_factory.mktemp("files")
    for number in range(200):
        (root / f"{number:03}.png").write_bytes(b"content %d" % number)
    return root


def divided(root, names, labels, division, **options):
    said = []
    files = [root / name for name in names]
    rows = divide(root, files, ["train"] * len(files), np.array(labels), division, said.append, **options)
    return {row.path: row for row in rows if row is not None}, rows, said


def files(count):
    return [f"{number:03}.png" for number in range(count)]


@given(**SETTINGS)
def test_every_image_has_one_split_and_every_class_its_shares(home, sizes, seed, val, test):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows, _, _ = divided(home, files(len(labels)), labels, Division(seed, val, test))
    assert len(rows) == len(labels)
    shares = {"train": 1 - val - test, "val": val, "test": test}
    for label in range(len(sizes)):
        own = Counter(rows[f"{index:03}.png"].split for index in np.flatnonzero(labels == label))
        for split, share in shares.items():
            assert abs(own[split] - share * sizes[label]) <= 1
    every = Counter(row.split for row in rows.values())
    assert all(abs(every[split] - share * len(labels)) <= 1.5 for split, share in shares.items())


@given(count=st.integers(20, 60), seed=st.integers(0, 5), data=st.data())
def test_neither_names_nor_order_matter(home, tmp_path_factory, count, seed, data):
    labels = [number % 2 for number in range(count)]
    rows, _, _ = divided(home, files(count), labels, Division(seed))
    order = data.draw(st.permutations(range(count)))
    other = tmp_path_factory.mktemp("renamed")
    for number in range(count):
        (other / f"x{count - number}.png").write_bytes(b"content %d" % number)
    names = [f"x{count - number}.png" for number in order]
    again, _, _ = divided(other, names, [labels[number] for number in order], Division(seed))
    assert all(again[f"x{count - number}.png"].split == rows[f"{number:03}.png"].split for number in range(count))


@given(count=st.integers(20, 60), more=st.integers(1, 60), seed=st.integers(0, 5), other=st.integers(6, 9))
def test_images_that_are_added_move_no_other(home, count, more, seed, other):
    labels = np.arange(count + more) % 3
    before, _, _ = divided(home, files(count), labels[:count], Division(seed))
    known = Division(other, known=tuple(before.values()), known_from="the table")
    after, _, said = divided(home, files(count + more), labels, known)
    assert {path: row.split for path, row in before.items()}.items() <= {
        p: row.split for p, row in after.items()
    }.items()
    assert len(after) == count + more and f"{count} of them keep the split that they have in the table" in said[0]
    only, rows, said = divided(home, files(count + more), labels, Division(known=known.known, only_known=True))
    assert only == before and rows[count:] == [None] * more and f"{more} of {count + more} images" in said[0]


@given(groups=st.lists(st.integers(0, 12), min_size=30, max_size=60), seed=st.integers(0, 5))
def test_a_group_is_in_one_split(home, groups, seed):
    names = [f"g{group}" for group in groups]
    if len(set(names)) < 3:
        return
    rows, _, _ = divided(home, files(len(groups)), [0] * len(groups), Division(seed), groups=names)
    assert all(len({row.split for row in rows.values() if row.group == name}) == 1 for name in names)
    assert {row.split for row in rows.values()} == {"train", "val", "test"}


@given(copies=st.lists(st.integers(0, 29), min_size=1, max_size=30), seed=st.integers(0, 5))
def test_copies_are_in_one_split(tmp_path_factory, copies, seed):
    root = tmp_path_factory.mktemp("copies")
    contents = [*range(30), *copies]
    for number, content in enumerate(contents):
        (root / f"{number:03}.png").write_bytes(b"content %d" % content)
    rows, _, _ = divided(root, files(len(contents)), [0] * len(contents), Division(seed))
    assert all(
        len({rows[f"{n:03}.png"].split for n, c in enumerate(contents) if c == content}) == 1 for content in contents
    )


@given(count=st.integers(3, 9))
def test_few_images_of_one_kind_fill_every_split(home, count):
    rows, _, _ = divided(home, files(count), [0] * count, Division())
    assert {row.split for row in rows.values()} == {"train", "val", "test"}


def test_a_class_is_never_without_training_images(home):
    labels = [0] * 30 + [1, 2, 3]
    rows, _, _ = divided(home, files(33), labels, Division())
    assert [rows[f"{number:03}.png"].split for number in (30, 31, 32)] == ["train"] * 3


@pytest.mark.parametrize(("count", "division"), [(2, Division()), (1, Division(test=0.0))])
def test_too_few_are_refused(home, count, division):
    with pytest.raises(DataError, match="too few to hold some out"):
        divided(home, files(count), [0] * count, division)


def test_stated_splits_are_kept_and_only_the_missing_one_is_held_out(home):
    stated = ["train"] * 40 + ["test"] * 10
    rows = divide(home, [home / name for name in files(50)], stated, np.zeros(50, int), Division(), lambda text: None)
    assert Counter(row.split for row in rows) == {"train": 34, "val": 6, "test": 10}
    assert {row.path for row in rows if row.split == "test"} == set(files(50)[40:])
    assert list(parts_of(range(50), rows)) == ["train", "val", "test"]


def test_a_group_in_two_stated_splits_is_refused(home):
    stated, groups = ["train"] * 20 + ["test"] * 20, ["a", *"b" * 19, "a", *"c" * 19]
    with pytest.raises(DataError, match=r"1 group by --group-by 'x' in two splits: 'a' has 000\.png in train"):
        divide(
            home,
            [home / name for name in files(40)],
            stated,
            np.zeros(40, int),
            Division(group_by="x"),
            lambda text: None,
            groups,
        )


def test_folders_win_over_a_table(home):
    before, _, _ = divided(home, files(40), [0] * 40, Division(0))
    trained = [path for path, row in before.items() if row.split == "train"]
    stated = ["test" if name in trained[:3] else "val" if name in trained[3:5] else "train" for name in files(40)]
    known, said = Division(known=tuple(before.values()), known_from="run/splits.csv"), []
    rows = divide(home, [home / name for name in files(40)], stated, np.zeros(40, int), known, said.append)
    assert [row.split for row in rows] == stated and said == []


def test_a_pattern_that_keeps_nothing_together_is_named(home):
    """As `.*` does, which finds the whole path."""
    _, _, said = divided(home, files(20), [0] * 20, Division(group_by=r".*"))
    assert any("a group of its own for each of 20 images, such as '000.png'" in text for text in said)
    _, _, said = divided(home, files(20), [0] * 20, Division(group_by=r"^\d\d(\d)"))
    assert not any("of its own for each" in text for text in said)
