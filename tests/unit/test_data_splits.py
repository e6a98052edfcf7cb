"""`splits.csv` comes back as it was written, and a table that contradicts itself is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.errors import DataError
from vitral.data.split_table import COLUMNS, SplitRow, read_splits, write_splits

ROWS = [
    SplitRow("aa", "train", "", "cat/1.jpg"),
    SplitRow("bb", "val", "burst 1", "cat/2.jpg"),
    SplitRow("cc", "val", "burst 1", "cat/3.jpg"),
    SplitRow("dd", "test", "", "dog/1.jpg"),
]
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8) | st.sampled_from(["a,b", 'a"b', "ä/ß.jpg"])


def table(path, *lines):
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    return path


def test_the_table_is_csv_sorted_by_path(tmp_path):
    write_splits(tmp_path / "splits.csv", ROWS[::-1])
    lines = (tmp_path / "splits.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        "content,split,group,path",
        "aa,train,,cat/1.jpg",
        "bb,val,burst 1,cat/2.jpg",
        "cc,val,burst 1,cat/3.jpg",
        "dd,test,,dog/1.jpg",
    ]


@given(paths=st.lists(names, max_size=6, unique=True), group=names)
def test_a_table_comes_back_as_it_was_written(paths, group, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "splits.csv"
    rows = [SplitRow(str(number), "train", group, name) for number, name in enumerate(paths)]
    write_splits(path, rows)
    assert read_splits(path) == sorted(rows, key=lambda row: (row.path, row.content))


def test_two_copies_of_an_image_may_both_be_listed(tmp_path):
    path = table(tmp_path / "splits.csv", "aa,train,,cat/1.jpg", "aa,train,,cat/copy of 1.jpg")
    assert [row.path for row in read_splits(path)] == ["cat/1.jpg", "cat/copy of 1.jpg"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["aa,tset,,cat/1.jpg"], r"assigns cat/1.jpg to 'tset'\. Splits: train, val, test"),
        (["aa,,,cat/1.jpg"], "assigns cat/1.jpg to ''"),
        (["aa,train,,1.jpg", "aa,test,,2.jpg"], r"assigns content aa to both train and test\. Keep one\."),
        (["aa,train,g,1.jpg", "bb,test,g,2.jpg"], "assigns group g to both train and test"),
    ],
    ids=["an unknown split", "no split", "a content in two splits", "a group in two splits"],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_splits(table(tmp_path / "splits.csv", *lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"content,path\naa,1.jpg\n", r"lacks the columns group, split\. Needed: content,split,group,path"),
        (b"", "lacks the columns content, group, path, split"),
        (b"\xff\xfe\x00", r"cannot be read as CSV: .*Restore or delete it"),
        (b'content,split,group,path\n"aa', "cannot be read as CSV"),
    ],
    ids=["missing columns", "empty", "not text", "an open quote"],
)
def test_a_file_that_is_not_such_a_table_is_refused(tmp_path, content, message):
    path = tmp_path / "splits.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_splits(path)


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"splits\.csv cannot be read as CSV: .*No such file"):
        read_splits(tmp_path / "splits.csv")
