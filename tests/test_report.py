"""The report is one page that needs nothing else, made of records; pictures of a model come from its checkpoint."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from test_tables import open_world, write

from experiments import report
from experiments.methods import METHODS
from experiments.store import collect
from experiments.tables.results import OPEN_WORLD


@pytest.fixture
def results(run_train, tmp_path) -> Path:
    """Records of BMIP and of zero-shot CLIP on all classes, and of training with two numbers of shots."""
    folder = tmp_path / "output"
    everything = ["DATASET.SUBSAMPLE_CLASSES", "all"]
    model = run_train(folder=folder / "base")
    run_train("--eval-only", "--model-dir", str(model.folder), folder=folder / "all", options=everything)
    run_train("--eval-only", trainer="ZeroshotCLIP", folder=folder / "plain", options=everything)
    for shots in (1, 2):
        few = {"dataset": "Symbols", "classes": "all", "shots": shots, "trained": True}
        write(folder, f"few{shots}", **few, accuracy=40.0 + shots)
    return folder


def test_the_page_holds_tables_and_pictures_and_refers_to_nothing_outside(results, tmp_path, capsys):
    page = tmp_path / "pages" / "report.html"
    assert report.main([str(results), "--output", str(page)]) == 0
    text = page.read_text()
    images = re.findall(r'<img alt="[^"]+" src="data:image/png;base64,[A-Za-z0-9+/=]+">', text)
    names = {path.stem for path in page.with_suffix("").glob("*.png")}
    for start in ("accuracy_Digits_2_shots", "few_shot_Symbols", "gains_BMIP", "gates_BMIP", "gates_training_BMIP"):
        assert any(name.startswith(start) for name in names), start
    assert {path.stem for path in page.with_suffix("").glob("*.svg")} == names and len(images) == len(names)
    assert f"{len(names)} pictures" in capsys.readouterr().out
    assert not re.search(r'(src|href)="(?!data:)', text) and "\\n" not in text
    pieces = ["Open world, 2 shots", "All classes of Symbols", "<b>", "PROMPT_DEPTH: 3", "built-in stand-in"]
    pieces += ["name=viewport", "python scripts/reproduce.py few-shot", "python train.py --seed 1", "records are used"]
    assert all(piece in text for piece in pieces)


def test_the_page_is_of_what_is_asked_for_with_the_commands_that_make_it(tmp_path, capsys):
    for trainer in ("MaPLe", "VPT"):
        for dataset in ("Digits", "Symbols"):
            few = {"dataset": dataset, "classes": "all", "shots": 4, "trained": True, "accuracy": 40.0}
            write(tmp_path / "output", f"{trainer}-{dataset}", trainer=trainer, **few)
    page = tmp_path / "report.html"
    arguments = [str(tmp_path / "output"), "--output", str(page)]
    assert report.main([*arguments, "--methods", "VPT", "--datasets", "digits", "--protocols", "few_shot"]) == 0
    text = html.unescape(page.read_text())
    command = f'report.py {tmp_path}/output --methods "VPT" --datasets "digits" --protocols "few-shot" --output {page}'
    assert command in text and 'reproduce.py few-shot --methods "VPT" --datasets "digits" --seeds "1"' in text
    assert "<h3 id=table0>All classes of Digits, small CLIP, seed 1</h3>" in text and "<a href=#table0>All" in text
    assert "MaPLe" not in text and "Symbols" not in text
    assert report.main([*arguments, "--datasets", "eurosat"]) == 1
    assert "None of the 4 records" in capsys.readouterr().err
    assert report.main([*arguments, "--datasets", "digitz"]) == 2
    assert "Do you mean digits?" in capsys.readouterr().err


def test_the_page_is_among_the_results_where_no_other_place_is_asked_for(tmp_path, capsys, monkeypatch):
    write(tmp_path / "results", "few", classes="all", trained=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert report.main(["../results"]) == 0
    assert (tmp_path / "results" / "report.html").is_file() and not list(Path.cwd().iterdir())
    with pytest.raises(SystemExit):
        report.main(["--help"])
    assert "default: report.html in RESULTS" in " ".join(capsys.readouterr().out.split())


def test_captions_say_over_how_many_seeds_a_mean_is(tmp_path):
    classes = [{"name": name, "images": 2, "correct": 1} for name in ("one", "two")]
    for trainer, seeds in (("BMIP", (1, 2)), ("ZeroshotCLIP", (1,))):
        for seed in seeds:
            named = {"trainer": trainer, "seed": seed, "per_class": classes}
            numbers = open_world(80.0, 60.0, 50.0)
            write(tmp_path, f"{trainer}{seed}", **named, classes="all", open_world=numbers)
            for shots in (1, 4) if trainer == "BMIP" else ():
                few = {"classes": "all", "shots": shots, "trained": True}
                write(tmp_path, f"{shots}-{seed}", **{**named, **few})
    found = collect(tmp_path)
    ((_, bars, _),) = report.accuracy_bars(found)
    ((_, curves, _),) = report.few_shot_curves(found)
    ((_, gains, _),) = report.class_gains(found)
    assert report.over_seeds("mean", 1) == "of 1 seed"
    assert bars.endswith("; mean and deviation over 1 to 2 seeds.")
    assert curves.endswith(": mean and deviation over 2 seeds.") and gains.endswith(", mean over 2 seeds.")


def test_each_data_set_has_a_table_that_fits_a_narrow_page(tmp_path):
    for dataset in ("Digits", "Symbols"):
        few = {"dataset": dataset, "classes": "all", "open_world": open_world(80.0, 60.0, 50.0)}
        write(tmp_path, dataset, **few)
    (table,) = OPEN_WORLD.tables(collect(tmp_path))
    text = report.table_html(table, "here")
    assert re.findall("<caption>(.*)</caption>", text) == ["Digits", "Symbols", "average"]
    assert "<th>base</th>" in text and "Digits base" not in text


def test_gates_of_every_layer_and_of_each_number_of_shots_are_drawn(tmp_path):
    history = [{f"{tower} {layer}": 0.5 for tower in ("text", "vision") for layer in range(12)}] * 2
    for shots in (1, 16):
        for seed in (1, 2):
            named = {"trainer": "BMIP", "classes": "all", "shots": shots, "seed": seed, "trained": True}
            write(tmp_path, f"{shots}-{seed}", **named, gate_history=history)
    drawn = [*report.gates_in_training(collect(tmp_path))]
    assert [name[-2] for _, _, name in drawn] == ["1 shot", "16 shots"]
    assert all(len(axes.lines) == 12 * 2 for figure, *_ in drawn for axes in figure.axes)


def test_a_method_has_the_same_look_beside_whatever_others():
    looks = [tuple(report.look(name).values()) for name in METHODS]
    assert len(set(looks)) == len(METHODS)


def test_models_are_looked_into_where_that_is_asked_for(run_train, results, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert report.main([str(results), "--output", str(page), "--models", str(results / "base")]) == 0
    names = {path.stem.split("_")[0] for path in page.with_suffix("").glob("*.png")}
    assert {"features", "attention"} <= names
    assert report.main([str(results), "--output", str(page), "--models", str(tmp_path)]) == 2
    assert "settings.yaml" in capsys.readouterr().err


def test_the_gates_in_a_record_are_those_of_the_log(run_train):
    run = run_train()
    table = re.findall(r"^(text|vision) +(\d) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", run.output, re.M)
    recorded = [
        (row["tower"], str(row["layer"]), *(f"{row[key]:.4f}" for key in ("mean", "std", "min", "max")))
        for row in run.result["gates"]
    ]
    assert recorded == table and len(table) == 6
    assert len(run.result["gate_history"]) == 2 and set(run.result["gate_history"][0]) >= {"text 0", "vision 2"}


def test_a_folder_without_records_is_named(tmp_path, capsys):
    assert report.main([str(tmp_path), "--output", str(tmp_path / "report.html")]) == 1
    assert not (tmp_path / "report.html").exists() and str(tmp_path) in capsys.readouterr().err
