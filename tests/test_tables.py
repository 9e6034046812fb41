"""Tables come from records alone: means and spreads over seeds, harmonic means of averages, nothing in silence."""

from __future__ import annotations

import csv
import io
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import tables


def write(folder: Path, name: str, **changes) -> Path:
    """A record, as a run writes it."""
    record = {
        "trainer": "MaPLe",
        "recipe": "tiny",
        "dataset": "Digits",
        "classes": "base",
        "split": "test",
        "seed": 1,
        "shots": 16,
        "accuracy": 50.0,
        "open_world": None,
        "trained": False,
        "trained_on": {"dataset": "Digits", "classes": "base", "shots": 16, "seed": 1},
        "environment": {"code": "one"},
        "configuration": {"TRAINER": {"NAME": "MaPLe", "MAPLE": {"N_CTX": 2}}},
        **changes,
    }
    path = folder / name / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return path


def pair(folder: Path, base: float, new: float, seed: int = 1, **changes) -> None:
    """Records of a method on base and on new classes."""
    name = f"{changes.get('trainer', 'MaPLe')}-{changes.get('dataset', 'Digits')}-{seed}"
    write(folder, f"{name}-base", classes="base", accuracy=base, seed=seed, **{**changes, "trained": True})
    write(folder, f"{name}-new", classes="new", accuracy=new, seed=seed, **changes)


def rows(folder: Path, capsys, *arguments: str) -> tuple[list[str], dict[str, list[str]], str]:
    """Headers and rows of the only table, and the notes."""
    assert tables.main([str(folder), *arguments, "--format", "csv"]) == 0
    captured = capsys.readouterr()
    _, headers, *lines = [line for line in csv.reader(io.StringIO(captured.out)) if line]
    return headers, {line[0]: line[1:] for line in lines}, captured.err


def test_hand_worked_means_spreads_and_harmonic_means(tmp_path, capsys):
    for seed, base, new in ((1, 90.0, 30.0), (2, 50.0, 50.0)):
        pair(tmp_path, base, new, seed)
        pair(tmp_path, base - 10, new + 10, seed, dataset="Symbols")
    headers, found, _ = rows(tmp_path, capsys, "--table", "base2new")
    cells = dict(zip(headers[1:], found["MaPLe"]))
    assert cells["Digits base"] == "70.00 ± 20.00" and cells["Digits new"] == "40.00 ± 10.00"
    assert cells["Digits HM"] == "50.91"  # of 70 and 40, not the mean of 45 and 50
    assert cells["Symbols HM"] == "54.55"  # of 60 and 50
    assert cells["average base"] == "65.00" and cells["average new"] == "45.00"
    assert cells["average HM"] == "53.18"  # of 65 and 45
    assert cells["average mean HM"] == "52.73"
    assert cells["published HM"] == "78.55"


def test_numbers_equal_an_independent_computation_from_saved_logits(run_train, tmp_path, capsys):
    options = ["TEST.SAVE_LOGITS", "True"]
    model = run_train(folder=tmp_path / "model")
    run_train(
        "--eval-only",
        "--model-dir",
        str(model.folder),
        folder=tmp_path / "r" / "all",
        options=[*options, "DATASET.SUBSAMPLE_CLASSES", "all"],
    )
    saved = np.load(tmp_path / "r" / "all" / "logits.npz")
    logits, labels = saved["logits"], saved["labels"]
    is_base = labels < 5
    base = 100 * (logits[is_base][:, :5].argmax(1) == labels[is_base]).mean()
    new = 100 * (logits[~is_base][:, 5:].argmax(1) + 5 == labels[~is_base]).mean()
    headers, found, _ = rows(tmp_path / "r", capsys, "--table", "open-world")
    cells = dict(zip(headers[1:], found["BMIP"]))
    assert [cells[f"Digits {name}"] for name in ("base", "new", "HM", "accuracy")] == [
        f"{value:.2f}"
        for value in (base, new, statistics.harmonic_mean([base, new]), 100 * (logits.argmax(1) == labels).mean())
    ]
    record = json.loads((tmp_path / "r" / "all" / "result.json").read_text())
    assert sum(c["correct"] for c in record["per_class"]) == (logits.argmax(1) == labels).sum()
    assert [c["images"] for c in record["per_class"]] == np.bincount(labels).tolist()
    assert record["trained_on"] == {"dataset": "Digits", "classes": "base", "shots": 2, "seed": 1}


def test_records_that_disagree_are_named_and_not_averaged(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    again = write(tmp_path, "copy", classes="new", accuracy=61.0)
    _, found, notes = rows(tmp_path, capsys, "--table", "base2new")
    assert found["MaPLe"][:3] == ["80.00", tables.MISSING, tables.MISSING]
    assert "disagree" in notes and str(again) in notes and "MaPLe lacks Digits with the seeds 1" in notes


def test_the_same_record_twice_counts_once(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    write(tmp_path, "copy", classes="new", accuracy=60.0)
    _, found, notes = rows(tmp_path, capsys, "--table", "base2new")
    assert found["MaPLe"][1] == "60.00" and "disagree" not in notes


def test_a_seed_that_only_some_cells_have_is_noted(tmp_path, capsys):
    for seed in (1, 2, 3):
        pair(tmp_path, 80.0, 60.0, seed)
    pair(tmp_path, 70.0, 50.0, 1, trainer="VPT", configuration={"TRAINER": {"NAME": "VPT", "VPT": {}}})
    _, found, notes = rows(tmp_path, capsys, "--table", "base2new")
    assert "VPT lacks Digits with the seeds 2, 3: python scripts/reproduce.py base2new --methods VPT" in notes
    assert '--datasets "digits" --seeds "2 3"' in notes and "MaPLe lacks" not in notes
    assert list(found) == ["VPT", "MaPLe"]  # in the launcher's order


def test_what_is_no_record_is_named(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "result.json").write_text('{"trainer": "Ma')
    (tmp_path / "half" / "result.json.12.part").write_text("{")
    old = write(tmp_path, "old")
    old.write_text(json.dumps({"trainer": "MaPLe", "accuracy": 5.0}))
    _, _, notes = rows(tmp_path, capsys, "--table", "base2new")
    assert "half/result.json is no record" in notes and "result.json.12.part is a record that was not" in notes
    assert f"{old} lacks recipe" in notes


def test_records_of_several_versions_of_the_code_are_noted(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0, 1)
    pair(tmp_path, 80.0, 60.0, 2, environment={"code": "two"})
    assert "2 versions of the code" in rows(tmp_path, capsys, "--table", "base2new")[2]


def test_other_settings_of_a_method_are_rows_of_their_own(tmp_path, capsys):
    def bmip(**node):
        return {"trainer": "BMIP", "configuration": {"TRAINER": {"NAME": "BMIP", "BMIP": node}}}

    pair(tmp_path / "a", 80.0, 60.0, **bmip(AGGREGATION="bmip", VARIANT="paper"))
    pair(tmp_path / "b", 70.0, 50.0, **bmip(AGGREGATION="addition", VARIANT="paper"))
    pair(tmp_path / "c", 60.0, 40.0, **bmip(AGGREGATION="bmip", VARIANT="released"))
    _, found, _ = rows(tmp_path, capsys, "--table", "base2new")
    assert {name: line[0] for name, line in found.items()} == {
        "BMIP": "80.00",
        "BMIP, addition": "70.00",
        "BMIP, released": "60.00",
    }


def test_models_of_all_classes_fill_the_transfer_and_few_shot_tables(tmp_path, capsys):
    everything = {"dataset": "Symbols", "classes": "all", "shots": 4, "seed": 1}
    write(tmp_path, "model", dataset="Symbols", classes="all", shots=4, trained=True, trained_on=None, accuracy=70.0)
    write(tmp_path, "digits", classes="all", trained_on=everything, accuracy=40.0)
    write(tmp_path, "sketch", dataset="SymbolsSketch", classes="all", trained_on=everything, accuracy=60.0)
    headers, found, _ = rows(tmp_path, capsys, "--table", "cross-dataset")
    assert dict(zip(headers[1:], found["MaPLe"])) == {
        "Digits accuracy": "40.00",
        "SymbolsSketch accuracy": "60.00",
        "average accuracy": "50.00",
    }
    headers, found, _ = rows(tmp_path, capsys, "--table", "few-shot")
    assert headers == ["method", " 4 shots accuracy"] and found["MaPLe"] == ["70.00"]


@pytest.mark.parametrize(
    "style, bold, pieces",
    [
        ("text", "90.00*", ["----"]),
        ("markdown", "**90.00**", ["### Base to new, 16 shots", "|---"]),
        ("latex", r"\textbf{90.00}", [r"\toprule", r"\midrule", r"\bottomrule"]),
    ],
)
def test_the_best_of_a_column_is_marked_in_every_format(tmp_path, capsys, style, bold, pieces):
    pair(tmp_path, 80.0, 60.0)
    pair(tmp_path, 90.0, 50.0, trainer="VPT", configuration={"TRAINER": {"NAME": "VPT", "VPT": {}}})
    assert tables.main([str(tmp_path), "--table", "base2new", "--format", style]) == 0
    printed = capsys.readouterr().out
    assert bold in printed and all(piece in printed for piece in pieces)
    assert bold.replace("90", "80") not in printed


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    assert tables.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_variants_are_compared_with_bmip_seed_by_seed(tmp_path, capsys):
    numbers = {"tiny": {1: 50.0, 2: 60.0, 3: 70.0}, "tiny_addition": {1: 52.0, 2: 63.0, 3: 74.0, 9: 0.0}}
    for recipe, seeds in numbers.items():
        for seed, value in seeds.items():
            write(
                *(tmp_path, f"{recipe}-{seed}"),
                **{"trainer": "BMIP", "recipe": recipe, "seed": seed, "classes": "all"},
                open_world={"base": 80.0, "new": 70.0, "HM": value, "accuracy": 40.0},
                configuration={"TRAINER": {"NAME": "BMIP", "BMIP": {}}},
            )
    headers, found, _ = rows(tmp_path, capsys, "--table", "paired")
    cells = dict(zip(headers[1:], found["BMIP, addition"]))
    assert cells["seeds"] == "3" and cells["HM"] == "+3.00 ± 1.00" and cells["base"] == "+0.00 ± 0.00"
    # t = 3 / (1 / sqrt(3)) with two degrees of freedom
    assert cells["p (HM)"] == "0.035" and cells["p (accuracy)"] == tables.MISSING


def test_each_objective_is_compared_with_the_same_prompts_and_costs_are_best_where_they_are_least(tmp_path, capsys):
    for recipe, value, seconds in (("tiny", 50.0, 8.0), ("tiny_consistency", 56.0, 12.0)):
        for seed in (1, 2):
            named = {"trainer": "IVLP", "recipe": recipe, "seed": seed, "configuration": {"TRAINER": {"NAME": "IVLP"}}}
            costs = {"train_seconds": seconds + seed, "peak_memory_bytes": 2**30}
            write(tmp_path, f"{recipe}-{seed}", **named, classes="base", trained=True, **costs)
            numbers = {"base": 80.0, "new": 60.0, "HM": value + seed * value / 50, "accuracy": value}
            write(tmp_path, f"{recipe}-{seed}-all", **named, classes="all", open_world=numbers)
    headers, found, _ = rows(tmp_path, capsys, "--table", "combinations")
    cells = dict(zip(headers[1:], found["IVLP, consistency"]))
    assert cells["Digits accuracy"] == "56.00 ± 0.00" and cells["Digits train s"] == "13.50 ± 0.50"
    assert cells["Digits HM"] == "68.57" and cells["Digits peak GiB"] == "1.00 ± 0.00"
    assert tables.main([str(tmp_path), "--table", "combinations"]) == 0
    printed = capsys.readouterr().out
    assert "9.50* ± 0.50" in printed and "56.00* ± 0.00" in printed and "13.50*" not in printed
    headers, found, _ = rows(tmp_path, capsys, "--table", "paired")
    cells = dict(zip(headers[1:], found["IVLP, consistency"]))
    assert cells["against"] == "IVLP" and cells["HM"].startswith("+6.18") and cells["seeds"] == "2"


def test_tests_with_a_share_of_base_classes_stand_in_their_own_table(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    for share, accuracy in ((0, 60.0), (50, 70.0)):
        mixed = {"NAME": "Digits", "USE_RATIO": True, "SUBSAMPLE_RATIO": share}
        configuration = {"TRAINER": {"NAME": "MaPLe", "MAPLE": {}}, "DATASET": mixed}
        write(tmp_path, f"share{share}", classes="new", accuracy=accuracy, configuration=configuration)
    headers, found, notes = rows(tmp_path, capsys, "--table", "class-ratio")
    assert dict(zip(headers[1:], found["MaPLe"])) == {
        "  0 % base accuracy": "60.00",
        " 50 % base accuracy": "70.00",
    } | {"average accuracy": "65.00"}
    headers, found, notes = rows(tmp_path, capsys, "--table", "base2new")
    assert dict(zip(headers[1:], found["MaPLe"]))["Digits new"] == "60.00" and not notes
