"""Put BMIP into a checkout of CoOp, MaPLe, PromptSRC, CoPrompt or another code base of their kind, or take it out.

    python scripts/install_plugin.py CHECKOUT              install, or bring an installation up to date
    python scripts/install_plugin.py CHECKOUT --dry-run    say what would be done
    python scripts/install_plugin.py CHECKOUT --uninstall  restore the checkout to the byte

Nothing of the checkout is changed but its train.py, which gets one import. The plugin lies in folders of its own:
bmip_plugin/, minidassl/, configs/trainers/BMIP/ and scripts/bmip/. A file that is in the way is an error; with --force
it is put aside, and comes back with --uninstall. Where the checkout has a BMIP of its own, as the authors' repository
does, the plugin's is called BMIPPlugin.

An installation copies files that are in the way, then writes its manifest, then its files, then train.py. Each of them
is replaced in one step, so that --uninstall, or installing again, finds its way from wherever a process was killed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainers.prompting.recipes import CONFIGS, read_files, read_merged, variants_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "bmip_plugin"
MANIFEST = f"{PACKAGE}/manifest.json"
ASIDE = f"{PACKAGE}/put_aside"
# A file that is being written.
PART = f"{PACKAGE}/.part"
TRAIN = "train.py"
IMPORT = f"import {PACKAGE}".encode()
# The method's name and its module in trainers/. The other methods are in the checkouts already.
METHOD, MODULE = "BMIP", "bmip"
# Whom a reader of the advice is likely to compare with, in this order.
COMPARED = ("BMIP", "PromptSRC", "CoPrompt", "MaPLe", "CoOp")
# Imported by the plugin; torch, torchvision and the like are Dassl's own needs.
NEEDED = ("torch", "torchvision", "yacs", "tabulate", "psutil", "tqdm", "ftfy", "regex")
# What is copied of the code and of the recipes.
KINDS = (".py", ".npz", ".yaml")
# The names that a manifest may have: plain ones where the plugin's files are, outside ASIDE.
OWN = re.compile(
    rf"({PACKAGE}/(__init__\.py|(trainers|configs)/)|minidassl/|configs/trainers/{METHOD}|scripts/{MODULE})[\w/.+-]*",
    re.ASCII,
)
# Names that a message lists.
SHOWN = 5


class PluginError(Exception):
    """What stands in the way, where, and what can be done about it."""


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 refused, failed or interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder that has train.py and trainers/")
    parser.add_argument("--uninstall", action="store_true", help="restore the checkout")
    parser.add_argument("--force", action="store_true", help="put aside what is in the way; keep changes beside")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    args = parser.parse_args(argv)
    try:
        checkout = check_checkout(args.checkout)
        if args.uninstall:
            uninstall(checkout, args.force, args.dry_run)
        else:
            install(checkout, args.force, args.dry_run)
    except PluginError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, KeyboardInterrupt) as error:
        reason = str(error) or "interrupted"
        print(f"error: {reason}; installing again and --uninstall both go on from here", file=sys.stderr)
        return 2
    return 0


def check_checkout(checkout: Path) -> Path:
    """The folder's full path; a PluginError where it is no checkout of this kind, or this repository."""
    checkout = checkout.expanduser().resolve()
    if checkout == ROOT:
        raise PluginError(f"{checkout} is this repository itself; name the checkout to install into.")
    if not checkout.is_dir():
        raise PluginError(f"There is no folder {checkout}.")
    missing = [] if (checkout / TRAIN).is_file() else [TRAIN]
    missing += [name for name in ("trainers", "configs") if not (checkout / name).is_dir()]
    if missing:
        raise PluginError(
            f"{checkout} has no {', no '.join(missing)}; name the folder of a checkout of CoOp, MaPLe, PromptSRC, "
            "CoPrompt or BMIP, the one with train.py in it."
        )
    return checkout


# ---------------------------------------------------------------------------------------------------------- install


def install(checkout: Path, force: bool = False, dry_run: bool = False) -> None:
    """Write the plugin's files and the import, and remember both in a manifest; replace an earlier installation.

    Raises:
        PluginError: something is in the way, which was found before anything was changed; or writing failed, and was
            undone.
    """
    manifest = read_manifest(checkout)
    left = leftovers(checkout) if manifest is None else []
    name, files = make_plugin(checkout)
    check_no_links(checkout, files)
    train, earlier, present, put_aside = (checkout / TRAIN).read_bytes(), {}, [], []
    if manifest is not None:
        print(f"{checkout} has the plugin; bringing it up to date")
        earlier = manifest["files"]
        present = present_files(checkout, manifest, force)
        put_aside = [path for path in manifest["put_aside"] if path in files]
        train, _ = remove_import(train, manifest["train"])
    changed, line = add_import(train, checkout / TRAIN)
    folders = folders_of([*files, MANIFEST])
    wrong = [f"{folder} is a file" for folder in folders if (checkout / folder).is_file()]
    wrong += [f"{path} is no file" for path in files if digest_of(checkout / path) == "" and path not in earlier]
    if wrong:
        raise PluginError(f"In {checkout}, {shortened(wrong)}; move it away, since the plugin has another use for it.")
    in_the_way = sorted(path for path in files if path not in earlier and (checkout / path).exists())
    if in_the_way and not force:
        raise PluginError(
            f"{checkout} has files of these names already: {shortened(in_the_way)}. Move them away, or give "
            "--force, which puts them aside and brings them back with --uninstall."
        )
    if not dry_run and (left or manifest is not None):
        uninstall(checkout, force)
    new = [folder for folder in folders if not (checkout / folder).exists()]
    put_aside = sorted({*put_aside, *in_the_way})
    for folder in top_most(new):
        print(f"  + {folder}/")
    for path in put_aside:
        print(f"  ! {path} (what was there is put aside)")
    print(f"  ~ {TRAIN}, after line {line}: import {PACKAGE}")
    if dry_run:
        print(f"{len(present)} files would be deleted and {len(files)} written; nothing was.")
        return
    try:
        kept = {path: (checkout / path).read_bytes() for path in files if (checkout / path).is_file()}
        record = {
            "trainer": name,
            "train": {"before": digest(train)},
            "folders": new,
            "put_aside": {path: digest(content) for path, content in kept.items()},
            "files": {path: digest(content) for path, content in sorted(files.items())},
        }
        for path, content in kept.items():
            write(checkout, f"{ASIDE}/{path}", content, like=path)
        # From here on the manifest tells how to undo all that follows.
        write(checkout, MANIFEST, (json.dumps(record, indent=1) + "\n").encode())
        for path, content in files.items():
            write(checkout, path, content)
        write(checkout, TRAIN, changed, like=TRAIN)
    except (OSError, KeyboardInterrupt) as error:
        if read_manifest(checkout) or leftovers(checkout):
            uninstall(checkout)
        reason = str(error) or "Interrupted"
        raise PluginError(f"{reason}. The installation was undone: the plugin is not installed.") from error
    print(f"Installed {len(files)} files.")
    print(advice(name, registered_in(checkout)))


def make_plugin(checkout: Path) -> tuple[str, dict[str, bytes]]:
    """The trainer's name, which is free in the checkout, and the files to write, by path with forward slashes."""
    name = free_name(checkout)
    if name != METHOD:
        print(
            f"This checkout has a trainer {METHOD} of its own; the plugin's is called {name}, "
            f"its keys TRAINER.{name.upper()}"
        )
    files = {f"{PACKAGE}/__init__.py": entry(name).encode()}
    for prefix, folder in (
        (f"{PACKAGE}/", ROOT / "trainers"),
        ("", ROOT / "minidassl"),
        *((f"{PACKAGE}/", CONFIGS / folder) for folder in ("base", "variants", "trainers")),
    ):
        for path in sorted(folder.rglob("*")):
            if path.suffix in KINDS and not is_other_method(path):
                files[prefix + path.relative_to(ROOT).as_posix()] = path.read_bytes()
    for path in recipe_paths(CONFIGS / "trainers" / METHOD):
        merged = read_merged(path)
        # The data sets are the checkout's own.
        if "DATASET" not in merged:
            files[f"configs/trainers/{name}/{path.name}"] = recipe(merged, path, name).encode()
    scripts = f"scripts/{name.lower()}"
    for path in sorted((ROOT / "scripts" / "plugin").glob("*.[ps][yh]")):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".sh":
            text = text.replace(METHOD, name).replace(f"scripts/{MODULE}", scripts)
        files[f"{scripts}/{path.name}"] = text.encode()
    return name, files


def is_other_method(path: Path) -> bool:
    """Whether a file is a module that registers another trainer than the plugin's."""
    own = path.parent != ROOT / "trainers" or path.stem == MODULE
    return not own and "\n@register\n" in path.read_text(encoding="utf-8")


def free_name(checkout: Path) -> str:
    """The trainer's own name, or another one where the checkout registers that or declares keys under it."""
    train = (checkout / TRAIN).read_text(encoding="utf-8", errors="replace")
    declared = re.search(rf"\bTRAINER\.{METHOD}\s*=", train)
    return f"{METHOD}Plugin" if declared or METHOD in registered_in(checkout) else METHOD


def registered_in(checkout: Path) -> set[str]:
    """The trainers that a checkout's modules register, by a decorator or a call."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (checkout / "trainers").rglob("*.py"))
    forms = (r"register\(.*\)\s*class\s+(\w+)", r"register\((?:.*\)\()?(\w+)\)")
    return {name for text in texts for form in forms for name in re.findall(form, text)}


def entry(name: str) -> str:
    """The module that `train.py` imports."""
    renamed = {METHOD: name} if name != METHOD else {}
    return (
        '"""BMIP as a plugin, written by install_plugin.py: importing it registers the trainer and its keys."""\n'
        "\n"
        "from .trainers.plugin import plug_in\n"
        "\n"
        f"plug_in({[MODULE]}, {renamed})\n"
    )


def recipe_paths(folder: Path) -> list[Path]:
    """The recipes of a method, as paths for `read_files`: its files, and those on bases alone with each variant."""
    paths = sorted(folder.glob("*.yaml"))
    for path in tuple(paths):
        if all(base.resolve().parent != folder for base, _ in read_files(path)[:-1]):
            paths += [path.with_name(f"{path.stem}_{variant}.yaml") for variant in variants_of(path)]
    return paths


def recipe(merged: dict[str, Any], path: Path, name: str) -> str:
    """The text of a recipe whose bases and variant are merged in, which Dassl does not do."""
    trainer = merged.setdefault("TRAINER", {})
    trainer["RECIPE"] = path.stem
    trainer[name.upper()] = trainer.pop(METHOD, {})
    own, _ = read_files(path)[-1]
    comments = [line for line in own.read_text().splitlines() if line.startswith("#")]
    comments.append("# Written by install_plugin.py, with all bases merged in.\n\n")
    return "\n".join(comments) + yaml.safe_dump(merged, sort_keys=False, default_flow_style=None, width=100)


def add_import(train: bytes, path: Path) -> tuple[bytes, int]:
    """Add the import after the last one of the checkout's own data sets and trainers, with that line's ending.

    Gives the changed file, and the number of the line before the new one.

    Raises:
        PluginError: there is no such import, or the plugin's is there already.
    """
    try:
        imports = [node for node in ast.parse(train).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    except SyntaxError as error:
        raise PluginError(f"{path} is not Python ({error}); restore it first.") from error
    names = [getattr(node, "module", node.names[0].name) or "" for node in imports]
    packages = [name.split(".")[0] for name in names]
    if PACKAGE in packages:
        raise PluginError(f"{path} imports {PACKAGE} already, but there is no {MANIFEST}; remove that line first.")
    lines = [node.end_lineno for node, package in zip(imports, packages) if package in ("trainers", "datasets")]
    if not lines:
        raise PluginError(
            f"{path} imports nothing of trainers or datasets, so it registers no trainers; see its imports."
        )
    parts = train.split(b"\n")
    parts.insert(lines[-1], IMPORT + (b"\r" if parts[lines[-1] - 1].endswith(b"\r") else b""))
    return b"\n".join(parts), lines[-1]


def advice(name: str, others: set[str]) -> str:
    """What to run next; `others` are the checkout's own trainers."""
    folder = f"scripts/{name.lower()}"
    other = next((trainer for trainer in COMPARED if trainer in others), "TRAINER:CFG")
    absent = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    note = f"\nThis Python lacks {', '.join(absent)}: python -m pip install {' '.join(absent)}" if absent else ""
    return f"""Now, in the checkout ({name} trains by its own train.py; configurations are in configs/trainers/{name}):
  export DATA=/path/to/datasets
  bash {folder}/base2new_train.sh eurosat 1      # train on the base classes and test them, seed 1
  bash {folder}/base2new_test.sh eurosat 1       # test that model on the new classes
  bash {folder}/compare.sh eurosat "1 2 3" {other}  # beside a trainer of the checkout, with a table{note}"""


# -------------------------------------------------------------------------------------------------------- uninstall


def uninstall(checkout: Path, force: bool = False, dry_run: bool = False) -> None:
    """Undo an installation, as its manifest tells it, whether or not it came to its end, or an earlier removal did.

    Files that it did not write, such as outputs, stay.

    Raises:
        PluginError: there is none, or files of it were changed since; nothing has been deleted then.
    """
    manifest = read_manifest(checkout)
    if manifest is None:
        left = leftovers(checkout)
        if not left:
            raise PluginError(f"{checkout / MANIFEST} is not there: the plugin is not installed in {checkout}.")
        print(f"{len(left)} leftovers of an unfinished installation {'would be' if dry_run else 'are'} deleted.")
        for path in () if dry_run else left:
            path.rmdir() if path.is_dir() else path.unlink()
        return
    present = present_files(checkout, manifest, force)
    train = (checkout / TRAIN).read_bytes()
    restored, note = remove_import(train, manifest["train"])
    print(f"  ~ {TRAIN}: {note}")
    if dry_run:
        print(f"{len(present)} files would be deleted; nothing was.")
        return
    if restored != train:
        write(checkout, TRAIN, restored, like=TRAIN)
    for path, changed in present.items():
        place, copy = checkout / path, checkout / ASIDE / path
        if changed:
            beside = place.with_name(f"{place.name}.changed")
            while beside.exists():
                beside = beside.with_name(f"{beside.name}.changed")
            place.replace(beside)
        if copy.is_file():
            move(copy, place)
        else:
            place.unlink(missing_ok=True)
    (checkout / PART).unlink(missing_ok=True)
    folders = {*manifest["folders"], *folders_of(f"{ASIDE}/{path}" for path in manifest["put_aside"])} - {".", PACKAGE}
    left = [folder for folder in sorted(folders, reverse=True) if not remove_folder(checkout / folder)]
    (checkout / MANIFEST).unlink()
    left += [PACKAGE] if not remove_folder(checkout / PACKAGE) else []
    for folder in top_most(sorted(left)):
        print(f"  . {folder}/ stays: there are files of yours in it")
    print(f"Deleted {len(present)} files.")


def present_files(checkout: Path, manifest: dict[str, Any], force: bool) -> dict[str, bool]:
    """The files of an installation that are still to be taken out, and whether each was changed since.

    Raises:
        PluginError: some were, or copies of files put aside are lost, unless by `force`.
    """
    present, changed = {}, []
    for path, ours in manifest["files"].items():
        original = manifest["put_aside"].get(path)
        now, copy = digest_of(checkout / path), digest_of(checkout / ASIDE / path)
        back = original and (now == original or now != ours)
        if copy is None and (now is None or back):
            continue
        present[path] = now not in (None, ours, original)
        changed += [path] * present[path] + [f"{ASIDE}/{path}"] * (copy != original)
    if changed and not force:
        raise PluginError(
            f"{shortened(changed)} in {checkout} changed since the installation; with --force, what is there is kept "
            "beside it, as NAME.changed."
        )
    return present


def leftovers(checkout: Path) -> list[Path]:
    """What an installation leaves that ended before its manifest was written, in the order to delete it in.

    Raises:
        PluginError: copies among it are not of what is in place, so they may be the only ones.
    """
    package, aside, part = (checkout / name for name in (PACKAGE, ASIDE, PART))
    inside = sorted(aside.rglob("*"), reverse=True)
    copies = {path.relative_to(aside).as_posix(): digest_of(path) for path in inside}
    check_no_links(checkout, copies)
    only = [path for path, copy in copies.items() if copy not in ("", digest_of(checkout / path))]
    if only:
        raise PluginError(
            f"{aside} has {shortened(only)} not as in {checkout}, and there is no {MANIFEST}, which would tell why. "
            "Move back what you need, and delete that folder."
        )
    found = [*inside, *(path for path in (aside, part) if path.exists())]
    return found + [package] * (package.is_dir() and {*package.iterdir()} <= {*found})


def remove_import(train: bytes, digests: dict[str, str]) -> tuple[bytes, str]:
    """`train.py` without the plugin's import, and in words what that means."""
    parts = train.split(b"\n")
    found = [number for number, part in enumerate(parts) if part.rstrip(b"\r") == IMPORT]
    restored = b"\n".join(part for number, part in enumerate(parts) if number not in found[:1])
    if not found:
        return train, "the import is gone already"
    if digest(restored) == digests["before"]:
        return restored, "as it was before"
    return restored, "without the import; your changes since the installation stay"


def remove_folder(folder: Path) -> bool:
    """Delete a folder that holds nothing but Python's caches; gives whether it is gone."""
    for path in (folder / "__pycache__").glob("*.pyc"):
        path.unlink()
    for empty in (folder / "__pycache__", folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    return not folder.exists()


# ------------------------------------------------------------------------------------------------------------ files


def read_manifest(checkout: Path) -> dict[str, Any] | None:
    """The record of an installation; None where there is none.

    Raises:
        PluginError: it is damaged, names what no installation writes, or leads over links.
    """
    check_no_links(checkout, [TRAIN, MANIFEST, PART])
    path = checkout / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
        files, put_aside = manifest["files"], manifest["put_aside"]
        if isinstance(put_aside, list):  # as earlier versions wrote it
            put_aside = manifest["put_aside"] = {name: digest_of(checkout / ASIDE / name) for name in put_aside}
        digests = [*files.values(), *put_aside.values(), manifest["train"]["before"]]
        sound = (
            all(OWN.fullmatch(name) and ".." not in name for name in files)
            and all(re.fullmatch("[0-9a-f]{64}", each) for each in digests)
            and {*put_aside} <= {*files}
            and {*manifest["folders"]} <= {*folders_of([*files, MANIFEST])}
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise PluginError(f"{path} is no record of an installation; restore it from your backup or git.")
    check_no_links(checkout, [*files, *(f"{folder}/__pycache__" for folder in manifest["folders"])])
    return manifest


def check_no_links(checkout: Path, paths: Iterable[str]) -> None:
    """A PluginError where a path, that of its copy put aside, or a folder on the way to them is a link."""
    both = [f"{start}{path}" for path in paths for start in ("", f"{ASIDE}/")]
    links = [path for path in (*folders_of(both), *both) if (checkout / path).is_symlink()]
    if links:
        raise PluginError(
            f"{checkout / links[0]} is a link, so what is written there would change something else; put a file or "
            "folder in its place."
        )


def folders_of(paths: Iterable[str]) -> list[str]:
    """All folders on the way to some paths, sorted."""
    return sorted({str(parent) for path in paths for parent in PurePosixPath(path).parents})


def top_most(folders: list[str]) -> list[str]:
    """Of folders those whose parents are none of them."""
    return [folder for folder in folders if str(PurePosixPath(folder).parent) not in folders]


def shortened(items: list[str]) -> str:
    """The first few items, and the number of the others."""
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of(path: Path) -> str | None:
    """A file's digest; None where there is nothing, and "" where there is something else."""
    return digest(path.read_bytes()) if path.is_file() else "" if path.exists() else None


def write(checkout: Path, path: str, content: bytes, like: str | None = None) -> None:
    """Write a file whole or not at all, with the permissions of the file `like`; a kill leaves no more than PART."""
    part = checkout / PART
    part.parent.mkdir(exist_ok=True)
    # A read-only one may be left.
    part.unlink(missing_ok=True)
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if like is not None:
        shutil.copymode(checkout / like, part)
    move(part, checkout / path)


def move(source: Path, target: Path) -> None:
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True)
    source.replace(target)


if __name__ == "__main__":
    sys.exit(main())
