"""Training the encoders themselves: what a plugin offers for it, and what the core does.

An encoder that can be trained names a ``Tuning`` for each aim, ``pretrain`` or ``tune``, in its
class attribute `tunings`. A Tuning is a set of options, as a component is; its ``prepare`` returns
the ``Trainee``: the network, what a batch of it is, and how it is saved in its published layout.
Everything else is the core's: samples, folds, the optimiser, precision, several devices, resuming,
scores and the folder. A preprocessor that recognises speech names a ``SelfTraining`` in the same
place; its ``prepare`` returns a ``Recogniser``.
"""

from mercore.tuning._options import (
    Classifying,
    PicturePretraining,
    Training,
    Tuning,
    Unlabelled,
)
from mercore.tuning._policies import Policy, Train, trained_blocks, trains
from mercore.tuning._recognising import Note, Recogniser, SelfTraining, UnfitError, Utterance
from mercore.tuning._trainee import Example, Group, Rows, Trainee

__all__ = [
    "Classifying",
    "Example",
    "Group",
    "Note",
    "PicturePretraining",
    "Policy",
    "Recogniser",
    "Rows",
    "SelfTraining",
    "Train",
    "Trainee",
    "Training",
    "Tuning",
    "UnfitError",
    "Unlabelled",
    "Utterance",
    "trained_blocks",
    "trains",
]
