"""Where extraction runs: in this process, or in worker processes, one a device.

An engine decides which process gets which samples of a stream or feature; what a process does with
them is ``mercore.extraction.Extraction``. Results go from the process that computes them straight
into the store, whose writers share nothing.
"""

from mercore.engines._engine import Engine, InProcess, engine_of
from mercore.engines._handout import Handout
from mercore.engines._processes import Processes

__all__ = ["Engine", "Handout", "InProcess", "Processes", "engine_of"]
