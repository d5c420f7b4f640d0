"""The errors mercore raises on purpose.

::

    MercoreError
    ├── RegistryError      registry.yaml, or a component's options
    ├── ManifestError      the list of samples
    ├── PluginError        a plugin or component that is missing, broken or in conflict
    ├── InputError         one sample's media cannot be used (also a ValueError)
    ├── CheckpointError    weights that are missing or do not fit
    ├── StoreError         the feature store
    │   └── DamagedError   a file of it is not what was written; `mer repair` drops it
    └── RunError           a run folder, or a training that cannot be done
        └── DeviceError    a GPU that is of no use to this process any more

Messages say where, what was found, what was expected and what to do next. The command line prints
a MercoreError as one ``Error:`` line; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MercoreError(Exception):
    """Base of all errors that a user can cause and cure."""


class RegistryError(MercoreError):
    """registry.yaml or the options of a component are wrong."""


class ManifestError(MercoreError):
    """The manifest is wrong."""


class PluginError(MercoreError):
    """A plugin or a component is missing, broken or in conflict with another."""


class InputError(MercoreError, ValueError):
    """The media of one sample cannot be used; raised by decoding and by components."""


class SilentError(InputError):
    """Audio is silent: every sample is zero."""


class CheckpointError(MercoreError):
    """Weights are missing, incomplete or of another model."""


class StoreError(MercoreError):
    """The feature store cannot be read or written."""


class DamagedError(StoreError):
    """A file of the feature store is not what was written; ``mer repair`` drops it."""


class RunError(MercoreError):
    """A run folder is incomplete, or a training is not possible."""


class DeviceError(RunError):
    """A GPU failed in a way that this process cannot go on from; another one can."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the name nearest to `name`, or ``""``."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def listed(mistakes: Iterable[str]) -> str:
    """Return the mistakes one a line, indented, for a message that reports them all at once."""
    return "".join(f"\n  {mistake}" for mistake in mistakes)


def few(names: Sequence[str]) -> str:
    """Return the first five names in a row, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
