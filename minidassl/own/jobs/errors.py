"""What a user can mend."""

from __future__ import annotations


class JobsError(ValueError):
    """Wrong flags, devices or clusters; the message names the value, what is allowed and the remedy."""
