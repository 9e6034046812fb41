"""A checkout survives every fault of the installer, and hostile manifests: nothing is lost, or touched outside it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from test_install_plugin import call, checkout, install_plugin  # noqa: F401  (a fixture)

from hostile.faults import KILLED, run_with_fault, snapshot

OWN = {
    "configs/trainers/BMIP/tiny.yaml": "MINE: 1\n",
    "scripts/bmip/base2new_train.sh": "echo mine\n",
    "minidassl/engine.py": "mine = True\n",
}
COMMANDS = {
    "install": ["--force"],
    "install again": ["--force"],
    "uninstall": ["--uninstall"],
}


@pytest.fixture
def crowded(checkout) -> Path:  # noqa: F811
    """A checkout with files of the user's in the plugin's places, one of them executable."""
    for name, text in OWN.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    (checkout / "scripts/bmip/base2new_train.sh").chmod(0o755)
    (checkout / "train.py").chmod(0o755)
    return checkout


def main(root: Path, flags: list[str]):
    return lambda: install_plugin.main([str(root), *flags])


def changes_of(root: Path, command: str) -> int:
    """Changes that a command makes in a checkout; it is carried out."""
    status, changes = run_with_fault(main(root, COMMANDS[command]), root, "none", 0)
    assert status == 0
    return changes


@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("command", COMMANDS)
def test_after_a_fault_at_any_point_the_checkout_comes_back_to_the_byte(crowded, command, kind):
    before = snapshot(crowded)
    rng = random.Random(f"{command} {kind}")
    (crowded.parent / "rehearsal").mkdir()
    earlier = list(COMMANDS)[: list(COMMANDS).index(command)]
    for name in earlier:
        changes_of(crowded, name)
    number = changes_of(crowded, command)
    assert call(crowded, "--uninstall") == 0 or command == "uninstall"
    assert snapshot(crowded) == before
    # The first and last changes, where the order matters most, and some between them.
    points = {1, 2, 3, 4, 5, 6, number - 3, number - 2, number - 1, number, *rng.sample(range(7, number), 4)}
    for at in sorted(points):
        for name in earlier:
            assert call(crowded, *COMMANDS[name]) == 0
        status, _ = run_with_fault(main(crowded, COMMANDS[command]), crowded, kind, at)
        assert status in ((KILLED,) if kind == "kill" else (0, 2)), (at, status)
        # The promised way out, at once or after another installation.
        if rng.random() < 0.5:
            assert call(crowded, "--force") == 0, at
        call(crowded, "--uninstall")
        assert snapshot(crowded) == before, at


def installed(root: Path) -> Path:
    assert call(root) == 0
    return root / install_plugin.MANIFEST


@pytest.mark.parametrize("field", ["files", "put_aside", "folders"])
@pytest.mark.parametrize("where", ["../outside.txt", "{absolute}", "configs/../../outside.txt", "link/outside.txt"])
def test_a_manifest_does_not_lead_out_of_the_checkout(checkout, tmp_path, field, where):  # noqa: F811
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    (tmp_path / "empty").mkdir()
    (checkout / "link").symlink_to(tmp_path)
    manifest = installed(checkout)
    content = json.loads(manifest.read_text())
    path = where.format(absolute=outside)
    if field == "folders":
        path = path.replace("outside.txt", "empty")
        content[field].append(path)
    else:
        content[field][path] = install_plugin.digest(b"precious")
    manifest.write_text(json.dumps(content))
    everything = snapshot(tmp_path)
    for flags in (["--uninstall"], ["--uninstall", "--force"], ["--force"]):
        assert call(checkout, *flags) == 2
    assert snapshot(tmp_path) == everything


@pytest.mark.parametrize("name", ["train.py", "scripts", "configs/trainers", "bmip_plugin", "minidassl"])
def test_a_link_in_the_checkout_is_not_followed(checkout, tmp_path, capsys, name):  # noqa: F811
    place, away = checkout / name, tmp_path / "away"
    if place.exists():
        place.rename(away)
    else:
        away.mkdir()
    place.symlink_to(away)
    everything = snapshot(tmp_path)
    for flags in ([], ["--force"]):
        assert call(checkout, *flags) == 2
        assert name in capsys.readouterr().err
    assert snapshot(tmp_path) == everything


def test_files_that_changed_since_the_installation_are_kept_beside_it(checkout):  # noqa: F811
    call(checkout)
    changed = checkout / "bmip_plugin/trainers/bmip.py"
    changed.write_text("mine = 1\n")
    assert call(checkout, "--uninstall") == 2 and changed.read_text() == "mine = 1\n"
    assert call(checkout, "--uninstall", "--force") == 0
    assert not changed.exists()
    (kept,) = checkout.rglob("bmip.py.changed")
    assert kept.read_text() == "mine = 1\n"


def test_a_manifest_that_is_none_changes_nothing(checkout, capsys):  # noqa: F811
    manifest = installed(checkout)
    for text in ("{}", "[]", "[" * 100_000, '{"files": 1}', '{"files": {"train.py": 3}}'):
        manifest.write_text(text)
        everything = snapshot(checkout)
        assert call(checkout, "--uninstall", "--force") == 2
        assert "Traceback" not in capsys.readouterr().err
        assert snapshot(checkout) == everything
    assert os.path.isdir(checkout)
