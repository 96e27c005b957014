"""Training and testing a network with Lightning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tipping import config
from tipping.data import Batches, Dataset, evaluation_batches
from tipping.errors import InputError
from tipping.models import OURS, load_checkpoint, source_digest
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
    torch.backends.cudnn.allow_tf32 = False  # responses and accuracies as on a CPU
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0)  # the one that Lightning takes; by its number, as tensors name it


def train(
    model: nn.Module,
    dataset: Dataset,
    options: config.Trainer,
    seed: int,
    *,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | None = None,
) -> None:
    """Train the network in place, on the device of its data.

    The same seed gives the same weights on the same machine with the same number of threads.

    Raises:
        InputError: the weights are no longer finite at the end, or tf32 is asked for without a GPU.
    """
    device = dataset.train.labels_N.device
    batches = Batches(dataset.train, options.batch_size, seed)
    if options.precision == "tf32" and device.type != "cuda":
        raise InputError("trainer.precision=tf32: only a GPU has it; give float32 or bf16")
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if options.precision == "bf16" else "32-true"
    total = options.max_epochs * len(batches)
    line = tqdm(total=total, desc="training", unit=" batches", leave=False, disable=None)
    moving = LambdaCallback(on_train_batch_end=lambda *_: line.update())
    every = min(50, len(batches))
    trainer = _trainer(device, [moving, *callbacks], logger, options.max_epochs, every, precision)
    tf32 = options.precision == "tf32"
    with line, torch.random.fork_rng([device] if device.type == "cuda" else []), _deterministic(tf32):
        torch.manual_seed(seed)
        trainer.fit(Classifier(model, options.learning_rate), batches)
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"trainer.learning_rate={options.learning_rate}: the training diverged; give a smaller one")
    model.to(device).eval()


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
    """Give the model the weights of the configured network: of its checkpoint, its own if its class says that it is
    `trained`, from the store, or trained now and kept there.

    Raises:
        InputError: the checkpoint or stored network does not fit the model, or the training diverged.
    """
    checkpoint = options.model.get("checkpoint")
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
        model.to(dataset.train.labels_N.device).eval()
        return Item(dict(model.state_dict()), f"checkpoint {checkpoint}", Path(checkpoint), found=True)
    if getattr(model, "trained", False) is True:
        model.to(dataset.train.labels_N.device).eval()
        target = options.model["_target_"]
        return Item(dict(model.state_dict()), f"set by {target}", Path(target), found=True)

    def make() -> dict[str, Tensor]:
        log.info("training %s on %s, seed %d", options.model["name"], dataset.name, options.seed)
        train(model, dataset, options.trainer, options.seed, callbacks=callbacks, logger=logger)
        return model.state_dict()

    recipe = {
        "model": {
            option: float(value) if isinstance(value, int) else value  # a dropout of 0 is one of 0.0
            for option, value in options.model.items()
            if option not in OURS
        },
        "trainer": asdict(options.trainer),
        "data": dataset.name,
        "images": dataset.train.fingerprint,
        "seed": options.seed,
    }
    if code := source_digest(options.model["_target_"]):
        recipe["source"] = code
    item = store.fetch("networks", recipe, make, anew)
    try:
        model.load_state_dict(item.tensors)
    except RuntimeError as error:
        raise InputError(f"{item.path} is of another architecture: delete it, and the next job trains anew") from error
    model.to(dataset.train.labels_N.device).eval()
    log.info("network %s: %s", item.key, "found in the store" if item.found else "trained")
    return item


def evaluate(model: nn.Module, dataset: Dataset, callbacks: Sequence[pl.Callback] = ()) -> float:
    """The network's accuracy on the test images, in [0, 1]; callbacks see the end of the test."""
    device = dataset.test.labels_N.device
    trainer = _trainer(device, callbacks, None, max_epochs=1, log_every_n_steps=1)
    (metrics,) = trainer.test(Classifier(model, learning_rate=0.0), evaluation_batches(dataset.test), verbose=False)
    model.to(device).eval()  # Lightning leaves it on the CPU
    return round(metrics["test/accuracy"] * len(dataset.test)) / len(dataset.test)  # Lightning's mean is in float32


@contextmanager
def _deterministic(tf32: bool) -> Iterator[None]:
    """The same convolution kernels each time, in TF32 or not; the other layers used here have no others."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _trainer(
    device: torch.device,
    callbacks: Sequence[pl.Callback],
    logger: Logger | None,
    max_epochs: int,
    log_every_n_steps: int,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=max_epochs,
        log_every_n_steps=log_every_n_steps,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=precision,
        callbacks=list(callbacks),
        logger=logger or False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,  # Lightning's would break the other lines on a terminal
    )
