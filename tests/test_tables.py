"""Tables come from records alone: means and spreads over seeds, harmonic means of averages, nothing in silence."""

from __future__ import annotations

import csv
import io
import json
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest

from experiments.protocols import TABLES
from experiments.store import collect
from experiments.tables import command
from experiments.tables.text import MISSING


def write(folder: Path, name: str, **changes) -> Path:
    """A record, as a run writes it."""
    record = {
        "trainer": "MaPLe",
        "recipe": "tiny",
        "backbone": "tiny",
        "dataset": "Digits",
        "classes": "base",
        "split": "test",
        "seed": 1,
        "shots": 16,
        "accuracy": 50.0,
        **dict.fromkeys(("open_world", "per_class", "train_seconds", "peak_memory_bytes")),
        "data_fingerprint": "as for all",
        "trained": False,
        "environment": {"code": "one", "torch": "2", "dassl": "upstream", "device": "cpu"},
        "configuration": {"TRAINER": {}},
        **changes,
    }
    if not record["trained"]:
        learned = {"dataset": record["dataset"], "classes": "base", "shots": 16, "seed": record["seed"]}
        record = {"trained_on": learned, **record}
    record.setdefault("trained_on", None)
    path = folder / name / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return path


def pair(folder: Path, base: float, new: float, seed: int = 1, **changes) -> None:
    """Records of a method on base and on new classes."""
    name = f"{changes.get('trainer', 'MaPLe')}-{changes.get('dataset', 'Digits')}-{seed}"
    write(folder, f"{name}-base", classes="base", accuracy=base, seed=seed, **{**changes, "trained": True})
    write(folder, f"{name}-new", classes="new", accuracy=new, seed=seed, **changes)


def open_world(base: float, new: float, accuracy: float, hm: float = 0.0) -> dict[str, float]:
    return {"base": base, "new": new, "HM": hm, "accuracy": accuracy, "openworld_auc": 10.0}


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """Of a terminal; sets another one."""
    monkeypatch.setenv("COLUMNS", "1000")
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


def printed(capsys, folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """What the command prints as tables, and as remarks."""
    assert command.main([str(folder), *arguments]) == status
    return tuple(capsys.readouterr())


def rows(folder: Path, capsys, name: str) -> tuple[list[str], dict[str, list[str]], str]:
    """Headers and rows of the only table of this name, and all that is noted, in it and after it."""
    (table,) = TABLES[name].tables(collect(folder))
    headers, lines = table.grid(str)
    return headers, {line[0]: line[1:] for line in lines}, "".join(printed(capsys, folder, "--table", name))


def test_hand_worked_means_spreads_and_harmonic_means(tmp_path, capsys):
    for seed, base, new in ((1, 90.0, 30.0), (2, 50.0, 50.0)):
        pair(tmp_path, base, new, seed)
        pair(tmp_path, base - 10, new + 10, seed, dataset="Symbols")
    headers, found, _ = rows(tmp_path, capsys, "base2new")
    cells = dict(zip(headers[1:], found["MaPLe"]))
    assert cells["Digits base"] == "70.00 ± 20.00" and cells["Digits new"] == "40.00 ± 10.00"
    assert cells["Digits HM"] == "50.91"  # of 70 and 40, not the mean of 45 and 50
    assert cells["Symbols HM"] == "54.55"  # of 60 and 50
    assert cells["average base"] == "65.00" and cells["average new"] == "45.00"
    assert cells["average HM"] == "53.18"  # of 65 and 45
    assert cells["average mean HM"] == "52.73"
    assert not any(header.startswith("published") for header in headers)  # they are of other data sets


def test_numbers_equal_an_independent_computation_from_saved_logits(run_train, tmp_path, capsys):
    options = ["TEST.SAVE_LOGITS", "True", "DATASET.SUBSAMPLE_CLASSES", "all"]
    model = run_train(folder=tmp_path / "model")
    run_train("--eval-only", "--model-dir", str(model.folder), folder=tmp_path / "r" / "all", options=options)
    saved = np.load(tmp_path / "r" / "all" / "logits.npz")
    logits, labels = saved["logits"], saved["labels"]
    is_base = labels < 5
    base = 100 * (logits[is_base][:, :5].argmax(1) == labels[is_base]).mean()
    new = 100 * (logits[~is_base][:, 5:].argmax(1) + 5 == labels[~is_base]).mean()
    headers, found, _ = rows(tmp_path / "r", capsys, "open-world")
    ((name, line),) = found.items()
    assert name.startswith("BMIP, ") and "OPTIM.MAX_EPOCH" in name  # what the run's command line changed
    cells = dict(zip(headers[1:], line))
    assert [cells[f"Digits {name}"] for name in ("base", "new", "HM", "accuracy")] == [
        f"{value:.2f}"
        for value in (base, new, statistics.harmonic_mean([base, new]), 100 * (logits.argmax(1) == labels).mean())
    ]
    record = json.loads((tmp_path / "r" / "all" / "result.json").read_text())
    assert sum(c["correct"] for c in record["per_class"]) == (logits.argmax(1) == labels).sum()
    assert [c["images"] for c in record["per_class"]] == np.bincount(labels).tolist()
    assert record["trained_on"] == {"dataset": "Digits", "classes": "base", "shots": 2, "seed": 1, "settings": {}}


def test_records_that_agree_count_once_and_those_that_disagree_are_named_and_not_averaged(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    write(tmp_path, "same", classes="new", accuracy=60.0)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"][1] == "60.00" and "2 of 3 records are used; not used: 1 there twice" in notes
    again = write(tmp_path, "copy", classes="new", accuracy=61.0)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"] == ["80.00", MISSING, MISSING]
    assert "disagree" in notes and str(again) in notes
    assert "1 of 4 records are used; not used: 3 contradictory" in notes


def test_a_seed_that_only_some_cells_have_is_noted(tmp_path, capsys):
    for seed in (1, 2, 3):
        pair(tmp_path, 80.0, 60.0, seed)
    pair(tmp_path, 70.0, 50.0, 1, trainer="VPT")
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert "note: VPT lacks Digits with seeds 2, 3:\n    python scripts/reproduce.py base2new --methods" in notes
    assert '--methods "VPT" --datasets "digits" --seeds "2 3"' in notes and "MaPLe lacks" not in notes
    assert notes.startswith("Base to new, 16 shots, small CLIP, seeds 1, 2, 3\n")
    assert list(found) == ["VPT", "MaPLe"]  # in the launcher's order
    assert "(n=1)" in found["VPT"][0] and "n=" not in found["MaPLe"][0]


def test_what_is_no_record_is_named_and_counted(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    for name in ("half", "link", "folder/result.json"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "half" / "result.json").write_text('{"trainer": "Ma')
    (tmp_path / "half" / "result.json.12.part").write_text("{")
    (tmp_path / "link" / "result.json").symlink_to(tmp_path / "nowhere")
    old = write(tmp_path, "old")
    old.write_text(json.dumps({"trainer": "MaPLe", "accuracy": 5.0}))
    write(tmp_path, "tuning", classes="new", split="val", accuracy=99.0)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    for note in (
        "half/result.json is no record",
        "result.json.12.part was not written to its end",
        "folder/result.json is no record (Is a directory)",
        "link/result.json is no record (No such file or directory)",
        f"{old}: the record: 'recipe' is a required property",
        "2 of 8 records are used; not used: 3 damaged",
        *("1 incomplete", "1 not written to the end", "1 of the val images"),
    ):
        assert note in notes
    assert found["MaPLe"][1] == "60.00"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"environment": {}}, "environment: 'code' is a required property"),
        ({"configuration": {}}, "configuration: 'TRAINER' is a required property"),
        ({"accuracy": "81"}, "accuracy: "),
        ({"accuracy": float("nan")}, "NaN is no number"),
        ({"open_world": {"base": 1.0, "new": 1.0, "HM": 1.0, "accuracy": 1.0}}, "open_world"),
        ({"trained_on": {"dataset": "Digits"}}, "trained_on"),
        ({"classes": "old"}, "classes: 'old' is not one of"),
        ({"seed": "1"}, "seed: '1' is not of type 'integer'"),
    ],
    ids=str,
)
def test_a_record_with_wrong_values_is_named_and_the_others_are_used(tmp_path, capsys, changes, words):
    pair(tmp_path, 80.0, 60.0)
    wrong = write(tmp_path, "wrong", **{"classes": "new", "seed": 2, **changes})
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"][:2] == ["80.00", "60.00"] and "2 of 3 records are used" in notes
    (line,) = [line for line in notes.splitlines() if str(wrong) in line]
    assert words in line and "run again" in line


def test_tests_on_other_images_are_named_and_not_averaged(tmp_path, capsys):
    for seed in (1, 2, 3):
        pair(tmp_path, 80.0, 60.0, seed, data_fingerprint="other" if seed == 3 else "as for all")
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"][0] == "80.00 ± 0.00" and "4 of 6 records are used; not used: 2 of other images" in notes
    assert "MaPLe-Digits-3-new/result.json" in notes and "have other images than 2 tests" in notes


def test_base_and_new_are_those_of_the_seeds_that_both_have(tmp_path, capsys):
    for seed, base in ((1, 60.0), (2, 80.0)):
        pair(tmp_path, base, 50.0, seed)
    write(tmp_path, "third", seed=3, trained=True, accuracy=100.0)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"] == ["70.00 ± 10.00", "50.00 ± 0.00", "58.33"]
    assert "MaPLe: base of Digits with seed 3 is not used, because new is missing" in notes


def test_rows_without_a_column_show_the_seeds_they_have_and_are_compared_with_rows_of_the_same_seeds(tmp_path, capsys):
    for trainer, base in (("CoOp", 80.0), ("MaPLe", 78.0), ("BMIP", 90.0)):
        for seed in (1, 2):
            write(tmp_path, f"{trainer}{seed}", trainer=trainer, seed=seed, trained=True, accuracy=base + seed)
    for trainer, new in (("BMIP", 60.0), ("ZeroshotCLIP", 70.0)):
        write(tmp_path, f"{trainer}-new", trainer=trainer, classes="new", accuracy=new)
    write(tmp_path, "plain", trainer="ZeroshotCLIP", accuracy=40.0)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert notes.startswith("Base to new, 16 shots, small CLIP, seeds 1, 2\n")
    (table,) = TABLES["base2new"].tables(collect(tmp_path))
    assert {line[0]: line[1:] for line in table.grid("{}*".format)[1]} == {
        "ZeroshotCLIP": ["40.00 (n=1)", "70.00* (n=1)", "50.91"],
        "CoOp": ["81.50* ± 0.50", MISSING, MISSING],
        "MaPLe": ["79.50 ± 0.50", MISSING, MISSING],
        "BMIP": ["91.00 (n=1)", "60.00 (n=1)", "72.32*"],
    }
    reproduce = "\n    python scripts/reproduce.py base2new --methods"
    for note in (
        f'CoOp; MaPLe lack new of Digits with seeds 1, 2:{reproduce} "CoOp MaPLe" --datasets "digits" --seeds "1 2"\n',
        f'ZeroshotCLIP lacks Digits with seed 2:{reproduce} "ZeroshotCLIP" --datasets "digits" --seeds "2"\n',
        f'BMIP lacks new of Digits with seed 2:{reproduce} "BMIP" --datasets "digits" --seeds "2"\n',
        "note: BMIP: base of Digits with seed 2 is not used, because new is missing\n",
        "note: a column's best mean is marked among rows of the same seeds\n",
    ):
        assert note in notes, notes
    lines = csv.DictReader(io.StringIO(printed(capsys, tmp_path, "--format", "csv")[0]))
    seeds = {(line["method"], line["column"]): line["seeds"] for line in lines}
    assert seeds["CoOp", "base"] == "2" and seeds["BMIP", "base"] == "1" and seeds["CoOp", "new"] == ""


def test_base_and_new_of_different_seeds_are_both_named(tmp_path, capsys):
    write(tmp_path, "base", trained=True)
    write(tmp_path, "new", classes="new", seed=2)
    _, found, notes = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"] == [MISSING] * 3
    assert "MaPLe lacks new of Digits with seed 1; base of Digits with seed 2:\n" in notes
    assert "base of Digits with seed 1 is not used, because new is missing" in notes
    assert "new of Digits with seed 2 is not used, because base is missing" in notes


def test_seed_and_shots_are_those_of_the_training(tmp_path, capsys):
    learned = {"dataset": "Digits", "classes": "base", "shots": 1, "seed": 5, "settings": {"OPTIM.LR": 0.5}}
    write(tmp_path, "few", classes="all", trained_on=learned, open_world=open_world(80.0, 60.0, 50.0))
    headers, found, _ = rows(tmp_path, capsys, "open-world")
    assert list(found) == ["MaPLe, OPTIM.LR 0.5"]  # of the training too
    (table,) = TABLES["open-world"].tables(collect(tmp_path))
    assert table.title == "Open world, 1 shot" and table.seeds == {5}


def test_what_this_project_writes_is_read_with_the_other_settings_of_the_training(run_train, tmp_path):
    model = run_train(folder=tmp_path / "r" / "model", options=["OPTIM.LR", "0.0123"])
    everything = ["DATASET.SUBSAMPLE_CLASSES", "all"]
    tested = run_train("--eval-only", "--model-dir", str(model.folder), folder=tmp_path / "r/all", options=everything)
    assert tested.result["configuration"]["OPTIM"]["LR"] != 0.0123
    found = collect(tmp_path / "r")
    assert len(found.records) == 2 and not found.notes
    assert all("OPTIM.LR 0.0123" in one.method and "SUBSAMPLE_CLASSES" not in one.method for one in found.records)
    assert found.records[0].command.startswith("python train.py --seed 1 --trainer BMIP")


MAPLE = "vit_b16_c2_ep5_batch4_2ctx"
VIT, COPROMPT = {"recipe": MAPLE, "backbone": "ViT-B/16"}, {"trainer": "CoPrompt", "backbone": "ViT-B/16"}


def configured(trainer: str, node: dict | None = None, **others) -> dict:
    return {"trainer": trainer, "configuration": {"TRAINER": node or {}, **others}}


def mixed(trainer: str, share: int) -> dict:
    """Of a test in which so many per cent of the classes are base classes."""
    return configured(trainer, DATASET={"USE_RATIO": True, "SUBSAMPLE_RATIO": share})


# Changes of records, and their rows.
ROWS = {
    "a file for one data set": (
        [
            {**COPROMPT, "recipe": "coprompt_eurosat", "dataset": "EuroSAT"},
            {**COPROMPT, "recipe": "coprompt", "dataset": "OxfordPets"},
        ],
        ["CoPrompt"],
    ),
    "recorded method": ([{"recipe": "mine", "method": "LanguagePrompting", "variant": ""}], ["LanguagePrompting"]),
    "recorded variant": ([{"method": "BMIP", "variant": "relative_gate"}], ["BMIP, relative gate"]),
    "two configuration files": (
        [VIT, {**VIT, "recipe": f"{MAPLE}_cross_datasets"}],
        [f"MaPLe [{MAPLE}]", f"MaPLe [{MAPLE}_cross_datasets]"],
    ),
    "another backbone": (
        [VIT, {**VIT, "backbone": "ViT-B/32", **configured("MaPLe", MODEL={"BACKBONE": {"NAME": "ViT-B/32"}})}],
        ["MaPLe", "MaPLe, MODEL.BACKBONE.NAME ViT-B/32"],
    ),
    "path of the usual backbone": ([{**VIT, "backbone": "/weights/ViT-B-16.pt"}], ["MaPLe"]),
    "given weights": ([{}, {"trained_on": None, "trained": False}], ["MaPLe", "MaPLe, given weights"]),
    "other settings": (
        [configured("BMIP", node={"BMIP": {"AGGREGATION": name}}) for name in ("bmip", "addition")],
        ["BMIP", "BMIP, TRAINER.BMIP.AGGREGATION addition"],
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_are_methods_with_their_differences(tmp_path, capsys, case):
    records, names = ROWS[case]
    for number, changes in enumerate(records):
        write(tmp_path, f"{number}/base", **{"accuracy": 80.0 - number, "trained": True, **changes})
        write(tmp_path, f"{number}/new", **{"classes": "new", **changes, "trained": False})
    found = rows(tmp_path, capsys, "base2new")[1]
    assert [name for name, cells in found.items() if cells[0] != MISSING] == names


def test_published_averages_stand_beside_those_of_the_published_data_sets_and_shots(tmp_path, capsys):
    more = {"dataset": "EuroSAT", "recipe": "vit_b16_c2_ep10_batch4_2ctx", "backbone": "ViT-B/16", "trainer": "BMIP"}
    pair(tmp_path, 80.0, 60.0, **more)
    pair(tmp_path, 80.0, 60.0, **{**more, "dataset": "OxfordPets"})
    headers, found, notes = rows(tmp_path, capsys, "base2new")
    cells = dict(zip(headers[1:], found["BMIP"]))
    assert cells["published HM (11 sets)"] == "79.04" and "79.94" in notes
    assert "average of 2/11 base" in headers
    assert found["LASP"][:3] == [MISSING] * 3 and "LASP lacks" not in notes
    learned = {"dataset": "EuroSAT", "classes": "base", "shots": 1, "seed": 1}
    pair(tmp_path / "few", 70.0, 50.0, **more, shots=1, trained_on=learned)
    assert not any(table.compares for table in TABLES["base2new"].tables(collect(tmp_path / "few")))


def test_records_of_several_versions_of_the_code_are_noted(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0, 1)
    pair(tmp_path, 80.0, 60.0, 2, environment={"code": "two", "torch": "2", "dassl": "upstream", "device": "cpu"})
    assert "2 versions of the code (one: MaPLe; two: MaPLe)" in rows(tmp_path, capsys, "base2new")[2]


def test_models_of_all_classes_fill_the_transfer_and_few_shot_tables(tmp_path, capsys):
    everything = {"dataset": "Symbols", "classes": "all", "shots": 4, "seed": 1}
    write(tmp_path, "model", dataset="Symbols", classes="all", shots=4, trained=True, trained_on=None, accuracy=70.0)
    write(tmp_path, "digits", classes="all", trained_on=everything, accuracy=40.0)
    write(tmp_path, "sketch", dataset="SymbolsSketch", classes="all", trained_on=everything, accuracy=60.0)
    headers, found, _ = rows(tmp_path, capsys, "cross-dataset")
    assert dict(zip(headers[1:], found["MaPLe"])) == {"Symbols accuracy": "70.00", "Digits accuracy": "40.00"}
    write(tmp_path, "noise", dataset="SymbolsNoise", classes="all", trained_on=everything, accuracy=50.0)
    headers, found, _ = rows(tmp_path, capsys, "domains")
    assert dict(zip(headers[1:], found["MaPLe"])) == {
        "Symbols accuracy": "70.00",
        "SymbolsNoise accuracy": "50.00",
        "SymbolsSketch accuracy": "60.00",
        "average accuracy": "55.00",  # of the targets alone
    }
    headers, found, _ = rows(tmp_path, capsys, "few-shot")
    assert headers == ["method", "4 shots accuracy"] and found["MaPLe"] == ["70.00"]


@pytest.mark.parametrize(
    "style, bold, pieces",
    [
        ("text", "90.00*", ["----"]),
        ("markdown", "**90.00**", ["### Among as many classes of Digits, 16 shots", "|---"]),
        ("latex", r"\textbf{90.00}", [r"\toprule", r"\midrule", r"\bottomrule", r"50 \% base accuracy"]),
    ],
)
def test_the_best_of_a_column_is_marked_in_every_format(tmp_path, capsys, style, bold, pieces):
    for trainer, accuracy in (("MaPLe", 80.0), ("VPT", 90.0)):
        write(tmp_path, trainer, classes="new", accuracy=accuracy, **mixed(trainer, 50))
    assert command.main([str(tmp_path), "--table", "class-ratio", "--format", style]) == 0
    printed = capsys.readouterr().out
    assert bold in printed and all(piece in printed for piece in pieces)
    assert bold.replace("90", "80") not in printed
    if style == "latex":  # no character that ends a line
        (header,) = [line for line in printed.splitlines() if line.strip().startswith("method")]
        assert header.count("%") == header.count(r"\%") == 1


FIGURES = {"auroc": 80.0, "auroc_msp": 70.0, "ece_base": 4.0, "ece_new": 6.0, "ece_all": 9.0}


def test_calibration_is_shown_beside_openworld_auc_and_less_of_its_errors_is_better(tmp_path, capsys):
    world = open_world(80.0, 60.0, 50.0)
    write(tmp_path, "maple", classes="all", open_world={**world, **FIGURES})
    write(
        tmp_path, "vpt", trainer="VPT", classes="all", open_world={**world, **FIGURES, "ece_all": 8.0, "auroc": 81.0}
    )
    headers, found, _ = rows(tmp_path, capsys, "calibration")
    assert headers[1:] == [f"Digits {name}" for name in ("OpenworldAUC", "AUROC", "ECE base", "ECE new", "ECE all")]
    assert found["MaPLe"] == ["10.00", "80.00", "4.00", "6.00", "9.00"]
    shown, _ = printed(capsys, tmp_path, "--table", "calibration")
    assert "81.00*" in shown and "8.00*" in shown and "80.00*" not in shown


def test_records_of_before_calibration_are_read_without_it(tmp_path, capsys):
    write(tmp_path, "old", classes="all", open_world=open_world(80.0, 60.0, 50.0))
    _, found, _ = rows(tmp_path, capsys, "open-world")
    assert found["MaPLe"][0] == "80.00"
    assert "older than these figures" in printed(capsys, tmp_path, "--table", "calibration", status=1)[1]
    new = {**open_world(70.0, 60.0, 50.0), **FIGURES}
    write(tmp_path, "new", trainer="VPT", classes="all", open_world=new)
    assert list(rows(tmp_path, capsys, "calibration")[1]) == ["VPT"]
    assert list(rows(tmp_path, capsys, "open-world")[1]) == ["VPT", "MaPLe"]


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    assert command.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_variants_are_compared_with_bmip_seed_by_seed(tmp_path, capsys):
    numbers = {"tiny": {1: 50.0, 2: 60.0, 3: 70.0}, "tiny_addition": {1: 52.0, 2: 63.0, 3: 74.0, 9: 0.0}}
    for recipe, seeds in numbers.items():
        for seed, value in seeds.items():
            named = {"trainer": "BMIP", "recipe": recipe, "seed": seed, "classes": "all"}
            write(tmp_path, f"{recipe}-{seed}", **named, open_world=open_world(80.0, 70.0, 40.0, value))
    headers, found, _ = rows(tmp_path, capsys, "paired")
    cells = dict(zip(headers[1:], found["BMIP, addition"]))
    assert cells["seeds"] == "3" and cells["HM"] == "+3.00 ± 1.00" and cells["base"] == "+0.00 ± 0.00"
    # t = 3 / (1 / sqrt(3)) with two degrees of freedom
    assert cells["p (HM)"] == "0.035" and cells["p (accuracy)"] == MISSING


def test_all_rows_are_compared_with_the_method_that_is_asked_for_zero_shot_clip_included(tmp_path, capsys):
    for trainer, values in {"BMIP": (50.0, 60.0), "MaPLe": (48.0, 61.0), "ZeroshotCLIP": (40.0, 40.0)}.items():
        for seed, value in enumerate(values, 1):
            learned = {"trained_on": None} if trainer == "ZeroshotCLIP" else {}
            named = {"trainer": trainer, "recipe": "tiny", "seed": seed, "classes": "all", **learned}
            write(tmp_path, f"{trainer}-{seed}", **named, open_world=open_world(80.0, 70.0, 40.0, value))

    def compared(method: str) -> dict[str, str]:
        words = ["--table", "paired", "--against", method, "--format", "csv"]
        assert command.main([str(tmp_path), *words]) == 0
        lines = csv.DictReader(io.StringIO(capsys.readouterr().out))
        return {line["method"]: (line["group"], line["mean"]) for line in lines if line["column"] == "HM"}

    zeroshot = "against ZeroshotCLIP"
    assert compared("ZeroshotCLIP") == {"BMIP": (zeroshot, "15.0000"), "MaPLe": (zeroshot, "14.5000")}
    assert compared("MaPLe")["BMIP"] == ("against MaPLe", "0.5000")
    assert command.main([str(tmp_path), "--table", "paired", "--against", "MaPle"]) == 2
    assert "Do you mean MaPLe" in capsys.readouterr().err


def test_each_objective_is_compared_with_the_same_prompts_and_costs_are_best_where_they_are_least(tmp_path, capsys):
    for recipe, value, seconds in (("tiny", 50.0, 8.0), ("tiny_consistency", 56.0, 12.0)):
        for seed in (1, 2):
            named = {"trainer": "IVLP", "recipe": recipe, "seed": seed}
            costs = {"train_seconds": seconds + seed, "peak_memory_bytes": 2**30}
            write(tmp_path, f"{recipe}-{seed}", **named, classes="base", trained=True, **costs)
            numbers = open_world(80.0, 60.0, value, value + seed * value / 50)
            write(tmp_path, f"{recipe}-{seed}-all", **named, classes="all", open_world=numbers)
    headers, found, _ = rows(tmp_path, capsys, "combinations")
    cells = dict(zip(headers[1:], found["IVLP, consistency"]))
    assert cells["Digits accuracy"] == "56.00 ± 0.00" and cells["Digits train s"] == "13.50 ± 0.50"
    assert cells["Digits HM"] == "68.57" and cells["Digits peak GiB"] == "1.00 ± 0.00"
    assert command.main([str(tmp_path), "--table", "combinations"]) == 0
    printed = capsys.readouterr().out
    assert "9.50* ± 0.50" in printed and "56.00* ± 0.00" in printed and "13.50*" not in printed
    headers, found, _ = rows(tmp_path, capsys, "paired")
    cells = dict(zip(headers[1:], found["IVLP, consistency"]))
    assert cells["against"] == "IVLP" and cells["HM"].startswith("+6.18") and cells["seeds"] == "2"


def test_tests_with_a_share_of_base_classes_stand_in_their_own_table(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0)
    for share, accuracy in ((0, 60.0), (50, 70.0)):
        write(tmp_path, f"share{share}", classes="new", accuracy=accuracy, **mixed("MaPLe", share))
    headers, found, _ = rows(tmp_path, capsys, "class-ratio")
    assert dict(zip(headers[1:], found["MaPLe"])) == {"0 % base accuracy": "60.00", "50 % base accuracy": "70.00"}
    headers, found, notes = rows(tmp_path, capsys, "base2new")
    assert dict(zip(headers[1:], found["MaPLe"]))["Digits new"] == "60.00" and "note" not in notes


def test_bmips_variants_have_tables_of_their_own(tmp_path, capsys):
    for place, recipe in enumerate(("tiny", "tiny_addition", "tiny_depth2", "tiny_length4")):
        named = {"trainer": "BMIP", "recipe": recipe, "classes": "all"}
        write(tmp_path, recipe, **named, open_world=open_world(80.0 + place, 60.0, 50.0))
    assert list(rows(tmp_path, capsys, "open-world")[1]) == ["BMIP"]
    for name, addition in (("ablation", "addition"), ("depth", "depth2"), ("length", "length4")):
        assert list(rows(tmp_path, capsys, name)[1]) == ["BMIP", f"BMIP, {addition}"]


def test_few_shot_accuracies_are_averaged_over_data_sets_with_the_seeds_that_all_have(tmp_path):
    for dataset, seed, accuracy in (("Digits", 1, 40.0), ("Digits", 2, 60.0), ("Symbols", 1, 80.0)):
        named = {"dataset": dataset, "seed": seed, "classes": "all", "shots": 4, "trained": True}
        write(tmp_path, f"{dataset}{seed}", **named, accuracy=accuracy)
        if dataset == "Digits":
            write(tmp_path, f"VPT{seed}", **named, trainer="VPT", accuracy=accuracy)
    *single, average = TABLES["few-shot"].tables(collect(tmp_path))
    assert [table.title for table in single] == ["All classes of Digits", "All classes of Symbols"]
    assert average.title == "All classes, average over Digits, Symbols"
    assert average.grid(str)[1] == [["MaPLe", "60.00"]]  # VPT has one of them


def test_csv_has_one_line_for_each_number(tmp_path, capsys):
    for seed, base in ((1, 60.0), (2, 80.0)):
        pair(tmp_path, base, 50.0, seed)
    assert command.main([str(tmp_path), "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {tuple(line) for line in lines} == {command.CSV_COLUMNS}
    (base,) = [line for line in lines if line["column"] == "base"]
    assert base == {
        **{"table": "Base to new, 16 shots, small CLIP", "method": "MaPLe", "group": "Digits", "column": "base"},
        **{"mean": "70.0000", "std": "10.0000", "seeds": "2", "p": ""},
    }


def test_a_tagged_experiment_has_a_row_of_its_own(tmp_path, capsys):
    pair(tmp_path / "plain", 80.0, 60.0)
    pair(tmp_path / "tagged", 70.0, 50.0, tag="high_rate")
    _, found, _ = rows(tmp_path, capsys, "base2new")
    assert found["MaPLe"][0] == "80.00" and found["MaPLe, high_rate"][0] == "70.00"


MANY = {"ZeroshotCLIP": "vit_b16", "CoOp": "vit_b16_ep50_ctxv1", "MaPLe": MAPLE, "BMIP": "vit_b16_c2_ep10_batch4_2ctx"}


def many(folder: Path, datasets: tuple[str, ...] = ("EuroSAT", "OxfordPets", "UCF101"), **changes) -> None:
    """Records of several methods and seeds on real data sets, on base, new and all classes."""
    for place, (trainer, recipe) in enumerate(MANY.items()):
        for dataset in datasets:
            for seed in (1, 2):
                named = {"trainer": trainer, "recipe": recipe, "backbone": "ViT-B/16", "dataset": dataset, **changes}
                path = folder / dataset / trainer
                pair(path, 80.0 + place + seed, 60.0 + place, seed, **named)
                write(path, f"{seed}-all", classes="all", seed=seed, **named, open_world=open_world(80.0, 60.0, 50.0))


def titles(folder: Path, name: str = "base2new") -> dict[str, list[str]]:
    """The groups of each table."""
    return {table.heading: table.groups for table in TABLES[name].tables(collect(folder))}


def test_built_in_data_the_small_clip_and_other_shots_have_tables_of_their_own(tmp_path):
    many(tmp_path / "real")
    pair(tmp_path / "built_in", 90.0, 70.0)
    learned = {"dataset": "EuroSAT", "classes": "base", "shots": 4, "seed": 1}
    few = {"dataset": "EuroSAT", "recipe": MAPLE, "backbone": "ViT-B/16", "shots": 4, "trained_on": learned}
    pair(tmp_path / "few", 70.0, 50.0, **few)
    pair(tmp_path / "own", 60.0, 40.0, recipe=MAPLE, backbone="ViT-B/16", dataset="ImageFolder")
    assert titles(tmp_path) == {
        "Base to new, 16 shots, ViT-B/16, ImageFolder, seed 1": ["ImageFolder"],
        "Base to new, 16 shots, ViT-B/16, OxfordPets, EuroSAT, UCF101, seeds 1, 2": [
            "OxfordPets",
            "EuroSAT",
            "UCF101",
        ],
        "Base to new, 16 shots, small CLIP, seed 1": ["Digits"],
        "Base to new, 4 shots, ViT-B/16, seed 1": ["EuroSAT"],
    }


def test_an_experiment_on_one_data_set_stands_beside_the_others_there_and_takes_no_average_away(tmp_path):
    many(tmp_path / "plain")
    pair(tmp_path / "tagged", 70.0, 50.0, 1, recipe=MAPLE, backbone="ViT-B/16", dataset="EuroSAT", tag="high_rate")
    everything, one = TABLES["base2new"].tables(collect(tmp_path))
    assert everything.rows[:4] == [*MANY] and everything.averaged == ["OxfordPets", "EuroSAT", "UCF101"]
    assert one.rows == [*MANY, "MaPLe, high_rate"] and one.groups == ["EuroSAT"] and not one.compares


def test_averages_are_over_the_data_sets_that_all_rows_have(tmp_path, capsys):
    many(tmp_path)
    named = {"trainer": "VPT", "recipe": "vit_b16_c2_ep5_batch4_4", "backbone": "ViT-B/16"}
    pair(tmp_path, 10.0, 10.0, **named, dataset="EuroSAT")
    pair(tmp_path, 20.0, 20.0, **named, dataset="UCF101")
    headers, found, notes = rows(tmp_path, capsys, "base2new")
    cells = dict(zip(headers[1:], found["VPT"]))
    assert cells["OxfordPets base"] == MISSING and cells["average of 2/11 base"] == "15.00"
    assert "averages are over EuroSAT, UCF101, which all rows have" in notes


@pytest.mark.parametrize(
    "arguments",
    [
        ["--methods", "MaPLe BMIP", "--datasets", "eurosat ucf101", "--seeds", "2"],
        ["--methods", "BMIP,MaPLe", "--datasets", "EuroSAT, UCF101", "--seeds", "2,2", "--protocols", "base2new"],
    ],
)
def test_tables_are_of_what_is_asked_for_and_notes_too(tmp_path, capsys, arguments):
    many(tmp_path)
    for trainer, dataset in (("CoOp", "EuroSAT"), ("MaPLe", "OxfordPets")):
        named = {"recipe": MANY[trainer], "backbone": "ViT-B/16", "classes": "new", "dataset": dataset}
        write(tmp_path, f"contradicts-{trainer}", trainer=trainer, **named, accuracy=1.0)
    other = {"recipe": MANY["CoOp"], "backbone": "ViT-B/16", "dataset": "OxfordPets", "data_fingerprint": "other"}
    write(tmp_path, "other", trainer="CoOp", **other)
    (tmp_path / "dtd").mkdir()
    (tmp_path / "dtd" / "result.json").write_text("{")
    (tmp_path / "oxford_pets" / "seed2").mkdir(parents=True)
    (tmp_path / "oxford_pets" / "seed2" / "settings.yaml").touch()
    out, errors = printed(capsys, tmp_path, "--table", "base2new", *arguments)
    assert out.startswith("Base to new, 16 shots, ViT-B/16, seed 2\n")
    names = [line.split("  ")[0] for line in out.splitlines()[4:6]]
    assert names == ["MaPLe", "BMIP"] and "ProDA" not in out and "OxfordPets" not in out
    command = 'reproduce.py base2new --methods "MaPLe BMIP" --datasets "eurosat ucf101" --seeds "2"'
    assert f"\nfilled by:\n    python scripts/{command}\n" in out
    assert errors == "12 of 76 records are used; not used: 64 not asked for\n"
    assert "disagree" in printed(capsys, tmp_path, "--datasets", "eurosat")[1]
    errors = printed(capsys, tmp_path)[1]
    assert "dtd/result.json is no record" in errors and "have other images than" in errors
    assert printed(capsys, tmp_path, "--table", "domains", "--protocols", "base2new", status=2)[1].startswith("error")


def test_a_protocol_is_that_of_the_launcher_or_a_table(tmp_path, capsys):
    many(tmp_path)
    only = {
        name: printed(capsys, tmp_path, "--protocols", name)[0] for name in ("open_world", "open-world", "base2new")
    }
    assert only["open_world"] == only["open-world"] and only["open_world"].startswith("Open world")
    assert "Base to new" not in only["open_world"] and "Open world" not in only["base2new"]
    assert printed(capsys, tmp_path, "--table", "open_world,base2new")[0] == only["base2new"] + only["open_world"]


@pytest.mark.parametrize(
    "flag, name, meant",
    [
        ("--methods", "MaPle", "MaPLe"),
        ("--methods", "BMIP:adition", "addition"),
        ("--datasets", "eurosta", "eurosat"),
        ("--seeds", "one", "whole numbers"),
        ("--protocols", "open_wrld", "open-world"),
        ("--table", "base2nw", "base2new"),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_nearest(tmp_path, capsys, flag, name, meant):
    many(tmp_path)
    out, errors = printed(capsys, tmp_path, flag, name, status=2)
    assert not out and name in errors and meant in errors


def test_a_folder_after_the_names_of_tables_is_told_to_come_first(tmp_path, capsys):
    assert command.main(["--table", "open-world", str(tmp_path)]) == 2
    assert (
        f"{str(tmp_path)!r}, which is a folder; put it first: tables.py {tmp_path} --table" in capsys.readouterr().err
    )


def test_paired_differences_name_what_they_lack_and_a_table_of_variants(tmp_path, capsys):
    many(tmp_path)
    errors = printed(capsys, tmp_path, "--table", "paired", status=1)[1]
    assert (
        "note: the table paired is empty: no variant has two seeds in common with its method; to fill it (" in errors
    )
    assert "\n    python scripts/reproduce.py ablation\n" in errors


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            [],
            [
                "There is no record of a test below",
                "note: to fill a table, such as base2new (--dry-run lists the runs",
            ],
        ),
        (["--table", "domains"], ["note: the table domains is empty; to fill it (", "scripts/reproduce.py domains\n"]),
        (
            ["--datasets", "dtd", "--methods", "BMIP:addition", "--seeds", "7"],
            ["is asked for; there are", '--methods "BMIP CoOp MaPLe ZeroshotCLIP"', '--seeds "1 2"']
            + ['python scripts/reproduce.py base2new --methods "BMIP:addition" --datasets "dtd" --seeds "7"'],
        ),
        (["--table", "cross-dataset", "--datasets", "eurosat"], ["none of 24 records is about models trained on one"]),
    ],
)
def test_an_empty_table_says_why_and_what_fills_it(tmp_path, capsys, arguments, words):
    if arguments[:2] not in ([], ["--table", "domains"]):
        many(tmp_path)
    out, errors = printed(capsys, tmp_path, *arguments, status=1)
    assert not out and all(word in errors for word in words), errors


def test_unfinished_runs_and_missing_folders_are_named(tmp_path, capsys, width):
    for name, words in (
        ("model", "1 run has not finished ({}); its command goes"),
        ("more", "2 runs have not finished"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.yaml").touch()
        assert f"note: {words.format(tmp_path / 'model')}" in printed(capsys, tmp_path, status=1)[1]
    width(80)
    lines = printed(capsys, tmp_path, status=1)[1].splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert f"There is no folder {tmp_path}/modle" in printed(capsys, tmp_path / "modle", status=2)[1]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_that_is_wider_than_the_terminal_has_a_part_for_each_data_set(tmp_path, capsys, width, columns):
    many(tmp_path)
    learned = {"dataset": "ImageNet", "classes": "all", "shots": 16, "seed": 1}
    for dataset in ("Caltech101", "OxfordPets", "StanfordCars", "DescribableTextures", "EuroSAT", "UCF101"):
        named = {"recipe": MAPLE, "backbone": "ViT-B/16", "classes": "all", "trained_on": learned}
        write(tmp_path, f"{dataset}-target", dataset=dataset, **named)
    width(columns)
    out = printed(capsys, tmp_path)[0]
    lines = [line for line in out.splitlines() if not line.startswith("    python ")]
    assert max(map(len, lines)) <= columns
    start, end = lines.index("EuroSAT"), lines.index("UCF101")
    assert lines[start + 1].split()[:4] == ["method", "base", "new", "HM"] and lines[start + 3].startswith(
        "ZeroshotCLIP"
    )
    assert start < end < lines.index("average of 3/11")
    width(1000)
    assert "EuroSAT base   EuroSAT new" in printed(capsys, tmp_path)[0]
    assert "| EuroSAT base" in printed(capsys, tmp_path, "--format", "markdown")[0]


def test_equal_printed_numbers_are_equally_good_and_fewer_seeds_follow_the_name(tmp_path, capsys, width):
    pair(tmp_path, 80.001, 60.0)
    pair(tmp_path, 79.999, 60.0, trainer="VPT")
    for seed in (1, 2):
        pair(tmp_path, 70.0, 50.0, seed, trainer="CoOp")
    width(44)
    lines = printed(capsys, tmp_path)[0].splitlines()
    assert [" ".join(line.split()) for line in lines if line.startswith(("CoOp", "VPT ", "MaPLe "))] == [
        "CoOp 70.00±0.00 50.00±0.00 58.33",
        "VPT (n=1) 80.00* 60.00* 68.57*",
        "MaPLe (n=1) 80.00* 60.00* 68.57*",
    ]


def test_names_of_records_are_words_of_the_printed_commands(tmp_path, capsys):
    evil = "$(touch x) `touch x`"
    pair(tmp_path, 70.0, 50.0, tag=evil)
    lines = [line for line in printed(capsys, tmp_path)[0].splitlines() if line.startswith("    python ")]
    assert lines and all(evil in shlex.split(line) for line in lines if "touch" in line) and "touch" in "".join(lines)


def test_a_table_names_the_commands_that_filled_it(tmp_path, capsys):
    pair(tmp_path / "plain", 80.0, 60.0)
    pair(tmp_path / "tagged", 70.0, 50.0, tag="high_rate")
    for seed in (1, 2):
        few = {"seed": seed, "shots": 4, "classes": "all", "tag": "few"}
        learned = {"dataset": "Digits", "classes": "base", "shots": 4, "seed": seed}
        write(tmp_path, f"few{seed}", **few, trained_on=learned, open_world=open_world(80.0, 60.0, 50.0))
    foreign = {"trained_on": None, "open_world": open_world(80.0, 60.0, 50.0), "classes": "all", "seed": 3}
    write(tmp_path, "given", **foreign, trainer="VPT")
    commands = [line.strip() for line in printed(capsys, tmp_path)[0].splitlines() if line.startswith("    python")]
    assert commands == [
        'python scripts/reproduce.py base2new --methods "MaPLe" --datasets "digits" --seeds "1"',
        "python scripts/launch.py base2new MaPLe digits 1 --tag high_rate",
        'python scripts/compare.py "digits" "1 2" "MaPLe" --shots 4 --tag few',
    ]


def test_few_shot_averages_leave_out_data_sets_of_fewer_shots_and_other_families(tmp_path):
    for dataset, several in (
        ("EuroSAT", (1, 4, 16)),
        ("UCF101", (1, 4, 16)),
        ("ImageNet", (16,)),
        ("Digits", (1, 4, 16)),
    ):
        for shots in several:
            named = {"backbone": "tiny" if dataset == "Digits" else "ViT-B/16", "classes": "all", "trained": True}
            write(tmp_path, f"{dataset}{shots}", **named, dataset=dataset, shots=shots, recipe=MAPLE)
    average = [title for title in titles(tmp_path, "few-shot") if "average" in title]
    assert average == ["All classes, average over EuroSAT, UCF101, ViT-B/16, seed 1"]


def test_objectives_have_a_table_where_there_are_several(tmp_path):
    many(tmp_path)
    for trainer, recipe in MANY.items():
        named = {"recipe": recipe, "backbone": "ViT-B/16", "dataset": "DescribableTextures", "train_seconds": 9.0}
        write(tmp_path, f"trained-{trainer}", trainer=trainer, **named, trained=True)
        numbers = open_world(80.0, 60.0, 50.0)
        write(tmp_path, f"tested-{trainer}", trainer=trainer, **named, classes="all", open_world=numbers)
    assert not titles(tmp_path, "combinations")
