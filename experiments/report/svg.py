"""Matplotlib's figures as parts of a page: text as text, the page's colours, and names that no other figure has."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET

from .shown import Shown

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Black is the text's colour and white the ground's, both of which differ by day and night.
OF_PAGE = {"#000000": "currentColor", "#ffffff": "var(--ground)"}
COLOUR = re.compile("|".join(OF_PAGE), re.IGNORECASE)
REFERENCE = re.compile(r"url\(#([^)]+)\)")
# The page's font, in matplotlib's size; before matplotlib 3.10 it is part of a shorthand, which is void without one.
FAMILY = re.compile(r"(?<=px )'[^;]*(?=;|$)|(?<=font-family: )[^;]*")


def inline(text: str, name: str, title: str, description: str, shown: Shown) -> str:
    """An SVG file as an element of a page.

    Args:
        name: what its ids begin with.
        title, description: for readers who do not see it.
    """
    root = ET.fromstring(text)
    # Dates and addresses, which are of no use here, and a style that would be the whole page's.
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    used = set(REFERENCE.findall(text)) | set(re.findall(r'xlink:href="#([^"]+)"', text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        for key, value in [*element.attrib.items()]:
            del element.attrib[key]
            if key == "id":
                if value not in used:
                    continue
                value = f"{name}-{value}"
            elif key == f"{{{XLINK}}}href":
                key, value = "href", f"#{name}-{value[1:]}" if value.startswith("#") else value
            elif key == "d":
                value = " ".join(value.split())
            else:
                value = REFERENCE.sub(rf"url(#{name}-\1)", value)
                value = COLOUR.sub(lambda found: OF_PAGE[found[0].lower()], value)
                value = FAMILY.sub("var(--font)", value) if key == "style" else value
            if not key.startswith("{"):
                element.set(key, value)
        is_text = element.tag in ("text", "tspan")
        element.text = shown.text(element.text or "") if is_text else None
        element.tail = None
    children = "".join(ET.tostring(child, encoding="unicode") for child in root)
    words = {"title": title, "desc": description}
    told = "".join(f"<{tag} id={name}-{tag}>{html.escape(some)}</{tag}>" for tag, some in words.items())
    labels = f'role=img aria-labelledby="{name}-title" aria-describedby="{name}-desc"'
    return f'<svg viewBox="{html.escape(root.get("viewBox"))}" {labels}>{told}{children}</svg>'
