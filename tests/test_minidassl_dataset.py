"""Datum, the dataset base class, and few-shot sampling."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

from minidassl.data.datasets import DatasetBase, Datum

import pytest


def items(*labels: int) -> list[Datum]:
    return [Datum(f"{number}.jpg", label, classname=f"class {label}") for number, label in enumerate(labels)]


def labels_and_paths(source: list[Datum]) -> list[tuple[int, str]]:
    return [(item.label, item.impath) for item in source]


def test_a_pickled_datum_goes_by_upstreams_name_so_that_either_reads_it():
    pickled = pickle.dumps(items(2))
    assert b"dassl.data.datasets.base_dataset" in pickled and b"minidassl" not in pickled
    (datum,) = pickle.loads(pickled)
    assert vars(datum) == {"_impath": "0.jpg", "_label": 2, "_domain": 0, "_classname": "class 2"}


def test_a_datum_says_what_it_was_given_and_does_not_look_for_the_file():
    datum = Datum(Path("no/such/image.jpg"), label=3, domain=1, classname="cat")
    assert (datum.impath, datum.label, datum.domain, datum.classname) == (str(Path("no/such/image.jpg")), 3, 1, "cat")
    assert repr(datum) == f"Datum({datum.impath!r}, label=3, domain=1, classname='cat')"
    with pytest.raises(AttributeError):
        datum.label = 4
    with pytest.raises(TypeError):
        Datum(5)


def test_classes_are_read_from_the_training_images():
    dataset = DatasetBase(train_x=items(2, 0, 2), val=items(0), test=items(5))
    assert dataset.num_classes == 3
    assert dataset.classnames == ["class 0", "class 2"]
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (3, 1, 1)


@pytest.mark.parametrize("train_x", [None, []])
def test_a_dataset_without_training_images_says_so(train_x):
    with pytest.raises(ValueError, match="no training image"):
        DatasetBase(train_x=train_x)


def test_one_label_with_two_names_is_an_error():
    with pytest.raises(ValueError, match="label 0 is called both 'cat' and 'dog'"):
        DatasetBase(train_x=[Datum("a", 0, classname="cat"), Datum("b", 0, classname="dog")])


def test_few_shots_draw_one_sample_per_class_in_order_of_first_appearance(capsys):
    source = items(1, 0, 1, 1, 0, 0, 2)
    random.seed(5)
    sampled = DatasetBase.generate_fewshot_dataset(DatasetBase(source), source, num_shots=2)
    assert "Creating a 2-shot dataset" in capsys.readouterr().out
    random.seed(5)
    expected = random.sample([source[0], source[2], source[3]], 2)
    expected += random.sample([source[1], source[4], source[5]], 2)
    expected += [source[6]]  # too few images: taken whole, nothing drawn
    assert labels_and_paths(sampled) == labels_and_paths(expected)


def test_few_shots_can_be_filled_by_repetition():
    source = items(0, 1, 1)
    random.seed(0)
    sampled = DatasetBase(source).generate_fewshot_dataset(source, num_shots=4, repeat=True)
    assert [item.label for item in sampled] == [0] * 4 + [1] * 4


def test_several_sources_come_back_as_a_list_and_no_shots_change_nothing():
    train, val = items(0, 1), items(0, 0, 1)
    dataset = DatasetBase(train)
    assert [len(source) for source in dataset.generate_fewshot_dataset(train, val, num_shots=1)] == [2, 2]
    assert dataset.generate_fewshot_dataset(train, num_shots=-1) is train
    assert dataset.generate_fewshot_dataset(train, val, num_shots=0) == (train, val)
