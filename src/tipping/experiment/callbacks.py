"""Lightning callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import pytorch_lightning as pl
from torch import nn

from tipping.ablation import DropCurve
from tipping.visualize.draw import Picture

Measured = TypeVar("Measured")


class EveryFewEpochs(pl.Callback, Generic[Measured]):
    """Measures something of a network when it is tested, or every few epochs of its training.

    Args:
        measure: gives it for a network as it is now.
        on_measured: called with each result and the epochs trained; 0 stands for a network that was tested.
        every_n_epochs: after how many epochs of training to measure; 0 for never.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], Measured],
        on_measured: Callable[[Measured, int], None],
        every_n_epochs: int = 0,
    ) -> None:
        self.measure, self.on_measured, self.every_n_epochs = measure, on_measured, every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._measure(classifier, epoch)

    def on_test_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        self._measure(classifier, epoch=0)

    def _measure(self, classifier: pl.LightningModule, epoch: int) -> None:
        assert isinstance(classifier.model, nn.Module)
        self.on_measured(self.measure(classifier.model), epoch)


class AccuracyDropCurve(EveryFewEpochs[DropCurve]):
    """The accuracy-drop curve."""


class FilterPictures(EveryFewEpochs[dict[str, Picture]]):
    """Pictures of relevant filters, and of images explained."""
