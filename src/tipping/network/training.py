"""Train and test a network with Lightning. Lightning takes seconds to load: only training and testing import it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from tqdm import tqdm

from tipping.data import Batches, Dataset, Split, evaluation_batches
from tipping.errors import InputError
from tipping.network.outputs import require_logits

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no hints
log = logging.getLogger(__name__)


class Metrics(Logger):
    """A Lightning logger that passes each metric of a training and its step to a function."""

    def __init__(self, on_metrics: Callable[[dict[str, float], int | None], None]) -> None:
        super().__init__()
        self.on_metrics = on_metrics

    @property
    def name(self) -> None:
        """None: the logger writes nothing to disk."""
        return None

    @property
    def version(self) -> None:
        """None: the logger writes nothing to disk."""
        return None

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Ignore hyperparameters: a job records its whole configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass metrics and their step to the function."""
        self.on_metrics(metrics, step)


class Classifier(pl.LightningModule):
    """A network trained on cross-entropy by RMSprop, with Keras's decay of 0.9 and epsilon of 1e-7 [chollet2015]."""

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.model, self.learning_rate = model, learning_rate

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the logits (N, C), also of a network that in training gives others beside them."""
        name = f"{type(self.model).__name__} in training"
        return require_logits(self.model(images_NCHW), len(images_NCHW), name)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the cross-entropy of a batch, and log it."""
        images_NCHW, labels_N = batch
        loss = functional.cross_entropy(self(images_NCHW), labels_N)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels_N))
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log the accuracy on a batch."""
        images_NCHW, labels_N = batch
        correct_N = self(images_NCHW).argmax(1) == labels_N
        self.log("test/accuracy", correct_N.float().mean(), batch_size=len(labels_N))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return RMSprop with Keras's decay and epsilon."""
        return torch.optim.RMSprop(self.parameters(), lr=self.learning_rate, alpha=0.9, eps=1e-7)


class _WithoutSingle(Batches):
    """Batches without a last one of a single image."""

    def __len__(self) -> int:
        return super().__len__() - 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for batch in super().__iter__() if len(batch[1]) > 1)


def _batches(model: nn.Module, split: Split, size: int, seed: int) -> Batches:
    """Return the batches of a training, without a last one of a single image if the network cannot be trained on one.

    Raises:
        InputError: every batch is of a single image, and the network cannot be trained on one.
    """
    if len(split) % size > 1 or (len(split) % size == 0 and size > 1) or _takes_one(model, split[:1].images_NCHW):
        return Batches(split, size, seed)
    if size == 1 or len(split) == 1:
        raise InputError(f"trainer.batch_size={size}: normalisation over a batch needs more images; give more")
    log.info("the last image of each epoch is left out: it would be a batch by itself, which cannot be normalised")
    return _WithoutSingle(split, size, seed)


def _takes_one(model: nn.Module, image_1CHW: Tensor) -> bool:
    """Return whether a network can be trained on a single image, which batch normalisation of 1x1 maps refuses."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # running means are left as they are
    device = next((weight.device for weight in model.parameters()), image_1CHW.device)  # it may not have been moved yet
    try:
        with torch.random.fork_rng(_cards(device)), torch.no_grad():
            functional_call(model.train(), buffers, (image_1CHW.to(device, copy=True),))
    except ValueError as error:
        if "more than 1 value per channel" in str(error):  # by torch
            return False
        raise
    finally:
        for module, mode in modes.items():
            module.training = mode
    return True


def _cards(device: torch.device) -> list[torch.device]:
    """Return the devices, beside the CPU, whose random numbers a training draws."""
    return [device] if device.type == "cuda" else []


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    precision: str = "float32",
    callbacks: Sequence[pl.Callback] = (),
    on_metrics: Callable[[dict[str, float], int | None], None] | None = None,
) -> None:
    """Train the network in place, on the device of the data set.

    The same seed gives the same weights on the same machine with the same number of threads.

    Args:
        batch_size: images in a batch.
        learning_rate: the learning rate of RMSprop.
        seed: the seed of the order of the images, and of dropout.
        precision: `float32`, `tf32` (on a GPU) or `bf16`.
        on_metrics: a function called with metrics of the training and their step.

    Raises:
        InputError: the weights are not finite after training, `tf32` is asked for without a GPU, the network gives no
            logits in training, or it cannot be trained on batches of this size.
    """
    device = dataset.train.labels_N.device
    batches = _batches(model, dataset.train, batch_size, seed)
    if precision == "tf32" and device.type != "cuda":
        raise InputError("trainer.precision=tf32: only a GPU has it; give float32 or bf16")
    mode: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if precision == "bf16" else "32-true"
    total = max_epochs * len(batches)
    line = tqdm(total=total, desc="training", unit=" batches", leave=False, disable=None)
    progress = LambdaCallback(on_train_batch_end=lambda *_: line.update())
    every = min(50, len(batches))
    logger = Metrics(on_metrics) if on_metrics else None
    trainer = _trainer(device, [progress, *callbacks], logger, max_epochs, every, mode)
    tf32 = precision == "tf32"
    with line, torch.random.fork_rng(_cards(device)), _deterministic(tf32):
        torch.manual_seed(seed)
        trainer.fit(Classifier(model, learning_rate), batches)
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise InputError(f"trainer.learning_rate={learning_rate}: the training diverged; give a smaller one")
    model.to(device).eval()


def evaluate(model: nn.Module, dataset: Dataset, callbacks: Sequence[pl.Callback] = ()) -> float:
    """Return the network's accuracy on the test images, in [0, 1].

    Args:
        callbacks: Lightning callbacks of the test.
    """
    device = dataset.test.labels_N.device
    trainer = _trainer(device, callbacks, None, max_epochs=1, log_every_n_steps=1)
    (metrics,) = trainer.test(Classifier(model, learning_rate=0.0), evaluation_batches(dataset.test), verbose=False)
    model.to(device).eval()  # Lightning leaves it on the CPU
    return round(metrics["test/accuracy"] * len(dataset.test)) / len(dataset.test)  # Lightning's mean is in float32


@contextmanager
def _deterministic(tf32: bool) -> Iterator[None]:
    """Make cuDNN use deterministic convolution kernels within the context, with or without TF32; the other layers used
    here are deterministic already."""
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
