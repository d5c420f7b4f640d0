"""Training the encoders themselves: what a plugin offers for it, and what the core does.

An encoder that can be trained names a ``Tuning`` for each aim, ``pretrain`` or ``tune``, in its
class attribute `tunings`. A Tuning is a set of options, as a component is; its ``prepare`` returns
the ``Trainee``: the network, what a batch of it is, and how it is saved in its published layout.
Everything else is the core's: samples, folds, the optimiser, precision, several devices, resuming,
scores and the folder.
"""

from mercore.tuning._options import Classifying, PicturePretraining, Tuning, Unlabelled
from mercore.tuning._policies import Policy, Train, trained_blocks, trains
from mercore.tuning._trainee import Example, Group, Rows, Trainee

__all__ = [
    "Classifying",
    "Example",
    "Group",
    "PicturePretraining",
    "Policy",
    "Rows",
    "Train",
    "Trainee",
    "Tuning",
    "Unlabelled",
    "trained_blocks",
    "trains",
]
