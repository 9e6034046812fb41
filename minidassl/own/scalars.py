"""TensorBoard's events. A failure to write them costs the events alone, never the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def open_writer(log_dir: str) -> ScalarWriter | None:
    """A writer of events into a folder; None, with a note, without TensorBoard."""
    try:
        # Imported here because it loads slowly, and evaluation never writes.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("Note: TensorBoard is not installed, no scalars are written")
        return None
    print(f"Initialize tensorboard (log_dir={log_dir})")
    threading.excepthook = _of_thread
    return ScalarWriter(lambda: SummaryWriter(log_dir=log_dir))


class ScalarWriter:
    """The methods of the ``SummaryWriter`` that ``make`` returns; after the first ``OSError`` they do nothing."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._writer: Any = None
        self._writer = self._tried(make)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *values: self._writer and self._tried(lambda: getattr(self._writer, name)(*values))

    def _tried(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            print(f"Note: TensorBoard's events cannot be written ({error}); the run goes on without them")
            self._writer = None
            return None


def _of_thread(failed: threading.ExceptHookArgs) -> None:
    """Python's hook, without the errors of TensorBoard's thread, which its next method raises again."""
    if not (type(failed.thread).__module__.startswith("tensorboard") and issubclass(failed.exc_type, OSError)):
        threading.__excepthook__(failed)
