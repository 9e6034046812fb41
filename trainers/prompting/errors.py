"""The one exception that means "the input is wrong, and here is the remedy"."""


class InputError(ValueError):
    """A configuration value, file or folder that cannot be used.

    The message names the key or path, the value found, what is allowed, and the remedy. ``train.py`` prints it
    without a traceback, as it does what Dassl refuses while a run is built; what goes wrong later is a defect and
    keeps its traceback.
    """
