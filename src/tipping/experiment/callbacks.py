"""Lightning callbacks that measure a network during its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import pytorch_lightning as pl
from torch import nn

from tipping.ablation import DropCurve
from tipping.visualize.draw import Picture

Measured = TypeVar("Measured")


class EveryFewEpochs(pl.Callback, Generic[Measured]):
    """A callback that measures a network when it is tested, and every few epochs of its training.

    Args:
        measure: measures a network as it is at that moment.
        on_measured: called with each result and the number of epochs trained; 0 for a network that is tested.
        every_n_epochs: the number of epochs of training between two measurements; 0 to measure after tests only.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], Measured],
        on_measured: Callable[[Measured, int], None],
        every_n_epochs: int = 0,
    ) -> None:
        self.measure, self.on_measured, self.every_n_epochs = measure, on_measured, every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        """Measure the network, if this epoch is one of every `every_n_epochs`."""
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._measure(classifier, epoch)

    def on_test_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        """Measure the network that was tested."""
        self._measure(classifier, epoch=0)

    def _measure(self, classifier: pl.LightningModule, epoch: int) -> None:
        assert isinstance(classifier.model, nn.Module)
        self.on_measured(self.measure(classifier.model), epoch)


class AccuracyDropCurve(EveryFewEpochs[DropCurve]):
    """A callback that measures the accuracy-drop curve."""


class FilterPictures(EveryFewEpochs[dict[str, Picture]]):
    """A callback that draws relevant filters, and explanations of images."""
