"""Icon families that pip packages ship as fonts, and what their glyphs are named after.

Fonts and lists of names are read where pip installed them; nothing of them is kept here. A glyph's name says a
concept and, often, a cut: Phosphor's "calendar-check-bold" is the concept "calendar check" in bold. Names and
drawings change between versions, so each family is known by a digest of its files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainers.prompting.errors import InputError


class Glyph(NamedTuple):
    font: str  # path
    char: str


@dataclass(frozen=True)
class Family:
    """Fonts of one designer, or of one community."""

    package: str
    version: str
    folder: str  # below the package's
    files: tuple[tuple[str, str], ...]  # each font with its list of names
    marks: str  # expression of what a name says beside the concept
    digest: str  # the start of the files' SHA-256

    @property
    def paths(self) -> list[tuple[Path, Path]]:
        """The fonts and their lists of names, which must be those of the version."""
        # Finding a package runs nothing of it.
        spec = importlib.util.find_spec(self.package)
        remedy = f"run: pip install --no-deps {self.package.replace('_', '-')}=={self.version}"
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"{self.package} is not installed, whose fonts draw the icons; {remedy}")
        folder = Path(spec.submodule_search_locations[0], self.folder)
        paths = [(folder / font, folder / names) for font, names in self.files]
        try:
            found = hashlib.sha256(b"".join(path.read_bytes() for pair in paths for path in pair)).hexdigest()
        except OSError:
            found = ""
        if not found.startswith(self.digest):
            raise InputError(f"the fonts in {folder} are not those of {self.package} {self.version}; {remedy}")
        return paths

    def concept(self, name: str) -> str:
        """The words of a glyph's name without its marks."""
        return " ".join(re.split("[-_ ]+", re.sub(self.marks, "", name.lower())))

    def glyphs(self) -> dict[str, list[Glyph]]:
        """All glyphs by concept, in the order of the lists of names; a glyph of two names counts for each once."""
        found: dict[str, dict[Glyph, None]] = {}
        for font, names in self.paths:
            for name, code in json.loads(names.read_text(encoding="utf-8")).items():
                # Code points are numbers, or hexadecimal with or without "0x".
                code = code if isinstance(code, int) else int(code, 16)
                found.setdefault(self.concept(name), {})[Glyph(str(font), chr(code))] = None
        return {concept: list(glyphs) for concept, glyphs in found.items()}


def _qtawesome(*versions: str, marks: str, digest: str) -> Family:
    """Families of QtAwesome; `versions` are the names of the fonts with their versions."""
    files = tuple(
        (f"{name}-{version}.ttf", f"{name}-charmap-{version}.json")
        for name, version in (font.rsplit("-", 1) for font in versions)
    )
    return Family("qtawesome", "1.4.2", "fonts", files, marks, digest)


def _tkinter_icons(name: str, version: str, *fonts: tuple[str, str], marks: str, digest: str, folder: str = "."):
    return Family(f"tkinter_icons_{name}", version, folder, fonts, marks, digest)


EVALUATED = {
    "Phosphor": _qtawesome("phosphor-1.3.0", marks="-(bold|fill|light|thin)$", digest="68849993ca311dfb"),
    "Remix": _qtawesome("remixicon-2.5.0", marks=r"(-\d)?-(line|fill)$", digest="bcab7b04fd943ec2"),
    "Material": _tkinter_icons(
        *("gmi", "1.1.2"),
        ("fonts/MaterialIcons-Regular.ttf", "glyphmap-baseline.json"),
        ("fonts/MaterialIconsOutlined-Regular.otf", "glyphmap-outlined.json"),
        ("fonts/MaterialIconsRound-Regular.otf", "glyphmap-round.json"),
        ("fonts/MaterialIconsSharp-Regular.otf", "glyphmap-sharp.json"),
        marks="(_outlined?|_filled|_alt)+$",
        digest="3a219770a1ab1e58",
    ),
    "Fluent": _tkinter_icons(
        *("fluent", "1.1.1"),
        ("fonts/FluentSystemIcons-Regular.ttf", "glyphmap-regular.json"),
        ("fonts/FluentSystemIcons-Filled.ttf", "glyphmap-filled.json"),
        ("fonts/FluentSystemIcons-Light.ttf", "glyphmap-light.json"),
        marks=r"^ic-fluent-|-\d+-(regular|filled|light)$",
        digest="b708a1221bbb8033",
    ),
}
# What the tiny CLIP is pre-trained on. Those of QtAwesome also decide on the classes of the data sets.
NAMING = {
    "MaterialDesign": _qtawesome(
        "materialdesignicons6-webfont-6.9.96", marks="(-outline|-variant)+$", digest="c746e97ae3070386"
    ),
    "FontAwesome": _qtawesome(
        "fontawesome6-solid-webfont-6.7.2",
        "fontawesome6-regular-webfont-6.7.2",
        "fontawesome5-solid-webfont-5.15.4",
        "fontawesome5-regular-webfont-5.15.4",
        marks="-alt$",
        digest="4e597bb697d92469",
    ),
    "Codicons": _qtawesome("codicon-0.0.36", marks="(-(filled|outline|small|large|alt))+$", digest="d6b6503ee34bcadb"),
    "Elusive": _qtawesome("elusiveicons-webfont-2.0", marks="-alt$", digest="8553c673f9f95d27"),
}
PRETRAINING = {
    **NAMING,
    "Lucide": _tkinter_icons(
        "lucide", "1.1.1", ("fonts/lucide.ttf", "glyphmap.json"), marks=r"^icon-|-\d+$", digest="d6acb5d61f45008a"
    ),
    "Bootstrap": _tkinter_icons(
        *("bs", "1.1.1"),
        ("bootstrap.ttf", "glyphmap.json"),
        marks="(-fill|-alt|-lg)+$",
        digest="9f4423c8cb225996",
        folder="assets",
    ),
    "Ionicons": _tkinter_icons(
        *("ion", "1.1.1"),
        ("fonts/ionicons.ttf", "glyphmap.json"),
        marks="^(ion-)?(ios-|android-|social-)?|(-outline|-empty|-strong|-alt|-[abc])+$",
        digest="ebad7d741bbee77f",
    ),
    "Eva": _tkinter_icons(
        "eva",
        "1.1.1",
        ("fonts/eva-icons.ttf", "glyphmap.json"),
        marks=r"^eva-|(-outline|-\d)+$",
        digest="1f63dbbb9dfdb1fb",
    ),
}
