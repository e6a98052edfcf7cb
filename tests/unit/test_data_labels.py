"""Tables of labels: what is read from them, by which rule, and what is refused."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from vitral.base.errors import ConfigError, DataError
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import random_order
from vitral.data.division import Division
from vitral.data.folder import folder
from vitral.data.spec import find_data

SIZE = Preprocessing(size=(8, 8))
COUNT = 40


def names(count=COUNT):
    return [f"{number:02}.png" for number in range(count)]


@pytest.fixture
def read(tmp_path):
    """Write images and a table, read the folder with options: the data set, and all that was reported."""

    def read(content, table="labels.csv", options="", count=COUNT, encoding="utf-8", task=None):
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names(count)):
            Image.new("RGB", (8, 8), (number * 5, 0, 0)).save(root / name)
        content = content if isinstance(content, str) else "\n".join(content) + "\n"
        (root / table).write_bytes(content.encode(encoding))
        reports = []
        data = folder(find_data(f"{root}{options}"), SIZE, report=reports.append, task=task)
        return data, " ".join(reports)

    return read


def rows(values, header="file_name,label", mark=","):
    return [header, *(f"{name}{mark}{value}" for name, value in zip(names(), values))]


def targets(data):
    """The target of each image, by its file's name, over all splits."""
    found = {}
    for split in (data.train, data.val, data.test):
        found |= {file[-6:]: target.tolist() for file, target in zip(split.files, split.labels)}
    return [found[name] for name in names(len(found))]


def cycle(*values):
    return [values[index % len(values)] for index in range(COUNT)]


READ = {  # values of the column `label` -> task, names of classes or numbers, the rule that is said
    "words": (cycle("cat", "dog"), "one class", ("cat", "dog"), "one class per image, of cat, dog"),
    "class numbers": (cycle(0, 1, 2), "one class", ("0", "1", "2"), "0 to 2, each in several images: class numbers"),
    "class numbers from 1": (cycle(1, 2), "one class", ("1", "2"), "If they are quantities: --data .*:task=numbers"),
    "ten and more": (cycle(*range(12)), "one class", tuple(map(str, range(12))), "class numbers"),
    "codes": (cycle("007", "010"), "one class", ("007", "010"), "leading zeros"),
    "ages": (range(20, 60), "numbers", ("label",), "are not class numbers.*If they are classes: .*:task=one_class"),
    "a few quantities": (cycle(10, 20, 40), "numbers", ("label",), "read as numbers"),
    "signs": (cycle(-1, 1), "numbers", ("label",), "read as numbers"),
    "fractions": (cycle("1.5", "2", "-3e2"), "numbers", ("label",), "it holds numbers such as 1.5"),
    "whole with a point": (cycle("0.0", "1.0"), "numbers", ("label",), "such as 0.0"),
    "bars": (cycle("cat|dog", "cat", ""), "several classes", ("cat", "dog"), "separated by '|'.*none of the classes"),
    "semicolons": (cycle("cat; dog", "dog"), "several classes", ("cat", "dog"), "separated by ';'"),
    "commas": (cycle('"cat,dog"', "cat", "dog"), "several classes", ("cat", "dog"), "also occur in other rows"),
    "names with a comma": (cycle('"Smith, John"', "Doe"), "one class", ("Doe", "Smith, John"), "one class per image"),
    "json": (cycle('"[""cat"", ""dog""]"', "[]"), "several classes", ("cat", "dog"), "because label holds lists"),
    "python's lists": (cycle("\"['cat', 'dog']\"", "['dog']"), "several classes", ("cat", "dog"), "holds lists"),
    "lists of numbers": (
        cycle('"[1.5, 2]"', '"[2.5, 9]"'),
        "numbers",
        ("label 0", "label 1"),
        "label holds lists of numbers",
    ),
    "a unit": (
        cycle("10 kg", "20 kg"),
        "one class",
        ("10 kg", "20 kg"),
        "numbers with the unit kg, but is read as names",
    ),
    "none as a class": (cycle("none", "scratch"), "one class", ("none", "scratch"), "of none, scratch"),
}


@pytest.mark.parametrize("kind", READ)
def test_labels_of_one_column_are_read_by_a_rule_that_is_said(read, kind):
    values, task, classes, said = READ[kind]
    data, reports = read(rows(values))
    assert (data.task, data.classes) == (task, classes)
    assert re.search(said.replace("|", r"\|"), reports), reports


@pytest.mark.parametrize(
    ("values", "option", "task", "classes"),
    [
        (cycle(0, 1, 2), "numbers", "numbers", ("label",)),
        (range(20, 60), "one_class", "one class", tuple(map(str, range(20, 60)))),
        (cycle("cat", "dog"), "several_classes", "several classes", ("cat", "dog")),
        (cycle("a|b", "a"), "one_class", "one class", ("a", "a|b")),
    ],
)
def test_the_task_can_be_specified_and_then_nothing_is_guessed(read, values, option, task, classes):
    if option == "one_class" and len(set(values)) > 2:  # each class needs training images
        values = [20 + index // 10 for index in range(COUNT)]
        classes = tuple(map(str, range(20, 24)))
    data, reports = read(rows(values), options=f":task={option}")
    assert (data.task, data.classes) == (task, classes) and "read as" not in reports


def test_a_models_task_decides_what_could_be_read_in_two_ways(read):
    data, _ = read(rows(cycle(0, 1, 2)), task="numbers")
    assert data.task == "numbers" and targets(data)[:3] == [[0.0], [1.0], [2.0]]


def test_targets_are_those_of_their_rows(read):
    data, _ = read(rows(cycle("b|c", "a", "")))
    assert data.classes == ("a", "b", "c")
    assert targets(data) == cycle([False, True, True], [True, False, False], [False, False, False])
    assert data.train.labels.dtype == bool


def test_class_numbers_are_in_the_order_of_numbers(read):
    data, _ = read(rows(cycle(*range(12))))
    assert targets(data) == cycle(*range(12))


def test_columns_of_0_and_1_are_several_classes(read):
    content = [
        "file_name,cat,dog",
        *(f"{name},{number % 2},{int(number % 3 > 0)}" for number, name in enumerate(names())),
    ]
    data, reports = read(content)
    assert (data.task, data.classes) == ("several classes", ("cat", "dog")) and "hold only 0 and 1" in reports
    assert targets(data) == [[bool(number % 2), number % 3 > 0] for number in range(COUNT)]
    assert read(content, options=":task=numbers")[0].train.labels.dtype == np.float64


def test_columns_with_exactly_one_1_are_one_class(read):
    content = ["file_name,cat,dog", *(f"{name},{number % 2},{1 - number % 2}" for number, name in enumerate(names()))]
    data, reports = read(content)
    assert data.task == "one class" and targets(data) == cycle(1, 0)
    assert "exactly one 1" in reports and "task=several_classes" in reports
    assert read(content, options=":task=several_classes")[0].task == "several classes"


def test_columns_of_numbers_are_numbers_with_their_names(read):
    content = ["file_name,age,weight (kg)", *(f"{name},{20 + n},{60.5 + n}" for n, name in enumerate(names()))]
    data, reports = read(content)
    assert (data.task, data.classes) == ("numbers", ("age", "weight (kg)")) and "hold numbers" in reports
    assert targets(data)[3] == [23.0, 63.5]
    data, reports = read(content, options=":label=age")
    assert data.classes == ("age",) and "the columns weight (kg) are not used" in reports


@pytest.mark.parametrize("title", ["", "Unnamed: 0", "id"])
def test_numbers_of_rows_are_no_labels(read, title):
    content = [f"{title},file_name,age", *(f"{n},{name},{20.5 + n}" for n, name in enumerate(names()))]
    data, reports = read(content)
    assert data.classes == ("age",) and "are not used" in reports


def test_json_lines_have_lists_numbers_and_words(read):
    lines = [
        json.dumps({"file_name": name, "label": ["cat"] if n % 2 else ["cat", "dog"]}) for n, name in enumerate(names())
    ]
    assert read(lines, "metadata.jsonl")[0].task == "several classes"
    lines = [json.dumps({"file_name": name, "age": 20.5 + n}) for n, name in enumerate(names())]
    data, reports = read(lines, "metadata.jsonl")
    assert data.task == "numbers" and data.classes == ("age",) and "'age', the only one" in reports


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (rows(cycle("cat", "dog")), "utf-8-sig", "one class"),
        (rows(cycle("cat", "dog")), "utf-16", "UTF-16"),
        (rows(cycle("cat", "dog"), "file_name;label", ";"), "utf-8", "separated by semicolons"),
        (rows(cycle("cat", "dog"), "file_name\tlabel", "\t"), "utf-8", "separated by tabs"),
        (rows(cycle("1,5", "2,25"), "file_name;label", ";"), "utf-8", "decimal comma"),
        (rows(cycle("cat", "dog"), "Filename, Label"), "utf-8", "named by the column 'Filename'"),
        ("\r\n".join(rows(cycle("cat", "dog"))), "utf-8", "one class"),
    ],
)
def test_dialects_of_csv_are_read(read, content, encoding, said):
    data, reports = read(content, encoding=encoding)
    assert said in reports and len(data.classes) in (1, 2)


def bad(*changes):
    content = rows(cycle("cat", "dog"))
    for line, value in changes:
        content[line] = value
    return content


REFUSED = {
    "a file that is not there": (bad((3, "gone.png,cat")), r"names 1 image that does not exist: gone.png \(line 4\)"),
    "a name without suffix": (bad((1, "00,cat")), r"There is 00.png: write the suffix"),
    "words among numbers": (
        rows(cycle("1.5", "2.5", "dog")),
        "mixes numbers and words: 1.5 in line 2, 'dog' in line 4",
    ),
    "NaN": (rows(cycle("1.5", "nan", "2.5")), r"lacks 13 labels \(line 3, 01.png, label; .*Fill them in"),
    "an empty number": (rows(cycle("1.5", "", "2.5")), "lacks 13 labels"),
    "NA among numbers": (rows(cycle("1.5", "NA", "2.5")), "lacks 13 labels"),
    "an empty class": (bad((5, "04.png,")), r"lacks 1 label \(line 6, 04.png, label\)"),
    "infinity": (rows(cycle("1.5", "inf", "2.5")), "line 3: label must be a finite number"),
    "thousands or decimals": (rows(cycle('"1,234"', '"2,500"')), "may separate thousands or decimals"),
    "a constant number": (rows(cycle("1.5")), "label is 1.5 in every row"),
    "one class": (rows(cycle("cat")), "has only one class, 'cat'"),
    "two labels of an image": (
        bad((2, "00.png,dog")),
        r"00.png with different labels in lines 2 and 3.*several_classes",
    ),
    "no header": (rows(cycle("cat", "dog"))[1:], "no column that names images; its columns are 00.png, cat"),
    "no rows": (["file_name,label"], "has no rows"),
    "no labels": (["file_name", *names()], "has no labels"),
    "two columns of files": (bad((0, "file_name,path")), "has the columns file_name and path"),
    "a column twice": (["file_name,label,label", "00.png,a,b"], "two columns called 'label'"),
    "too many values": (bad((4, "03.png,cat,dog")), "line 5 has 3 values for 2 columns"),
    "an unclosed quote": (bad((4, '03.png,"cat')), "is not a valid CSV file"),
    "words in one of several columns": (
        ["file_name,cat,photographer", *(f"{name},1,Ann" for name in names())],
        "several columns that could be labels .cat, photographer.*photographer is 'Ann' in line 2",
    ),
    "a split that is not one": (
        [
            "file_name,label,split",
            *(f"{name},{n % 2},{'trian' if n == 3 else 'train'}" for n, name in enumerate(names())),
        ],
        "line 5: split is 'trian'. Splits: train, val",
    ),
    "a class that only test images have": (
        [
            "file_name,label,split",
            *(f"{name},{'ab'[n > 35]},{'train' if n < 30 else 'test'}" for n, name in enumerate(names())),
        ],
        "has no training image of b",
    ),
    "too few images": (
        ["file_name,label", "00.png,cat", "01.png,dog"],
        "has 2 images in 2 classes: too few to hold some out",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_cannot_be_right_is_refused_with_its_line(read, kind):
    content, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        read(content)


def test_json_lines_that_cannot_be_right_are_refused(read):
    for line, message in (
        ('{"file_name": "00.png", "label": ', "line 1 is not JSON"),
        ("[1, 2]", "line 1 is not a JSON object"),
        ('{"label": 1}', "no column that names images"),
        ('{"file_name": "00.png", "label": [["a"]]}', "a list within a list"),
    ):
        with pytest.raises(DataError, match=message):
            read([line], "metadata.jsonl")


def test_an_unknown_column_is_refused_with_those_there_are(read):
    with pytest.raises(ConfigError, match=r"has no column 'labl'\. Did you mean 'label'\? Its columns: label"):
        read(rows(cycle("cat", "dog")), options=":label=labl")


def test_rows_of_one_image_are_put_together_for_several_classes(read):
    content = ["file_name,label", *(f"{name},{label}" for name in names() for label in ("cat", "dog", "newt"))][:-1]
    data, reports = read(content, options=":task=several_classes")
    assert targets(data)[0] == [True, True, True] and targets(data)[-1] == [True, True, False]
    assert "79 rows name an image again; they were put together" in reports


def test_the_same_row_twice_counts_once(read):
    content = rows(cycle("cat", "dog"))
    data, reports = read([*content, content[1]])
    assert len(targets(data)) == COUNT and "1 rows name an image again; they have the same label" in reports


def test_images_without_a_row_are_left_out_and_counted(read):
    data, reports = read(rows(cycle("cat", "dog"))[:-4])
    assert len(targets(data)) == COUNT - 4
    assert re.search("4 images in .* have no row in labels.csv and were left out, such as 36.png", reports)


def test_a_column_says_which_split(read):
    parts = ["train" if n < 30 else "valid" if n < 35 else "test" for n in range(COUNT)]
    content = ["file_name,label,split", *(f"{name},{'ab'[n % 2]},{parts[n]}" for n, name in enumerate(names()))]
    data, reports = read(content)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 5, 5] and "divided" not in reports


def test_every_split_gets_its_share_of_rare_classes_and_of_ranges(read):
    data, _ = read(rows(["a|b" if n % 4 == 0 else "a" for n in range(COUNT)]))
    assert all(split.labels[:, 1].any() for split in (data.train, data.val, data.test))
    data, _ = read(rows([n + 0.5 for n in range(COUNT)]))
    assert all(split.labels.min() < 15 and split.labels.max() > 25 for split in (data.val, data.test))


@pytest.mark.parametrize(
    "values",
    [
        ["cat"] * 20 + ["dog"] * 20,
        ["cat|dog"] * 10 + ["cat"] * 10 + ["dog"] * 20,
        [number + 0.5 for number in range(COUNT)],
    ],
    ids=["one class", "several classes", "numbers"],
)
def test_splits_are_in_random_order_though_the_table_is_sorted_by_label(read, values):
    data, _ = read(rows(values))
    for split in (data.train, data.val, data.test):
        in_table = sorted(split.files)
        assert split.files == tuple(in_table[index] for index in random_order(len(split)))
        assert split.source_index.tolist() == random_order(len(split)).tolist()
    found = [np.atleast_1d(target) for target in targets(data)]
    if data.task == "numbers":
        assert [target[0] for target in found] == values
    elif data.task == "one class":
        assert [data.classes[target[0]] for target in found] == values
    else:
        assert ["|".join(np.array(data.classes)[target]) for target in found] == values


@pytest.mark.parametrize("own", ["b", "b|b"], ids=["one class", "several classes"])
def test_classes_without_held_out_images_are_reported(read, own):
    parts = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    values = ["a" if part == "test" or number % 2 else own for number, part in enumerate(parts)]
    if "|" in own:
        values[0] = "a|b"
    lines = [f"{name},{value},{part}" for name, value, part in zip(names(), values, parts)]
    data, reports = read(["file_name,label,split", *lines])
    assert data.task == ("several classes" if "|" in own else "one class")
    assert "No test images of b: test figures do not cover these classes." in reports
    assert "No val images" not in reports


def test_tables_in_the_folders_of_splits(tmp_path):
    for split, count in (("train", 20), ("test", 6)):
        home = tmp_path / split
        home.mkdir()
        for number in range(count):
            Image.new("RGB", (8, 8), (number * 9, 0, 0)).save(home / f"{number}.png")
        lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(count)]
        (home / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    reports = []
    data = folder(tmp_path, SIZE, report=reports.append)
    assert len(data.test) == 6 and len(data.train) + len(data.val) == 20 and data.classes == ("a", "b")
    assert "has no val images" in " ".join(reports)
    (tmp_path / "labels.csv").write_text("file_name,label\n")
    with pytest.raises(DataError, match="on two levels"):
        folder(tmp_path, SIZE)


def test_class_folders_with_captions_beside_them_stay_class_folders(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("RGB", (8, 8), (number, len(name), ord(name[0]))).save(tmp_path / name / f"{number}.png")
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/0.png,a cat\n")
    reports = []
    data = folder(tmp_path, SIZE, report=reports.append)
    assert data.classes == ("cat", "dog") and "no column called label" in " ".join(reports)
    with pytest.raises(DataError, match="has no table of labels"):
        (tmp_path / "metadata.csv").unlink()
        folder(find_data(f"{tmp_path}:task=numbers"), SIZE)


def test_a_column_may_name_the_groups(tmp_path):
    for name in names():
        Image.new("RGB", (8, 8), (int(name[:2]) * 5, 0, 0)).save(tmp_path / name)
    lines = [f"{name},{'ab'[number % 2]},patient {number // 5}" for number, name in enumerate(names())]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label,patient", *lines]))
    data = folder(tmp_path, SIZE, Division(group_by="patient"))
    assert data.classes == ("a", "b") and {row.group for row in data.rows} == {f"patient {n}" for n in range(8)}
    assert all(len({row.split for row in data.rows if row.group == f"patient {n}"}) == 1 for n in range(8))
    with pytest.raises(DataError, match="finds nothing in the paths"):
        folder(tmp_path, SIZE, Division(group_by="doctor"))


def test_a_table_of_test_images_alone_can_be_judged(tmp_path):
    for name in names():
        Image.new("RGB", (8, 8), (int(name[:2]) * 5, 0, 0)).save(tmp_path / name)
    lines = [f"{name},{'ab'[number % 2]},test" for number, name in enumerate(names())]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label,split", *lines]))
    assert len(folder(tmp_path, SIZE, whole=True).test) == COUNT
    with pytest.raises(DataError, match="has no row whose split is train"):
        folder(tmp_path, SIZE)
