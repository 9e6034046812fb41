"""Published numbers: whole, with a source each, marked where they do not follow from others, and beside our own."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from test_tables import open_world, pair, printed, rows, width, write  # noqa: F401  (width: a fixture for each test)

from experiments import published
from experiments.data import ELEVEN
from experiments.methods import METHODS
from experiments.protocols import TABLES
from experiments.published import AVERAGE, AVERAGES, BASE2NEW, BEYOND, FEW_SHOT, SOURCES
from experiments.store import collect
from experiments.tables.text import MISSING
from trainers.prompting.recipes import data_sets

VIT = {"recipe": "vit_b16_c2_ep10_batch4_2ctx", "backbone": "ViT-B/16", "trainer": "BMIP"}
MAPLE = {**VIT, "recipe": "vit_b16_c2_ep5_batch4_2ctx", "trainer": "MaPLe"}


def test_numbers_are_of_all_data_sets_or_of_none_in_per_cent_and_have_a_source():
    for name, row in BASE2NEW.items():
        assert set(row.sets) in (set(), set(ELEVEN)) and row.source in SOURCES, name
        cells = [row.average, *row.sets.values()]
        assert all(0 < number < 100 for cell in cells for number in cell if number is not None), name
        assert all(len(cell) == 3 for cell in cells)
    for name, sets in FEW_SHOT.items():
        assert set(sets) in ({AVERAGE}, {*ELEVEN}, {AVERAGE, *ELEVEN})
        assert set(published.FEW_SHOT_ROWS[name]["source"].split(", ")) <= set(SOURCES)
        assert all(tuple(by_shots) == (1, 2, 4, 8, 16) for by_shots in sets.values())
        for shots in (1, 2, 4, 8, 16) if len(sets) == 12 else ():
            mean = statistics.fmean(sets[dataset][shots] for dataset in ELEVEN)
            assert sets[AVERAGE][shots] == pytest.approx(mean, abs=0.011)
    assert sum(bool(row.sets) for row in BASE2NEW.values()) == 35


def test_the_marks_are_of_the_numbers_that_do_not_follow():
    marked = {(name, *mark[:2]) for name, row in BASE2NEW.items() for mark in row.marks()}
    of_means = {("TAC", "average"), ("CAPT", "average"), ("PromptKD", "ucf101"), ("PromptKD+ATPrompt", "food101")}
    of_means |= {(name, "average") for name in ("BMIP", "RPO", "HPT", "Spotlighter")}
    assert marked == {(*one, "HM") for one in of_means} | {("TAC", "average", "base"), ("CAPT", "average", "new")}


def test_proda_has_the_number_from_which_its_harmonic_mean_follows():
    assert AVERAGES["ProDA"] == (81.56, 72.30, 76.65) and "75.83" in BASE2NEW["ProDA"].differs
    assert not list(BASE2NEW["ProDA"].marks())


def test_methods_that_use_more_than_few_images_are_apart_and_none_of_ours_is():
    assert set(BEYOND) == {"PromptKD", "CAPT", "ProText", "PromptKD (rerun of DPC's authors)"}
    assert AVERAGES.keys().isdisjoint(BEYOND) and METHODS.keys().isdisjoint(BEYOND)
    assert all(BASE2NEW[name].uses for name in BASE2NEW if "PromptKD" in name or "CasPL" in name)


def test_each_data_set_of_ours_has_the_published_numbers_beside_it(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0, **{**MAPLE, "dataset": "EuroSAT"})
    pair(tmp_path, 80.0, 60.0, **{**MAPLE, "dataset": "OxfordPets"})
    pair(tmp_path, 70.0, 50.0, **{**VIT, "dataset": "EuroSAT"})
    pair(tmp_path, 70.0, 50.0, **{**VIT, "dataset": "OxfordPets"})
    headers, found, notes = rows(tmp_path, capsys, "base2new")
    cells = dict(zip(headers[1:], found["MaPLe"]))
    assert [cells[f"EuroSAT published {name}"] for name in ("base", "new", "HM")] == ["94.07", "73.23", "82.35"]
    assert cells["OxfordPets published new"] == "97.76" and cells["EuroSAT new"] == "60.00"
    # Of BMIP there are averages alone, and of others no numbers of ours.
    assert dict(zip(headers[1:], found["BMIP"]))["EuroSAT published base"] == ""
    assert dict(zip(headers[1:], found["TAC"]))["EuroSAT base"] == MISSING
    assert "docs/PUBLISHED.md" in notes


def test_methods_that_use_more_have_columns_of_their_own(tmp_path, capsys):
    for dataset in ("EuroSAT", "OxfordPets"):
        pair(tmp_path, 80.0, 60.0, **{**MAPLE, "dataset": dataset})
    headers, found, _ = rows(tmp_path, capsys, "base2new")
    kd, maple = (dict(zip(headers[1:], found[name])) for name in ("PromptKD", "MaPLe"))
    beyond = "published, from more than few-shot data HM (11 sets)"
    assert kd[beyond] == "83.73" and kd["published HM (11 sets)"] == ""
    assert maple[beyond] == "" and maple["published HM (11 sets)"] == "78.55"
    assert "MaPLe+DePT" not in found


@pytest.mark.parametrize("changes", [{"backbone": "tiny", "recipe": "tiny"}, {"backbone": "RN50"}], ids=str)
def test_other_backbones_have_none_beside_them(tmp_path, capsys, changes):
    for dataset in ("EuroSAT", "OxfordPets"):
        pair(tmp_path, 80.0, 60.0, **{**MAPLE, "dataset": dataset, **changes})
    headers, found, _ = rows(tmp_path, capsys, "base2new")
    assert not any("published base" in header and "sets" not in header for header in headers)
    (ours,) = (name for name in found if name.startswith("MaPLe") and found[name][0] != MISSING)
    assert dict(zip(headers[1:], found[ours])).get("published HM (11 sets)", "") in ("", "78.55")


def few_shot(folder, shots: int, accuracy: float, dataset: str = "OxfordPets", trainer: str = "PromptSRC") -> None:
    recipes = {"PromptSRC": "vit_b16_c2_ep50_batch4_4+4ctx_few_shot", "MaPLe": MAPLE["recipe"]}
    more = {"trainer": trainer, "recipe": recipes[trainer], "backbone": "ViT-B/16", "dataset": dataset}
    write(folder, f"{dataset}-{shots}", classes="all", shots=shots, accuracy=accuracy, trained=True, **more)


def test_each_number_of_shots_has_the_published_one_beside_it(tmp_path, capsys):
    few_shot(tmp_path, 1, 91.0)
    few_shot(tmp_path, 16, 92.0)
    headers, found, _ = rows(tmp_path, capsys, "few-shot")
    assert dict(zip(headers[1:], found["PromptSRC"])) == {
        "1 shot accuracy": "91.00",
        "1 shot published accuracy": "92.00",
        "16 shots accuracy": "92.00",
        "16 shots published accuracy": "93.67",
    }
    lines = csv.DictReader(io.StringIO(printed(capsys, tmp_path, "--table", "few-shot", "--format", "csv")[0]))
    means = {(line["group"], line["column"]): line["mean"] for line in lines}
    assert means["16 shots", "published accuracy"] == "93.67"


def test_the_average_over_the_eleven_data_sets_has_the_published_one_beside_it(tmp_path, capsys):
    for name in ELEVEN:
        few_shot(tmp_path, 4, 70.0, data_sets()[name], "MaPLe")
    tables = TABLES["few-shot"].tables(collect(tmp_path))
    (average,) = (table for table in tables if table.title.startswith("All classes, average"))
    headers, lines = average.grid(str)
    assert dict(zip(headers, lines[0])) == {
        "method": "MaPLe",
        "4 shots accuracy": "70.00",
        "4 shots published accuracy": "75.37",
    }


def test_calibration_errors_have_published_averages_beside_them(tmp_path, capsys):
    figures = {"auroc": 80.0, "auroc_msp": 70.0, "ece_base": 4.0, "ece_new": 6.0, "ece_all": 9.0}
    for dataset in ("EuroSAT", "OxfordPets"):
        world = {**open_world(80.0, 60.0, 50.0), **figures}
        write(tmp_path, dataset, **{**MAPLE, "dataset": dataset}, classes="all", open_world=world)
    headers, found, _ = rows(tmp_path, capsys, "calibration")
    cells = dict(zip(headers[1:], found["MaPLe"]))
    assert cells["published ECE base (11 sets)"] == "3.19" and cells["published ECE new (11 sets)"] == "5.76"
