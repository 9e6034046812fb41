"""Models are shown as they are: answers and gates are those of their tests, words those nearest to their prompts."""

from __future__ import annotations

import io
import re
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers.backbones import word_tokenizer
from helpers.learners import make, make_learner, new_learner
from PIL import Image

from experiments import inside, models, pictures
from experiments.methods import BASELINE
from experiments.tools import draw_gate
from trainers.prompting.core.class_tokens import context_vectors
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.words import OPENAI_WORDS, HuggingFaceWords
from trainers.records import read_result

ALL = ["DATASET.SUBSAMPLE_CLASSES", "all", "TEST.SAVE_LOGITS", "True"]


MADE: dict[str, Path] = {}


@pytest.fixture
def two_runs(run_train, tmp_path_factory) -> dict[str, Path]:
    """Folders of two trained models on digits, and of the tests of these and of zero-shot CLIP on all classes.

    They are made once.
    """
    if not MADE:
        root = tmp_path_factory.mktemp("runs")
        for name in ("MaPLe", "BMIP"):
            MADE[name] = run_train(trainer=name, folder=root / name).folder
            test = ["--eval-only", "--model-dir", str(MADE[name])]
            MADE[f"test of {name}"] = run_train(*test, trainer=name, folder=root / f"test_{name}", options=ALL).folder
        plain = run_train("--eval-only", trainer=BASELINE, folder=root / "plain", options=ALL)
        MADE[f"test of {BASELINE}"] = plain.folder
    return dict(MADE)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The answers of a test, and the labels."""
    with np.load(folder / "logits.npz") as found:
        return found["logits"].argmax(axis=1), found["labels"]


def test_answers_are_those_of_the_tests_and_examples_are_where_they_differ(two_runs):
    found = inside.look([two_runs["MaPLe"], two_runs["BMIP"]])
    tests = {name: read(two_runs[f"test of {name}"]) for name in ("MaPLe", "BMIP", BASELINE)}
    pairs = [("BMIP", BASELINE), ("BMIP", "MaPLe")]
    assert {*found.counts} == {*found.differences} == {pair for one in pairs for pair in (one, one[::-1])}
    for (right, wrong), examples in found.differences.items():
        (of_right, labels), (of_wrong, _) = tests[right], tests[wrong]
        chosen = (of_right == labels) & (of_wrong != labels)
        assert found.counts[right, wrong] == chosen.sum() > 0
        for example in examples:
            assert example.answers[right] == example.label != example.answers[wrong]
            assert {*example.answers} == {BASELINE, "MaPLe", "BMIP"}
        assert len(examples) == min(6, chosen.sum())
        # No class comes again before each has come.
        times = Counter(example.label for example in examples)
        assert len(times) == min(6, len({*labels[chosen]})) or max(times.values()) == 1
    assert found.dataset == "Digits" and found.images == len(tests["BMIP"][1])
    assert {*found.figures} == {"features", "gates", "attention", "attention_MaPLe"}


def test_answers_of_a_method_with_two_features_of_an_image_are_those_of_its_test(run_train, tmp_path):
    model = run_train(trainer="MMRL", folder=tmp_path / "model")
    test = ["--eval-only", "--model-dir", str(model.folder)]
    tested = run_train(*test, trainer="MMRL", folder=tmp_path / "test", options=ALL)
    answers, labels = read(tested.folder)
    sight = models.look_at([model.folder])
    assert sight.models["MMRL"].answers.tolist() == answers.tolist() and sight.labels.tolist() == labels.tolist()
    assert sight.is_base.tolist() == [True] * 5 + [False] * 5


def test_looking_again_shows_the_same(two_runs):
    first, second = (inside.look([two_runs["BMIP"]]) for _ in range(2))
    assert first.files() == second.files() and first.lines() == second.lines()
    kinds = Counter(name.rpartition("_")[0] for name in first.files())
    assert kinds["sample"] == 12 and len({example.label for example in first.samples}) == 10


def test_gates_are_those_that_the_test_records(two_runs):
    sight = models.look_at([two_runs["BMIP"]])
    rows = read_result(two_runs["test of BMIP"])["gates"]
    gates = sight.models["BMIP"].gates
    assert {(row["tower"], row["layer"]) for row in rows} == {*gates}
    for row in rows:
        values = gates[row["tower"], row["layer"]]
        shown = [values.mean(), values.std(dim=0, unbiased=False).mean(), values.min(), values.max()]
        assert torch.tensor(shown).tolist() == pytest.approx([row[key] for key in ("mean", "std", "min", "max")])
        assert len(values) == (10 if row["tower"] == "text" else len(sight.labels))


def test_of_a_large_test_some_images_spread_over_it_are_seen(two_runs, monkeypatch):
    answers, labels = read(two_runs["test of BMIP"])
    monkeypatch.setattr(models, "MOST_IMAGES", 60)
    found = inside.look([two_runs["BMIP"]])
    seen = [number * len(labels) // 60 for number in range(60)]
    plain, _ = read(two_runs[f"test of {BASELINE}"])
    right = (answers == labels) & (plain != labels)
    assert found.images == 60 and found.counts["BMIP", BASELINE] == right[seen].sum()
    assert f"60 of {len(labels):,} test images of Digits" in found.figures["features"][1]


def test_runs_of_several_data_sets_are_looked_into_apart(two_runs, run_train, tmp_path, data_root):
    other = run_train("--dataset-config-file", "configs/datasets/symbols.yaml", folder=tmp_path / "other").folder
    runs = [two_runs["BMIP"], other, two_runs["MaPLe"]]
    assert inside.together(runs) == [[two_runs["BMIP"], two_runs["MaPLe"]], [other]]
    with pytest.raises(models.InputError, match="DATASET.NAME is 'Digits' in one run and 'Symbols'"):
        inside.look(runs)


def test_the_runs_of_several_seeds_have_names_of_their_own(two_runs, tmp_path):
    for name, seed in (("again", 1), ("other", 2)):
        folder = Path(shutil.copytree(two_runs["BMIP"], tmp_path / name))
        settings = (folder / "settings.yaml").read_text()
        (folder / "settings.yaml").write_text(re.sub(r"^SEED: 1$", f"SEED: {seed}", settings, flags=re.M))
    found = inside.look([two_runs["MaPLe"], two_runs["BMIP"], tmp_path / "again", tmp_path / "other"])
    names = ["BMIP, seed 1, run 2", "BMIP, seed 1, run 3", "BMIP, seed 2"]
    assert [name for name in found.words if name != "MaPLe"] == names
    assert {first for first, _ in found.counts} - {names[0]} == {BASELINE, "MaPLe", *names[1:]}
    assert str(tmp_path) not in str(found.figures) + str(found.counts)


def test_looking_changes_no_feature_and_notes_all_layers(small_clip, images, classnames):
    learner = make_learner(small_clip, depth=2)
    with torch.no_grad():
        expected = PromptedCLIP(small_clip, learner, classnames)(images)
        noted = models.observe(learner)
        watched = models.Watched(small_clip, learner, classnames)
        assert torch.equal(watched(images), expected)
    assert set(noted.attention) == {(tower, layer) for tower in ("text", "vision") for layer in range(2)}
    assert noted.attention["vision", 1][0].shape == (len(images), 2)
    assert sum(map(len, noted.attention["text", 0])) == len(classnames)
    assert torch.allclose(watched.image.norm(dim=-1), torch.ones(len(images)))


# ------------------------------------------------------------------------------------------------ words


def prompts_of(clip_model, learner, images, classnames):
    noted = models.observe(learner)
    with torch.no_grad():
        PromptedCLIP(clip_model, learner, classnames)(images)
    return models._prompts(learner, noted.entering)


def test_the_nearest_words_are_those_of_a_plain_search(small_clip):
    tokens = torch.randn(2, 64, generator=torch.Generator().manual_seed(3))
    embeddings = small_clip.token_embedding.weight.double().numpy()
    for token, found in zip(tokens.double().numpy(), models.nearest(tokens, small_clip, 4)):
        distances = np.sqrt(((embeddings - token) ** 2).sum(axis=1))
        expected = np.argsort(distances, kind="stable")[:4]
        assert [piece for piece, _ in found] == [*map(OPENAI_WORDS.piece, expected)]
        assert [distance for _, distance in found] == pytest.approx(distances[expected])


def test_untrained_prompts_are_the_words_that_they_start_from(small_clip, images, classnames):
    learner = new_learner(small_clip, "MaPLe", depth=2)
    found = models.nearest(prompts_of(small_clip, learner, images, classnames), small_clip, 1)
    assert found == [[("a", 0.0)], [("photo", 0.0)]]
    assert torch.equal(context_vectors(small_clip, "a photo of a", 2), learner.text_prompts["0"].detach())


def test_prompts_of_bmip_are_those_that_enter_the_first_layer(small_clip, images, classnames):
    learner = make_learner(small_clip, depth=2)
    shown = prompts_of(small_clip, learner, images, classnames)
    own, other = (prompts["0"].detach() for prompts in (learner.text_prompts, learner.vision_prompts))
    projected = learner.vision_to_text["0"](other).detach()
    mixed = [w[:, None] * own + (1 - w[:, None]) * projected for w in learner.last_gates["text"][0]]
    torch.testing.assert_close(shown, torch.stack(mixed).mean(dim=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name, settings, reason",
    [
        ("CoCoOp", {}, "depend on the image"),
        ("CoOp", dict(class_specific=True), "each class has text prompts of its own"),
        ("ProDA", dict(number=4), "it has 4 contexts"),
        ("VPT", dict(vision_depth=2), "no prompt of its stands in the place of a word"),
        ("MMRL", dict(length=3, width=9, layers=(2, 3)), "no prompt of its stands in the place of a word"),
    ],
)
def test_where_there_are_no_words_the_reason_is_told(small_clip, images, classnames, name, settings, reason):
    learner = make(small_clip, name, **settings)
    assert reason in prompts_of(small_clip, learner, images, classnames)


@pytest.mark.parametrize("position", ["front", "middle", "end"])
def test_prompts_have_words_wherever_the_class_name_stands(small_clip, images, classnames, position):
    learner = make(small_clip, "CoOp", length=3, position=position)
    assert torch.equal(prompts_of(small_clip, learner, images, classnames), learner.text_prompts["0"].detach())


def test_pieces_of_words_are_text_in_each_tokeniser(tmp_path):
    assert OPENAI_WORDS.size == 49408
    assert "".join(map(OPENAI_WORDS.piece, OPENAI_WORDS.encode("photographically"))) == "photographically"
    assert [OPENAI_WORDS.piece(number) for number in OPENAI_WORDS.encode("café 猫")][0] == "café"
    from transformers import AutoTokenizer

    words = HuggingFaceWords(AutoTokenizer.from_pretrained(word_tokenizer(tmp_path, True, "<pad>")))
    assert words.size == 19 and list(map(words.piece, words.encode("a big cat"))) == ["a", "big", "cat"]


# ------------------------------------------------------------------------------------------------ pictures


def test_an_example_is_the_image_before_its_normalisation(two_runs, data_root):
    example = inside.look([two_runs["BMIP"]]).samples[0]
    shown = np.asarray(Image.open(io.BytesIO(example.png))).astype(int)
    files = Path(data_root, "digits/images", example.label).glob("*.png")
    resized = [np.asarray(Image.open(file).convert("L").resize((32, 32), Image.BICUBIC)) for file in files]
    assert shown.shape == (32, 32) and min(np.abs(shown - one).mean() for one in resized) < 2


def test_photographs_become_small_files():
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 40, 40), size=(224, 224), mode="bicubic")[0].clamp(0, 1)
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    normal = torch.stack([(channel - m) / s for channel, m, s in zip(image, mean, std)])
    picture = models.picture_of(normal, mean, std)
    before = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).resize(picture.size)
    assert picture.size == (128, 128) and len(models.png(picture)) < 16_000
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(before).astype(int)).mean() < 8


def test_lines_of_a_map_of_gates_are_ordered_by_how_far_they_are_from_their_layers_means():
    gates = {
        ("vision", 0): torch.tensor([[0.2, 0.4], [0.3, 0.3], [0.9, 0.7]]),
        ("vision", 3): torch.tensor([[0.5], [0.2], [0.8]]),
        ("text", 0): torch.zeros(3, 1),
    }
    found = pictures.gate_map(gates, "vision")
    assert found.layers == [0, 3] and found.order.tolist() == [2, 0, 1]
    assert found.means.tolist() == pytest.approx([1.4 / 3, 0.5])
    assert found.differences[0].tolist() == pytest.approx([0.8 - 1.4 / 3, 0.3])
    assert pictures.gate_map(gates, "text").order.tolist() == [0, 1, 2]


def test_a_run_without_settings_is_named(tmp_path, capsys):
    assert pictures.main([str(tmp_path)]) == 2
    assert f"{tmp_path} has no settings.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "trainer, drawn",
    [("BMIP", {"features", "attention", "gates"}), ("CoCoOp", {"features"}), ("DeCoOp", {"features"})],
)
def test_a_model_is_drawn_from_its_run(run_train, tmp_path, capsys, trainer, drawn):
    run = run_train(trainer=trainer)
    assert pictures.main([str(run.folder), "--output", str(tmp_path / "pictures")]) == 0
    told = capsys.readouterr().out
    there = {path.name for path in (tmp_path / "pictures").iterdir()}
    examples = {name for name in there if re.match(rf"(sample|{trainer}_not|ZeroshotCLIP_not)_", name)}
    assert there - examples == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert "sample_00.png" in examples and f"{trainer} is right and ZeroshotCLIP wrong on" in told
    words = "Words nearest to the text prompts of BMIP" if trainer == "BMIP" else f"No words for {trainer}: "
    assert words in told


def test_pictures_get_a_folder_of_their_own_which_the_last_line_names(run_train, tmp_path, capsys, monkeypatch):
    run = run_train(trainer="CoCoOp")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert pictures.main([str(run.folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"The pictures are in {run.folder / 'pictures'}"
    assert {"features.png", "features.svg"} <= {path.name for path in (run.folder / "pictures").iterdir()}
    assert not list(Path.cwd().iterdir())


def test_pictures_that_cannot_be_drawn_or_written_are_told_in_one_line(run_train, tmp_path, capsys, monkeypatch):
    run = run_train(trainer="CoCoOp")
    (tmp_path / "file").touch()
    monkeypatch.setattr(models, "look_at", None)  # before any image is seen
    assert pictures.main([str(run.folder), "--output", str(tmp_path / "file" / "pictures")]) == 2
    (told,) = capsys.readouterr().err.splitlines()[-1:]
    assert told.startswith(f"error: {tmp_path / 'file'}: ") and "choose another folder" in told
    monkeypatch.undo()
    shutil.rmtree(run.folder / "prompt_learner")
    assert pictures.main([str(run.folder)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {run.folder} has no checkpoint; train there again, or name another run."
    )
    assert not (run.folder / "pictures").exists()


def test_text_of_figures_is_text_in_the_colour_of_the_page(two_runs, tmp_path):
    found = inside.look([two_runs["BMIP"]]).figures
    for name, (figure, _) in found.items():
        assert figure.get_size_inches()[0] <= 4.5
        _, path = pictures.save(figure, tmp_path, name)
        tree = ElementTree.parse(path)
        assert [*tree.iter("{http://www.w3.org/2000/svg}text")], name
    assert "BMIP" in (tmp_path / "features.svg").read_text()


# ------------------------------------------------------------------------------------------------ docs/gate.svg


def test_the_gates_of_a_layer_are_drawn_from_a_run(two_runs, tmp_path, capsys):
    path = tmp_path / "gate.svg"
    assert draw_gate.main([str(two_runs["BMIP"]), "--layer", "1", "--output", str(path)]) == 0
    content = "".join(ElementTree.parse(path).getroot().itertext()).replace("\u200b", "")
    gates = models.look_at([two_runs["BMIP"]]).models["BMIP"].gates
    for tower in ("text", "vision"):
        values = gates[tower, 1].double().mean(dim=1)
        pieces = [f"{tower} encoder, layer 1", f"mean {values.mean():.3f}", f"of {len(values)} "]
        assert all(piece in content for piece in [*pieces, f"lowest {values.min():.3f}", "text_to_vision"])
    assert len(re.findall("<image ", path.read_text())) == 4 and path.stat().st_size < 150_000


def test_layers_and_models_without_gates_have_no_such_picture(two_runs, tmp_path, capsys):
    output = ["--output", str(tmp_path / "gate.svg")]
    assert draw_gate.main([str(two_runs["BMIP"]), "--layer", "9", *output]) == 2
    assert "--layer is 9; this model has gates in both towers of the layers [0, 1, 2]" in capsys.readouterr().err
    assert draw_gate.main([str(two_runs["MaPLe"]), *output]) == 2
    assert "name a run of BMIP" in capsys.readouterr().err and not (tmp_path / "gate.svg").exists()
