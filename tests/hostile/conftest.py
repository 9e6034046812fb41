"""No hostile file takes a gigabyte."""

from __future__ import annotations

import resource

import pytest


@pytest.fixture(autouse=True)
def little_memory():
    """The most memory that the process has ever held, in kB as Linux counts it, grows by less than 1 GiB in a test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
