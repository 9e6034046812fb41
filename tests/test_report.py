"""The report is one page that needs nothing else, made of records; the inside of a model comes from its checkpoint."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from test_tables import open_world, write

from experiments import ROOT, report
from experiments.methods import METHODS, row_name
from experiments.pictures import BMIP_COLOUR
from experiments.report import figures, looks, origin, page, scores, svg
from experiments.report.parts import table
from experiments.report.shown import Shown
from experiments.store import collect
from experiments.tables.results import BASE2NEW, OPEN_WORLD


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


def in_world(folder: Path, name: str, base: float, new: float, accuracy: float = 50.0, **changes) -> None:
    write(folder, name, classes="all", open_world=open_world(base, new, accuracy), accuracy=accuracy, **changes)


def test_the_page_holds_tables_and_figures_and_refers_to_nothing_outside(results, tmp_path, capsys):
    path = tmp_path / "pages" / "report.html"
    assert report.main([str(results), "--output", str(path)]) == 0
    text = path.read_text()
    names = {one.stem for one in path.with_suffix("").glob("*.png")}
    for start in ("accuracy_Digits_2_shots", "few_shot_Symbols", "gains_BMIP", "gates_BMIP", "gates_training_BMIP"):
        assert any(name.startswith(start) for name in names), start
    assert {one.stem for one in path.with_suffix("").glob("*.svg")} == names
    assert text.count("<svg ") == text.count("<desc id=") == text.count("</title><desc") == len(names)
    assert f"{len(names)} figures" in capsys.readouterr().out
    assert not re.search(r'(src|href)="(?!#|data:)|url\((?!#)|@import', text) and "\\n" not in text
    pieces = [
        "Open world, 2 shots",
        "All classes of Symbols",
        "<b>",
        "TRAINER.BMIP.PROMPT_DEPTH 3",
        "built-in stand-in",
    ]
    pieces += ["name=viewport", "python scripts/reproduce.py few-shot", "python train.py --seed 1", "records are used"]
    assert not [piece for piece in pieces if piece not in text]


def test_the_page_tells_what_it_is_about(tmp_path):
    for trainer in ("BMIP", "ZeroshotCLIP"):
        in_world(tmp_path / "output", trainer, 80.0, 60.0, trainer=trainer, seed=2)
    assert report.main([str(tmp_path / "output")]) == 0
    text = (tmp_path / "output" / "report.html").read_text()
    assert (
        "<h1>ZeroshotCLIP and BMIP on Digits</h1>" in text and "<title>ZeroshotCLIP and BMIP on Digits</title>" in text
    )
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert facts["Backbone"] == "small CLIP" and facts["Seeds"] == "2 (n = 1)"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["Recorded"])
    assert "no deviation (n = 1)" in text


def test_of_many_methods_the_title_has_the_number():
    assert page.listed(["a"], "methods") == "a" and page.listed(["a", "b", "c"], "methods") == "a, b and c"
    assert page.listed([*"abcde"], "methods") == "5 methods"


def test_the_page_is_of_what_is_asked_for_with_the_commands_that_make_it(tmp_path, capsys):
    for trainer in ("MaPLe", "VPT"):
        for dataset in ("Digits", "Symbols"):
            few = {"dataset": dataset, "classes": "all", "shots": 4, "trained": True, "accuracy": 40.0}
            write(tmp_path / "output", f"{trainer}-{dataset}", trainer=trainer, **few)
    path = tmp_path / "page.html"
    arguments = [str(tmp_path / "output"), "--output", str(path)]
    assert report.main([*arguments, "--methods", "VPT", "--datasets", "digits", "--protocols", "few_shot"]) == 0
    text = html.unescape(path.read_text())
    command = 'report.py output --methods "VPT" --datasets "digits" --protocols "few-shot" --output page.html'
    assert command in text and 'reproduce.py few-shot --methods "VPT" --datasets "digits" --seeds "1"' in text
    assert "<h3 id=table0>All classes of Digits, small CLIP, seed 1</h3>" in text and '<a href="#table0">All' in text
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
    assert "The page is RESULTS/report.html" in " ".join(capsys.readouterr().out.split())


def test_no_path_of_the_machine_is_on_the_page(tmp_path):
    folder = tmp_path / "deep" / "output"
    configuration = {"TRAINER": {}, "DATASET": {"ROOT": "/data/of/somebody/sets"}, "OUTPUT_DIR": str(folder / "base")}
    configuration["RESUME"] = str(ROOT / "output" / "other")
    environment = {"code": "/home/somebody/code", "torch": "2", "dassl": f"{ROOT}/minidassl", "device": "cpu"}
    changes = {"configuration": configuration, "environment": environment, "model_dir": str(folder / "base")}
    for seed, accuracy in ((1, 50.0), (1, 60.0), (2, 50.0)):
        named = {"seed": seed, **changes, "backbone": "open_clip:/home/somebody/weights.pt"}
        in_world(folder, f"run{seed}-{accuracy}", 80.0, 60.0, accuracy, **named)
    assert report.main([str(folder)]) == 0
    text = html.unescape((folder / "report.html").read_text())
    for private in (str(tmp_path), str(ROOT), "/data/of", "/home/"):
        assert private not in text, private
    assert "output/run1-50.0/result.json" in text  # of the records that disagree
    assert "DATASET.ROOT …/sets" in text and "RESUME output/other" in text and "OUTPUT_DIR output/base" in text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("accuracy on base/new, ViT-B/16", "accuracy on base/new, ViT-B/16"),
        ("see https://arxiv.org/abs/2501.07769", "see https://arxiv.org/abs/2501.07769"),
        ("--root '/mnt/x/sets' /a/b.pt", "--root '…/sets' …/b.pt"),
        ("open_clip:ViT-B-16 ~/mine/b.pt", "open_clip:ViT-B-16 …/b.pt"),
        ("C:\\Users\\me\\sets", "…/sets"),
        (f"{ROOT}/train.py in {ROOT}", "train.py in ."),
    ],
)
def test_paths_are_shown_without_what_is_before_them(tmp_path, text, expected):
    assert Shown(tmp_path).text(text) == expected


def test_settings_are_lines_of_keys_and_values(tmp_path):
    configuration = {"B": {"C": None, "D": [], "E": {}}, "A": [1, (0.5, "x")], "F": ""}
    assert dict(origin.settings(configuration)) == {"A": "1, (0.5, 'x')", "B.C": "–", "B.D": "–", "F": "–"}


def test_settings_that_models_have_in_common_are_there_once(tmp_path):
    for trainer, rate in (("BMIP", 0.1), ("MaPLe", 0.2)):
        configuration = {"TRAINER": {}, "OPTIM": {"LR": rate, "NAME": "sgd"}}
        write(tmp_path, trainer, trainer=trainer, configuration=configuration)
    text = origin.origins(collect(tmp_path).records, Shown(tmp_path))
    assert text.count("<pre>OPTIM.NAME sgd</pre>") == 1 and "have in common" in text.partition("<pre>")[0]
    assert "<pre>OPTIM.LR 0.1</pre>" in text and "<pre>OPTIM.LR 0.2</pre>" in text


def seeds_of_bmip(folder: Path) -> None:
    for seed, base, new in ((1, 80.0, 60.0), (2, 60.0, 80.0), (3, 70.0, 70.0)):
        in_world(folder, f"bmip{seed}", base, new, trainer="BMIP", seed=seed)
        in_world(folder, f"plain{seed}", 50.0, 50.0, trainer="ZeroshotCLIP", trained_on=None, seed=seed)


def test_hm_has_the_deviation_of_the_seeds_own(tmp_path):
    seeds_of_bmip(tmp_path)
    (made,) = OPEN_WORLD.tables(collect(tmp_path))
    own = [2 * 80 * 60 / 140, 2 * 80 * 60 / 140, 70.0]
    mean = sum(own) / 3
    found = scores.score(made, "BMIP", "Digits", "HM")
    assert found.mean == pytest.approx(70.0) and found.n == 3
    assert found.spread == pytest.approx((sum((one - mean) ** 2 for one in own) / 3) ** 0.5)
    assert scores.score(made, "BMIP", "Digits", "base").spread == pytest.approx((200 / 3) ** 0.5)


def test_the_summary_has_the_best_method_beside_bmip_and_zero_shot_clip(tmp_path):
    seeds_of_bmip(tmp_path)
    for seed in (1, 2, 3):
        in_world(tmp_path, f"maple{seed}", 90.0, 90.0, 40.0, seed=seed)
    found = {one.measure: one for one in scores.bests(OPEN_WORLD.tables(collect(tmp_path)))}
    assert found["HM"].rows == ("MaPLe",) and found["HM"].best.text() == "90.00 ± 0.00" and found["HM"].best.n == 3
    assert found["HM"].bmip.mean == pytest.approx(70.0) and found["HM"].plain.mean == pytest.approx(50.0)
    assert found["accuracy"].rows == ("ZeroshotCLIP", "BMIP")  # equally good


def test_averages_over_data_sets_have_the_deviation_of_the_seeds_averages(tmp_path):
    for dataset in ("Digits", "Symbols"):
        for seed, base in ((1, 60.0), (2, 80.0)):
            for classes, accuracy in (("base", base), ("new", 50.0)):
                named = {"dataset": dataset, "classes": classes, "accuracy": accuracy, "seed": seed}
                write(tmp_path, f"{dataset}{seed}{classes}", trainer="BMIP", **named)
    (made,) = BASE2NEW.tables(collect(tmp_path))
    found = scores.score(made, "BMIP", "average", "base")
    assert (found.mean, found.spread, found.n) == (70.0, 10.0, 2)


def test_captions_say_over_how_many_seeds_a_mean_is(tmp_path):
    classes = [{"name": name, "images": 2, "correct": 1} for name in ("one", "two")]
    for trainer, seeds in (("BMIP", (1, 2)), ("ZeroshotCLIP", (1,))):
        for seed in seeds:
            named = {"trainer": trainer, "seed": seed, "per_class": classes}
            in_world(tmp_path, f"{trainer}{seed}", 80.0, 60.0, **named)
            for shots in (1, 4) if trainer == "BMIP" else ():
                few = {"classes": "all", "shots": shots, "trained": True}
                write(tmp_path, f"{shots}-{seed}", **{**named, **few})
    found = collect(tmp_path)
    (bars,), (curves,), (gains,) = (
        [*draw(found)] for draw in (figures.accuracies, figures.few_shot_curves, figures.class_gains)
    )
    assert figures.deviations([1]) == "n = 1; one seed, no deviation"
    assert "n = 1 to 2; bars: standard deviation over seeds" in bars.caption
    assert "n = 2; bars: standard deviation over seeds" in curves.caption
    assert "n = 2; bars: standard deviation over seeds" in gains.caption
    assert {text.get_text() for text in bars.figure.axes[0].texts} == {"HM (n = 2)", "68.6 ± 0.0", "68.6, n=1"}


def test_rows_of_bmip_and_of_its_stacks_are_set_off(tmp_path):
    for trainer in ("BMIP", "CoPrompt_BMIP", "MaPLe"):
        in_world(tmp_path, trainer, 80.0, 60.0, trainer=trainer)
    (made,) = OPEN_WORLD.tables(collect(tmp_path))
    rows = dict(
        re.findall('<tr class="(.*?)"><th scope=row><span class=row>(.*?)</span>', table(made, Shown(tmp_path)))
    )
    assert rows == {"bmip": "BMIP", "stack": "CoPrompt_BMIP", "": "MaPLe"}
    kinds = ["BMIP", "BMIP, addition", "MMA_BMIP", "ZeroshotCLIP", "MaPLe", "IVLP_BMIP_size"]
    assert [looks.kin(row) for row in kinds] == ["bmip", "stack", "stack", "plain", "", ""]


def test_each_data_set_has_a_table_that_fits_a_narrow_page(tmp_path):
    for dataset in ("Digits", "Symbols"):
        in_world(tmp_path, dataset, 80.0, 60.0, dataset=dataset)
    (made,) = OPEN_WORLD.tables(collect(tmp_path))
    text = table(made, Shown(tmp_path))
    assert re.findall("<caption>(.*?)</caption>", text) == ["Digits", "Symbols", "average"]
    assert "<th scope=col class=number>base</th>" in text and "Digits base" not in text


def test_gates_of_every_layer_and_of_each_number_of_shots_are_drawn(tmp_path):
    history = [{f"{tower} {layer}": 0.5 for tower in ("text", "vision") for layer in range(12)}] * 2
    for shots in (1, 16):
        for seed in (1, 2):
            named = {"trainer": "BMIP", "classes": "all", "shots": shots, "seed": seed, "trained": True}
            write(tmp_path, f"{shots}-{seed}", **named, gate_history=history)
    drawn = [*figures.gates_in_training(collect(tmp_path))]
    assert [one.name[-2] for one in drawn] == ["1 shot", "16 shots"]
    assert all(len(axes.lines) == 12 * 2 for one in drawn for axes in one.figure.axes)


def test_a_method_has_the_same_look_beside_whatever_others():
    found = {name: tuple(looks.look(row_name(name)).values()) for name in METHODS}
    assert len({*found.values()}) == len(METHODS)
    assert found["BMIP"][0] == BMIP_COLOUR and [one[0] for one in found.values()].count(BMIP_COLOUR) == 1


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colour", [BMIP_COLOUR, looks.NEUTRAL, *looks.MUTED])
@pytest.mark.parametrize("ground", ["#ffffff", "#15181c"])
def test_lines_stand_out_by_day_and_by_night(colour, ground):
    dark, light = sorted(map(luminance, (colour, ground)))
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_two_figures_on_a_page_share_no_id_and_take_the_pages_colours(tmp_path):
    plt = figures.pyplot()
    texts = []
    for name in ("one", "two"):
        with plt.rc_context(looks.SETTINGS):
            figure, axes = plt.subplots()
            axes.plot([1, 2], [1, 2], "o")
            axes.set_title('<script>alert("x")</script>')
            figure.savefig(tmp_path / "figure.svg")
            plt.close(figure)
        saved = (tmp_path / "figure.svg").read_text()
        texts.append(svg.inline(saved, name, "Title", "<b>told</b>", Shown(tmp_path)))
    ids = [set(re.findall(r'\bid="?([\w-]+)', text)) for text in texts]
    assert ids[0] and not ids[0] & ids[1]
    for text, own in zip(texts, ids):
        used = set(re.findall(r'href="#(.*?)"|url\(#(.*?)\)', text))
        assert {one or other for one, other in used} <= own
        assert "#000000" not in text and "#ffffff" not in text and "currentColor" in text and "http" not in text
        assert "&lt;script&gt;" in text and "<script" not in text and "&lt;b&gt;told" in text


def test_models_are_looked_into_where_that_is_asked_for(results, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert report.main([str(results), "--output", str(path), "--models", str(results / "base")]) == 0
    assert "Loading" not in capsys.readouterr().out
    text = path.read_text()
    names = {one.stem.split("_")[0] for one in path.with_suffix("").glob("*.png")}
    assert {"features", "attention", "gates"} <= names
    assert "Inside the models" in text and "Nearest words" in text and "read them with care" in text
    assert re.search(r"BMIP right, ZeroshotCLIP wrong: \d+ of \d+ images", text) or "right, BMIP wrong" in text
    assert report.main([str(results), "--output", str(path), "--models", str(tmp_path)]) == 2
    assert "settings.yaml" in capsys.readouterr().err


def test_the_gates_in_a_record_are_those_of_the_log(run_train):
    run = run_train()
    logged = re.findall(r"^(text|vision) +(\d) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", run.output, re.M)
    recorded = [
        (row["tower"], str(row["layer"]), *(f"{row[key]:.4f}" for key in ("mean", "std", "min", "max")))
        for row in run.result["gates"]
    ]
    assert recorded == logged and len(logged) == 6
    assert len(run.result["gate_history"]) == 2 and set(run.result["gate_history"][0]) >= {"text 0", "vision 2"}


def test_folders_without_records_are_named(tmp_path, capsys):
    assert report.main([str(tmp_path), "--output", str(tmp_path / "report.html")]) == 1
    assert not (tmp_path / "report.html").exists() and str(tmp_path) in capsys.readouterr().err
