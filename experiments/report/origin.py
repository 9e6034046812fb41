"""Where the numbers come from: versions, commands, and configurations, as tables and KEY VALUE lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..store import Record, grouped
from ..tables.text import MISSING
from .parts import code, folded, grid
from .shown import Shown


def versions(records: Sequence[Record], shown: Shown) -> str:
    """A column for each environment, with the number of its records."""
    environments = grouped(records, lambda record: tuple((k, str(v)) for k, v in record.data["environment"].items()))
    keys = dict.fromkeys(key for some in environments for key, _ in some)
    lines = []
    for key in keys:
        cells = "".join(f"<td class=text>{shown.html(dict(some).get(key, MISSING))}</td>" for some in environments)
        lines.append(f"<tr><th scope=row>{shown.html(key)}</th>{cells}</tr>")
    headers = ["version of", *(f"{len(some)} records" for some in environments.values())]
    return grid(headers, lines, "versions", shown, texts=len(headers))


def settings(configuration: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Keys, with dots, and values; those that are empty have none."""
    for key, value in sorted(configuration.items(), key=lambda item: str(item[0])):
        key = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from settings(value, f"{key}.")
        elif isinstance(value, (list, tuple)):
            yield key, ", ".join(map(str, value)) or MISSING
        else:
            yield key, MISSING if value is None or value == "" else str(value)


def lines(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"{key} {value}" for key, value in pairs.items())


def origins(records: Sequence[Record], shown: Shown) -> str:
    """Of each method and data set the commands, and the configuration of its first training."""
    by_model = sorted(grouped(records, lambda record: (record.method, record.learned["dataset"])).items())
    ordered = {
        model: sorted(some, key=lambda record: (not record.data["trained"], record.seed, str(record.path)))
        for model, some in by_model
    }
    own = {model: dict(settings(some[0].data["configuration"])) for model, some in ordered.items()}
    first, *others = own.values()
    common = {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}
    common = common if others else {}
    parts = [folded(f"Settings that all {len(own)} have in common", code(lines(common), shown))] if common else []
    for (method, dataset), some in ordered.items():
        title = shown.html(f"{method} on {dataset}: {len(some)} run{'s' * (len(some) > 1)}")
        pairs = {key: value for key, value in own[method, dataset].items() if key not in common}
        commands = code("\n".join(record.command for record in some), shown)
        parts.append(folded(title, commands + (code(lines(pairs), shown) if pairs else "")))
    return "\n".join(parts)
