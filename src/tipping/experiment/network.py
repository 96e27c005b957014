"""The device of a job, and the weights of its network, which are read from the store or trained now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
from tipping.network import OURS, build, evaluating, load_checkpoint, source_digest

if TYPE_CHECKING:
    from pytorch_lightning import Callback

log = logging.getLogger(__name__)
NEAR = 0.1  # share of the way from chance to 1 under which a network is near chance


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

    Where the classes of the data are some logits of a network that was trained elsewhere (`data.labels`), the network
    decides how many classes there are.

    Raises:
        InputError: `tipping.data.load` or `build` raises it; or the network lacks a logit, or has no weights yet.
    """
    dataset = data.load(**options.data.place(), device=device)
    model = build(options.model, dataset.image_shape, dataset.width, options.seed).to(device)
    if dataset.logits:
        if not came_trained(model, options):
            raise InputError("data.labels: they are logits of a network that is trained; give its model.checkpoint")
        dataset = with_classes_of(model, dataset)
    return dataset, model


def came_trained(model: nn.Module, options: config.Config) -> bool:
    """Return whether a network comes with its weights: from a checkpoint, or because its class says so."""
    return options.model.get("checkpoint") is not None or getattr(model, "trained", False) is True


def with_classes_of(model: nn.Module, dataset: Dataset) -> Dataset:
    """Return the data set with a class for each logit of a network: those that the data does not name are `logit 0`, …

    Raises:
        InputError: the network has fewer logits than the labels of the data need.
    """
    with evaluating(model), torch.no_grad():
        width = model(dataset.train[:1].images_NCHW).shape[1]
    if width < len(dataset.classes):
        raise InputError(f"data.labels: {max(dataset.logits)} is no logit of the network, which has {width}, from 0 on")
    return replace(
        dataset, classes=(*dataset.classes, *(f"logit {number}" for number in range(len(dataset.classes), width)))
    )


def warn_near_chance(model: nn.Module, options: config.Config, accuracy: float, chance: float) -> None:
    """Warn of a network that came with its weights, and is right hardly more often than by chance.

    Args:
        accuracy: the accuracy of the intact network, in [0, 1].
        chance: that of the most frequent class as the only answer.
    """
    checkpoint, trained = options.model.get("checkpoint"), came_trained(model, options)
    if not trained or options.randomize != "none" or accuracy - chance > NEAR * (1 - chance):
        return
    log.warning(
        "%s: %.1f %% right, where one class for all images gives %.1f %%: were the images of its training normalised "
        "(data.mean, data.std), its classes in another order (data.classes, data.labels), its channels BGR, "
        "or its pixels in another range (0 to 255)?",
        f"model.checkpoint={checkpoint}" if checkpoint else f"model={options.model['name']}",
        100 * accuracy,
        100 * chance,
    )


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
