"""Training and testing a network with Lightning."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional

from tipping import config
from tipping.config import InputError
from tipping.data import Batches, Dataset, Split, evaluation_batches
from tipping.store import Item, Store

log = logging.getLogger(__name__)


class Classifier(pl.LightningModule):
    """A network under cross-entropy and RMSprop, with Keras's decay of 0.9 and epsilon of 1e-7 [chollet2015]."""

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.model, self.learning_rate = model, learning_rate

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.model(images_NCHW)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images_NCHW, labels_N = batch
        loss = functional.cross_entropy(self(images_NCHW), labels_N)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels_N))
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images_NCHW, labels_N = batch
        correct_N = self(images_NCHW).argmax(1) == labels_N
        self.log("test/accuracy", correct_N.float().mean(), batch_size=len(labels_N))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(self.parameters(), lr=self.learning_rate, alpha=0.9, eps=1e-7)


def pick_device(wanted: str) -> torch.device:
    """The configured device; `auto` is a GPU when there is one.

    Raises:
        InputError: cuda is asked for and not there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine has no GPU that torch can use; give device=cpu or device=auto")
    return torch.device("cuda" if torch.cuda.is_available() and wanted != "cpu" else "cpu")


def train(
    model: nn.Module,
    dataset: Dataset,
    options: config.Trainer,
    seed: int,
    *,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | None = None,
) -> None:
    """Train the network in place, on the device of its data; same seed, same machine: same weights.

    Raises:
        InputError: the weights are no longer finite at the end.
    """
    trainer = _trainer(dataset.train, callbacks, logger, max_epochs=options.max_epochs)
    with torch.random.fork_rng(), _deterministic():
        torch.manual_seed(seed)
        trainer.fit(Classifier(model, options.learning_rate), Batches(dataset.train, options.batch_size, seed))
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"trainer.learning_rate={options.learning_rate}: the training diverged; give a smaller one")
    model.to(dataset.train.labels_N.device).eval()


def find_or_train(
    model: nn.Module,
    dataset: Dataset,
    options: config.Config,
    store: Store,
    *,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | None = None,
    anew: bool = False,
) -> Item:
    """Give the model the weights of the configured network: from the store, or trained now and kept there.

    Raises:
        InputError: the stored network does not fit the model, or the training diverged.
    """

    def make() -> dict[str, Tensor]:
        log.info("training %s on %s, seed %d", options.model["name"], dataset.name, options.seed)
        train(model, dataset, options.trainer, options.seed, callbacks=callbacks, logger=logger)
        return model.state_dict()

    recipe = {
        "model": options.model,
        "trainer": asdict(options.trainer),
        "data": dataset.name,
        "images": dataset.train.fingerprint(),
        "seed": options.seed,
    }
    item = store.fetch("networks", recipe, make, anew)
    try:
        model.load_state_dict(item.tensors)
    except RuntimeError as error:
        raise InputError(f"{item.path} is of another architecture: delete it, and the next job trains anew") from error
    model.to(dataset.train.labels_N.device).eval()
    log.info("network %s: %s", item.key, "found in the store" if item.found else "trained")
    return item


def evaluate(
    model: nn.Module, dataset: Dataset, *, callbacks: Sequence[pl.Callback] = (), logger: Logger | None = None
) -> float:
    """The network's accuracy on the test images, in [0, 1]; callbacks see the end of the test."""
    trainer = _trainer(dataset.test, callbacks, logger, max_epochs=1)
    batches = evaluation_batches(dataset.test)
    (metrics,) = trainer.test(Classifier(model, learning_rate=0.0), batches, verbose=False)
    model.to(dataset.test.labels_N.device).eval()
    return round(metrics["test/accuracy"] * len(dataset.test)) / len(dataset.test)  # Lightning's mean is in float32


@torch.inference_mode()
def accuracy(model: nn.Module, split: Split) -> float:
    """The share of images whose largest logit is their label's, in [0, 1]."""
    batches = evaluation_batches(split)
    correct = sum((model(images_NCHW).argmax(1) == labels_N).sum() for images_NCHW, labels_N in batches)
    return int(correct) / len(split)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels where there are any; a warning where there are none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _trainer(split: Split, callbacks: Sequence[pl.Callback], logger: Logger | None, max_epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator="gpu" if split.labels_N.is_cuda else "cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=logger or False,
        log_every_n_steps=1,
        enable_progress_bar=sys.stderr.isatty(),
        enable_checkpointing=False,
        enable_model_summary=False,
    )
