"""What is told while the Trainer trains, and how it is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.integrations.integration_utils import TensorBoardCallback

from mercore.errors import RunError
from mercore.signals import taken
from mercore.tuning._options import Tuning
from mercore.tuning.folder import TuningFolder
from mercore.watch import Watch


def callbacks_of(
    name: str, tuning: Tuning, folder: TuningFolder, watch: Watch
) -> list[TrainerCallback]:
    """Return what tells how far the training `name` is, logs it, and ends it early."""
    return [_Telling(name, folder, watch), *_board(tuning, folder.board), *_early_stop(tuning)]


class _Telling(TrainerCallback):
    """Tells the watch how far the training is, and keeps its log."""

    def __init__(self, name: str, folder: TuningFolder, watch: Watch) -> None:
        self._name, self._folder, self._watch = name, folder, watch

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._watch.start(self._name, state.max_steps)
        self._watch.advance(self._name, state.global_step, 0)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._watch.advance(self._name, 1, 0)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self._folder.save_log(state.log_history)


class _Stop(TrainerCallback):
    """Ends the training after the step in flight, with a checkpoint."""

    def __init__(self) -> None:
        self.signal = 0

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.signal:
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.signal:  # the epoch has not come to its end, and is saved
            control.should_save = control.should_evaluate = False
        return control


@contextmanager
def in_order(loop: Trainer) -> Iterator[None]:
    """Let a signal end the training in order; it is passed on afterwards."""
    stop = _Stop()
    loop.add_callback(stop)

    def note(number: int, before: Any) -> None:
        signal.signal(number, before)  # the second one counts at once
        stop.signal = number

    with taken(note):
        yield
    if stop.signal:
        os.kill(os.getpid(), stop.signal)


def _board(tuning: Tuning, folder: Path) -> list[TrainerCallback]:
    """Return what writes the log for TensorBoard, where that is asked for."""
    if not tuning.tensorboard:
        return []
    try:
        callback = TensorBoardCallback()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise RunError(
            "`tensorboard: true` needs tensorboard, which is not installed; "
            "run `pip install tensorboard`"
        ) from error
    callback.logging_dir = str(folder)
    return [callback]


def _early_stop(tuning: Tuning) -> list[TrainerCallback]:
    """Return what ends the training when it gets no better."""
    return [EarlyStoppingCallback(tuning.patience)] if tuning.patience else []
