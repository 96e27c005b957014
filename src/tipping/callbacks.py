"""Lightning callbacks."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
from torch import nn

from tipping.evaluation import DropCurve


class AccuracyDropCurve(pl.Callback):
    """Measures the accuracy-drop curve of a network when it is tested, or every few epochs of its training.

    Args:
        measure: gives the curve of a network as it is now.
        every_n_epochs: after how many epochs of training to measure; 0 for never.
        on_curve: called with each curve and its epoch.

    Attributes:
        curves: the curves by epochs trained; 0 stands for the network that was tested.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], DropCurve],
        every_n_epochs: int = 0,
        on_curve: Callable[[DropCurve, int], None] = lambda curve, epoch: None,
    ) -> None:
        self.measure, self.every_n_epochs, self.on_curve = measure, every_n_epochs, on_curve
        self.curves: dict[int, DropCurve] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._measure(classifier, epoch)

    def on_test_end(self, trainer: pl.Trainer, classifier: pl.LightningModule) -> None:
        self._measure(classifier, epoch=0)

    def _measure(self, classifier: pl.LightningModule, epoch: int) -> None:
        assert isinstance(classifier.model, nn.Module)
        self.curves[epoch] = self.measure(classifier.model)
        self.on_curve(self.curves[epoch], epoch)
