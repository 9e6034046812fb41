"""The data sets of the protocols, by the names of their files in configs/datasets, as `datasets/table.py` has them."""

from __future__ import annotations

from datasets.table import ROWS
from trainers.prompting import recipes

FOLDER = "configs/datasets"
_FILES = {registered: file for file, registered in recipes.data_sets().items()}
# Without files that cannot be read, which are refused where they are asked for.
ROW_OF = {_FILES[row.name]: row for row in ROWS if row.name in _FILES}
BUILTIN = tuple(name for name, row in ROW_OF.items() if row.write)
SOURCE_OF = {name: _FILES[row.domain_of] for name, row in ROW_OF.items() if row.domain_of in _FILES}
# The data sets that models are tested on for domain generalization, by the one that they learned.
DOMAINS = {source: tuple(one for one in SOURCE_OF if SOURCE_OF[one] == source) for source in SOURCE_OF.values()}
# The data sets of the published tables: open world, base-to-new, and targets of models of ImageNet.
FIFTEEN = tuple(name for name, row in ROW_OF.items() if row.published)
ELEVEN = tuple(name for name in FIFTEEN if name not in SOURCE_OF)
TARGETS = tuple(name for name in ELEVEN if name not in DOMAINS)
# Those that the authors of BMIP have a recipe for, beside the fifteen.
REMOTE_SENSING = tuple(name for name, row in ROW_OF.items() if row.remote_sensing)
FILES = tuple(recipes.data_sets())
# The file in configs/datasets of a registered name, without its ending; None if there is none.
config_name = _FILES.get


def file_name(name: str) -> str:
    """The file in configs/datasets of a registered name; another name as it is."""
    return config_name(name) or name


def collection_of(name: str) -> str:
    """Whose data set a file in configs/datasets is: averages are over those of one collection."""
    collections = {"built-in": BUILTIN, "published": FIFTEEN, "remote sensing": REMOTE_SENSING}
    return next((collection for collection, names in collections.items() if name in names), "own")
