"""Published fusions for mercore, one a module: networks and scikit-learn's classifiers."""

from __future__ import annotations

from mercore import Fusion, hookimpl
from mercore_fusions.concat import Concat
from mercore_fusions.gated import Gated
from mercore_fusions.lmf import Lmf
from mercore_fusions.mult import Mult
from mercore_fusions.sklearn import Sklearn
from mercore_fusions.tfn import Tfn

__version__ = "0.1.0"

__all__ = ["Concat", "Gated", "Lmf", "Mult", "Sklearn", "Tfn"]


@hookimpl
def fusions() -> list[type[Fusion]]:
    """Return the fusions this plugin provides."""
    return [Concat, Gated, Lmf, Mult, Sklearn, Tfn]
