"""Small helpers: files, images, meters, weights to start from, registries."""

from __future__ import annotations

from minidassl import utils

import PIL
import pytest
import torch
from PIL import Image
from torch import nn


def test_json_goes_around_and_folders_are_created(tmp_path, monkeypatch):
    path = tmp_path / "new" / "split.json"
    utils.write_json({"train": [["a/é.jpg", 0, "cat"]]}, str(path))
    assert utils.read_json(path) == {"train": [["a/é.jpg", 0, "cat"]]}
    assert '\n    "train": [' in path.read_text()
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        utils.mkdir_if_missing("deep/folder")
    utils.mkdir_if_missing("")
    assert (tmp_path / "deep" / "folder").is_dir()


def test_hidden_names_are_not_listed(tmp_path):
    for name in ("b", ".hidden", "a"):
        (tmp_path / name).touch()
    assert utils.listdir_nohidden(tmp_path, sort=True) == ["a", "b"]
    assert sorted(utils.listdir_nohidden(tmp_path)) == ["a", "b"]


def test_a_missing_file_is_warned_about(tmp_path):
    with pytest.warns(UserWarning, match=f'No file found at "{tmp_path}'):
        assert utils.check_isfile(str(tmp_path / "none")) is False


@pytest.mark.parametrize(
    "content, error", [(None, FileNotFoundError), (b"no image", OSError), ("truncated", OSError), (b"", OSError)]
)
def test_an_image_that_cannot_be_read_is_named(tmp_path, content, error):
    path = tmp_path / "broken.png"
    if content == "truncated":
        Image.effect_noise((64, 64), 50).save(path)
        content = path.read_bytes()[:500]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match="broken.png"):
        utils.read_image(str(path))


def test_env_info_ends_with_the_version_of_pillow(monkeypatch):
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "PyTorch version: x")
    assert utils.collect_env_info() == f"PyTorch version: x\n        Pillow ({PIL.__version__})"


def test_meters_average_and_print_in_order_of_first_use():
    meter = utils.MetricMeter()
    meter.update({"loss": torch.tensor(2.0), "acc": 50})
    meter.update(None)
    meter.update({"loss": 1.0, "acc": 25})
    assert str(meter) == "loss 1.0000 (1.5000) acc 25.0000 (37.5000)"
    assert meter.meters["loss"].count == 2
    with pytest.raises(TypeError, match="takes a dict"):
        meter.update([1.0])


def test_pretrained_weights_are_taken_where_name_and_shape_fit(tmp_path, capsys):
    model = nn.Linear(2, 2)
    weight = torch.full((2, 2), 7.0)
    path = tmp_path / "w.pth"
    state = {"module.weight": weight, "bias": torch.zeros(5), "head": torch.zeros(1)}
    torch.save({"state_dict": state}, path)
    utils.load_pretrained_weights(model, path)
    assert torch.equal(model.weight, weight)
    out = capsys.readouterr().out
    assert f"Successfully loaded pretrained weights from {path}" in out
    assert "Layers discarded due to unmatched keys or size: ['bias', 'head']" in out


def test_pretrained_weights_of_which_none_fits_are_warned_about(tmp_path):
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="check the key names manually"):
        utils.load_pretrained_weights(nn.Linear(2, 2), tmp_path / "w.pth")


@pytest.fixture
def registry() -> utils.Registry:
    registry = utils.Registry("DATASET")

    @registry.register()
    class Pets: ...

    return registry


@pytest.mark.parametrize("register", [lambda registry: registry.register(), lambda registry: registry.register])
def test_a_decorated_class_stays_itself_and_is_found_by_name(registry, register):
    @register(registry)
    class Digits: ...

    assert registry.get("Digits") is Digits and Digits.__name__ == "Digits"
    assert registry.registered_names() == ["Pets", "Digits"]


def test_a_second_object_of_the_same_name_needs_force(registry):
    class Pets: ...

    with pytest.raises(KeyError, match='An object named "Pets" was already registered in "DATASET" registry'):
        registry.register(Pets)
    registry.register(Pets, force=True)
    assert registry.get("Pets") is Pets


def test_an_unknown_name_is_a_key_error_that_names_the_registry(registry):
    with pytest.raises(KeyError, match='Object name "zzz" does not exist in "DATASET" registry'):
        registry.get("zzz")


def test_check_availability_lists_the_choices_and_guesses():
    utils.check_availability("MaPLe", ["MaPLe", "CoOp"])
    with pytest.raises(ValueError, match=r"'Maple'.*\['CoOp', 'MaPLe'\]; did you mean 'MaPLe'\?"):
        utils.check_availability("Maple", ["CoOp", "MaPLe"])
    with pytest.raises(ValueError) as error:
        utils.check_availability("xyz", ["CoOp"])
    assert "did you mean" not in str(error.value)
