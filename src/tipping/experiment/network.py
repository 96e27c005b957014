"""The device of a job, and the weights of its network, which are read from the store or trained now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tipping import data
from tipping.data import Dataset
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.store import Item, Store
from tipping.experiment.versions import device_name
from tipping.network import OURS, build, load_checkpoint, source_digest

if TYPE_CHECKING:
    from pytorch_lightning import Callback

log = logging.getLogger(__name__)


def pick_device(wanted: str) -> torch.device:
    """Return the device of a job.

    Args:
        wanted: `cpu`, `cuda`, or `auto`, which is a GPU if there is one.

    Raises:
        InputError: cuda is wanted, and there is no GPU.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine has no GPU that torch can use; give device=cpu or device=auto")
    torch.backends.cudnn.allow_tf32 = False  # so that responses and accuracies are as on a CPU
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0)  # the GPU that Lightning takes; with its number, as tensors name their device


def load_dataset_and_model(options: config.Config, device: torch.device) -> tuple[data.Dataset, nn.Module]:
    """Load the data set of a job, and build the job's network, which has no trained weights yet.

    Raises:
        InputError: `tipping.data.load` or `build` raises it.
    """
    dataset = data.load(options.data.name, options.data.root, device)
    return dataset, build(options.model, dataset.image_shape, len(dataset.classes), options.seed).to(device)


def find_or_train(
    model: nn.Module,
    dataset: Dataset,
    options: config.Config,
    store: Store,
    *,
    callbacks: Sequence[Callback] = (),
    on_metrics: Callable[[dict[str, float], int | None], None] | None = None,
    anew: bool = False,
) -> Item:
    """Give the model the weights of the configured network, in place, and return these weights.

    The weights come from the checkpoint, if one is configured; from the model, if its class says `trained`; from the
    store, if it holds them; otherwise from a training, after which the store keeps them.

    Args:
        callbacks: Lightning callbacks for the training.
        on_metrics: called with metrics of the training and the step, which may be None.
        anew: train even if the store holds the weights.

    Raises:
        InputError: the checkpoint or the stored network does not fit the model, or the training diverged.
    """
    checkpoint = options.model.get("checkpoint")
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
        model.to(dataset.train.labels_N.device).eval()
        return Item(dict(model.state_dict()), f"checkpoint {checkpoint}", Path(checkpoint), existed=True)
    if getattr(model, "trained", False) is True:
        model.to(dataset.train.labels_N.device).eval()
        target = options.model["_target_"]
        return Item(dict(model.state_dict()), f"set by {target}", Path(target), existed=True)

    def make() -> dict[str, Tensor]:
        log.info("training %s on %s, seed %d", options.model["name"], dataset.name, options.seed)
        from tipping.network.training import train  # imports Lightning, which a stored network does not need

        train(
            model,
            dataset,
            **asdict(options.trainer),
            seed=options.seed,
            callbacks=callbacks,
            on_metrics=on_metrics,
        )
        return model.state_dict()

    recipe = {
        "model": {
            option: float(value) if isinstance(value, int) else value  # so that 0 and 0.0 are the same recipe
            for option, value in options.model.items()
            if option not in OURS
        },
        "trainer": asdict(options.trainer),
        "data": dataset.name,
        "images": dataset.train.fingerprint,
        "seed": options.seed,
    }
    if code := source_digest(options.model):
        recipe["source"] = code
    item = store.fetch("networks", recipe, make, anew, made_on=device_name(dataset.train.labels_N.device))
    try:
        model.load_state_dict(item.tensors)
    except RuntimeError as error:
        raise InputError(f"{item.path} is of another architecture: delete it, and the next job trains anew") from error
    model.to(dataset.train.labels_N.device).eval()
    log.info("network %s: %s", item.key, "found in the store" if item.existed else "trained")
    return item
