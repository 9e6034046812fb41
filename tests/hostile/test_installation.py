"""A checkout survives every fault of the installer, and hostile manifests: nothing is lost, or touched outside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from test_install_plugin import call, checkout, install_plugin  # noqa: F401  (a fixture)

from hostile.faults import KILLED, run_with_fault, snapshot

OWN = {
    "configs/trainers/BMIP/tiny.yaml": "MINE: 1\n",
    "scripts/bmip/base2new_train.sh": "echo mine\n",
    "minidassl/engine/train.py": "mine = True\n",
}
# Of the plugin's files those that are in the way of them, and a few in new folders.
FEW = (*OWN, "configs/trainers/BMIP/tiny_depth4.yaml", "bmip_plugin/__init__.py", "bmip_plugin/trainers/bmip.py")
COMMANDS = {
    "install": ["--force"],
    "install again": ["--force"],
    "uninstall": ["--uninstall"],
}


@pytest.fixture(scope="module")
def few_files() -> tuple[str, dict[str, bytes]]:
    """A plugin so small that it can be disturbed at each of its changes, one after the other."""
    files = {name: b"ours: " + name.encode() for name in FEW}
    # The plugin's file may also be the user's, to the byte.
    return "BMIP", {**files, "minidassl/engine/train.py": OWN["minidassl/engine/train.py"].encode()}


@pytest.fixture
def crowded(checkout, few_files, monkeypatch) -> Path:  # noqa: F811
    """A checkout with files of the user's in the plugin's places, one of them executable, one read-only."""
    for name, text in OWN.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    (checkout / "scripts/bmip/base2new_train.sh").chmod(0o755)
    (checkout / "minidassl/engine/train.py").chmod(0o700)
    (checkout / "train.py").chmod(0o555)
    monkeypatch.setattr(install_plugin, "make_plugin", lambda root: few_files)
    return checkout


def disturbed(root: Path, command: str, kind: str, at: int) -> tuple[int, int]:
    return run_with_fault(lambda: install_plugin.main([str(root), *COMMANDS[command]]), root, kind, at)


def copy_to(root: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target)


@pytest.mark.parametrize("kind", ["kill", "full", "nearly full"])
@pytest.mark.parametrize("command", COMMANDS)
def test_after_a_fault_at_any_point_the_checkout_comes_back_to_the_byte(crowded, tmp_path, command, kind):
    before = snapshot(crowded)
    if command != "install":
        assert call(crowded, "--force") == 0
    start = tmp_path / "start"
    copy_to(crowded, start)
    status, number = disturbed(crowded, command, "none", 0)
    assert status == 0 and number > 20
    for at in range(1, number + 1, 1 if kind == "kill" else 3):
        copy_to(start, crowded)
        status, _ = disturbed(crowded, command, kind, at)
        assert status in ((KILLED,) if kind == "kill" else (0, 2)), at
        if status == 2:
            # Undone at once, or not begun.
            now = snapshot(crowded)
            now.pop(install_plugin.PART, None)
            assert now in (before, snapshot(start)), at
        if command == "install" and (crowded / install_plugin.MANIFEST).exists():
            # Copies come before the manifest, which comes before all changes.
            assert all((crowded / install_plugin.ASIDE / name).read_text() == text for name, text in OWN.items()), at
        # The promised ways out: at once, or after another installation.
        for flag in ("--force", "--uninstall")[at % 2 :]:
            assert call(crowded, flag) == 0 or flag == "--uninstall", at
        assert snapshot(crowded) == before, at


def test_a_removal_that_is_killed_twice_comes_to_its_end(crowded, tmp_path):
    before = snapshot(crowded)
    call(crowded, "--force")
    copy_to(crowded, tmp_path / "start")
    _, number = disturbed(crowded, "uninstall", "none", 0)
    for at in range(1, number):
        copy_to(tmp_path / "start", crowded)
        disturbed(crowded, "uninstall", "kill", at)
        disturbed(crowded, "uninstall", "kill", at // 2 + 1)
        call(crowded, "--uninstall")
        assert snapshot(crowded) == before, at


def test_faults_are_felt_at_every_kind_of_change(tmp_path):
    def work() -> int:
        path = tmp_path / "file"
        path.write_bytes(b"")
        os.replace(path, tmp_path / "other")
        (tmp_path / "other").chmod(0o600)
        (tmp_path / "other").unlink()
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder").rmdir()
        return 0

    assert run_with_fault(work, tmp_path, "none", 0) == (0, 6)
    for at in range(1, 7):
        assert run_with_fault(work, tmp_path, "kill", at)[0] == KILLED
        assert len(snapshot(tmp_path)) == (at in (2, 3, 4, 6))
        for path in tmp_path.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()


def installed(root: Path) -> Path:
    assert call(root) == 0
    return root / install_plugin.MANIFEST


def is_refused(root: Path, capsys, everything: Path, *words: str) -> None:
    """No command changes anything in the checkout or beside it, nor ends in a traceback."""
    before = snapshot(everything)
    for flags in (["--uninstall"], ["--uninstall", "--force"], ["--force"], []):
        capsys.readouterr()
        assert call(root, *flags) == 2
        error = capsys.readouterr().err
        assert all(word in error for word in words) and "Traceback" not in error
    assert snapshot(everything) == before


@pytest.mark.parametrize("field", ["files", "put_aside", "folders"])
@pytest.mark.parametrize(
    "where",
    [
        *("../outside.txt", "{absolute}", "configs/../../outside.txt", "minidassl/../../outside.txt"),
        *("link/outside.txt", "minidassl/link/outside.txt", "train.py", "trainers", "bmip_plugin/put_aside/x"),
        *("minidassl/\0", "minidassl/\udcff", "", "minidassl\\..\\..\\outside.txt"),
    ],
)
def test_a_manifest_leads_neither_out_of_the_checkout_nor_to_files_of_the_user(
    checkout,  # noqa: F811
    tmp_path,
    capsys,
    few_files,
    monkeypatch,
    field,
    where,
):
    monkeypatch.setattr(install_plugin, "make_plugin", lambda root: few_files)
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    (tmp_path / "empty").mkdir()
    manifest = installed(checkout)
    for link in (checkout / "link", checkout / "minidassl" / "link"):
        link.symlink_to(tmp_path)
    content = json.loads(manifest.read_text())
    path = where.format(absolute=outside)
    if field == "folders":
        content[field].append(path.replace("outside.txt", "empty"))
    else:
        known = checkout / path if "\0" not in path and "\udcff" not in path else checkout
        value = install_plugin.digest(known.read_bytes() if known.is_file() else b"")
        content[field][path] = value
    manifest.write_text(json.dumps(content))
    is_refused(checkout, capsys, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "[" * 100_000, '{"files": 1}', '{"files": {"train.py": 3}}', "\xff"),
        '{"files": {}, "put_aside": {}, "folders": [], "train": {}}',
        '{"files": {}, "put_aside": {}, "folders": [[]], "train": {"before": "' + 64 * "0" + '"}}',
        '{"files": {}, "put_aside": [["x"]], "folders": [], "train": {"before": "' + 64 * "0" + '"}}',
        '{"files": {"minidassl/x": "0"}, "put_aside": {}, "folders": [], "train": {"before": "' + 64 * "0" + '"}}',
    ],
)
def test_a_manifest_that_is_none_changes_nothing(checkout, capsys, text):  # noqa: F811
    (checkout / "bmip_plugin").mkdir()
    (checkout / install_plugin.MANIFEST).write_text(text, encoding="latin-1")
    is_refused(checkout, capsys, checkout, "manifest.json")


PLACES = ("train.py", "scripts", "configs/trainers", "bmip_plugin", "minidassl", "bmip_plugin/put_aside")
FILES = ("bmip_plugin/.part", "bmip_plugin/manifest.json", "configs/trainers/BMIP/tiny.yaml")


@pytest.mark.parametrize(
    "installs, name",
    [
        *((False, name) for name in PLACES + FILES),
        *((True, name) for name in (*PLACES, *FILES, "bmip_plugin/trainers/__pycache__")),
    ],
)
def test_a_link_in_the_checkout_is_not_followed(crowded, tmp_path, capsys, installs, name):
    if installs:
        call(crowded, "--force")
    place, away = crowded / name, tmp_path / "away"
    if place.exists():
        place.rename(away)
    else:
        away.mkdir()
        (away / "x.pyc").write_text("precious")
        place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(away)
    is_refused(crowded, capsys, tmp_path)


def test_copies_without_a_manifest_are_kept_unless_they_are_of_what_is_in_place(crowded, capsys):
    call(crowded, "--force")
    (crowded / install_plugin.MANIFEST).unlink()
    is_refused(crowded, capsys, crowded, "put_aside", "tiny.yaml")
    copies = crowded / install_plugin.ASIDE
    assert all((copies / name).read_text() == text for name, text in OWN.items())


def test_copies_of_what_is_in_place_do_not_stay(crowded):
    before = snapshot(crowded)
    # As an installation left them that was killed at its start, and had more files in its way than this version has.
    shutil.copytree(crowded / "scripts", crowded / install_plugin.ASIDE / "scripts")
    assert call(crowded, "--force") == 0 and call(crowded, "--uninstall") == 0
    assert snapshot(crowded) == before


def test_a_lost_copy_is_told_and_nothing_of_the_users_is_deleted(crowded, capsys):
    call(crowded, "--force")
    name = "configs/trainers/BMIP/tiny.yaml"
    (crowded / install_plugin.ASIDE / name).write_text("changed")
    assert call(crowded, "--uninstall") == 2
    assert f"put_aside/{name}" in capsys.readouterr().err
    assert call(crowded, "--uninstall", "--force") == 0
    assert (crowded / name).read_text() == "changed"


def test_files_that_are_back_are_the_users_again(crowded):
    call(crowded, "--force")
    name = "configs/trainers/BMIP/tiny.yaml"
    (crowded / install_plugin.ASIDE / name).replace(crowded / name)  # A removal that was killed after this.
    (crowded / name).write_text("edited")
    assert call(crowded, "--uninstall") == 0
    assert (crowded / name).read_text() == "edited"
