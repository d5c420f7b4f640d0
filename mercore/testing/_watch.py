"""A script: load a plugin and print which heavy packages that imported, and from which module.

Arguments: the heavy packages as JSON, then what to load as ``module`` or ``module:attribute``.
Prints JSON: heavy package to the module that imported it first.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint

HOOKS = ("preprocessors", "encoders", "fusions", "ensembles")


class Watch:
    """An import finder that finds nothing and notes who asked."""

    def __init__(self, heavy: set[str]) -> None:
        self._heavy = heavy
        self.asked: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Note the module that imports a heavy package."""
        if name in self._heavy:
            self.asked.setdefault(name, _importer())


def _importer() -> str:
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals["__name__"].startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals["__name__"])


def _main() -> None:
    watch = Watch(set(json.loads(sys.argv[1])))
    sys.meta_path.insert(0, watch)
    plugin = EntryPoint("plugin", sys.argv[2], "mercore").load()
    for hook in HOOKS:  # `mer plugins` calls them, so what they import counts too
        if hasattr(plugin, hook):
            getattr(plugin, hook)()
    # Asking whether a package is installed looks for it too, and is no import.
    found = {name: by for name, by in watch.asked.items() if name in sys.modules}
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
