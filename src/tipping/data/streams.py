"""Images that are read when they are asked for, since there are too many for the memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from tipping.errors import InputError
from tipping.files import digest, digest_in_parts

FEW = 256  # images that are read in this process: to start others would take longer
TRIED, TIMES = 4, 8  # images that are read at first, and how often each: they must not change
STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Streamed:
    """N images of a map-style torch Dataset, in a given order.

    Attributes:
        dataset: item i is a tensor (C, H, W) of uint8 or float32. It may have a method `digest` that returns a SHA-256
            of the content, without which all items are read for one.
        positions_N: the items, on the CPU.
        shape: channels, height and width of each image.
        dtype: the type of each image.
        title: what the images are called in messages.
        workers: the processes that read images ahead.
        memo: the digest of the content of the Dataset, where it is known; all parts of the Dataset share it.
    """

    dataset: TorchDataset[Tensor]
    positions_N: Tensor
    shape: tuple[int, int, int]
    dtype: torch.dtype
    title: str
    workers: int = 0
    memo: list[str] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def from_dataset(cls, dataset: Any, title: str, workers: int = 0) -> Streamed:
        """Return all images of a Dataset; some of them are read, several times.

        Raises:
            InputError: an item is no image, or another one each time.
        """
        if len(dataset) == 0:
            raise InputError(f"{title}: there are none; give some")
        first = _item(dataset, 0, title)
        if not isinstance(first, Tensor) or first.ndim != 3 or first.dtype not in (torch.uint8, torch.float32):
            remedy = "give a tensor (C, H, W) of uint8, or of float32 in [0, 1]"
            raise InputError(f"{title}: image 0 is a {_kind(first)}: {remedy}")
        channels, height, width = first.shape
        images = cls(dataset, torch.arange(len(dataset)), (channels, height, width), first.dtype, title, workers)
        for position in torch.linspace(0, len(dataset) - 1, min(TRIED, len(dataset))).long().tolist():
            before = images.read([position])
            if not all(torch.equal(images.read([position]), before) for _ in range(TIMES - 1)):
                raise InputError(f"{title}: image {position} is another one each time: leave out random transforms")
        return images

    def __len__(self) -> int:
        return len(self.positions_N)

    def __getitem__(self, chosen: slice | Tensor) -> Streamed:
        """Return some of the images, by a slice or by their positions among these."""
        at_N = chosen if isinstance(chosen, slice) else chosen.cpu()
        return replace(self, positions_N=self.positions_N[at_N])

    @property
    def nbytes(self) -> int:
        """The bytes that the images would take in memory."""
        return len(self) * torch.Size(self.shape).numel() * self.dtype.itemsize

    def digest(self) -> str | None:
        """Return a text that stands for these images: a SHA-256 of the content of their Dataset, and the positions.

        The content is read once, also for other images of the Dataset. None for `Rows`, whose images are at hand.
        """
        if isinstance(self.dataset, Rows):
            return None
        if not self.memo:
            self.memo.append(self.dataset.digest() if hasattr(self.dataset, "digest") else self._digest_of_items())
        return f"{self.memo[0]} {self.shape} {self.dtype} {digest({'positions': self.positions_N})}"

    def _digest_of_items(self) -> str:
        """Return the SHA-256 of all items of the Dataset, which are read for that."""
        everything = replace(self, positions_N=torch.arange(len(self.dataset)))  # type: ignore[arg-type]
        return digest_in_parts({"images": (f"{self.dtype} {(len(everything), *self.shape)}", everything.batches(FEW))})

    def read(self, positions: Sequence[int]) -> Tensor:
        """Read items of the Dataset: (N, C, H, W).

        Raises:
            InputError: an item is no such image as the first one, or cannot be read.
        """
        return torch.stack([self._read(position) for position in positions])

    def _read(self, position: int) -> Tensor:
        image_CHW: Tensor = _item(self.dataset, position, self.title)
        if (kind := _kind(image_CHW)) != (first := f"{self.dtype} of shape {self.shape}"):
            raise InputError(
                f"{self.title}: image {position} is a {kind}, others a {first}: give all in one size and type"
            )
        if image_CHW.is_floating_point() and not image_CHW.isfinite().all():
            raise InputError(f"{self.title}: image {position} has pixels that are not finite: mend or remove it")
        return image_CHW

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the images in order, `size` at a time; workers read ahead where there are many.

        Raises:
            InputError: as `read`; or a worker died.
        """
        parts = _Positions(self.positions_N, size)
        if self.workers == 0 or len(self) <= FEW:
            yield from map(self.read, parts)
            return
        loader = DataLoader(
            _Reader(self),
            batch_sampler=parts,
            num_workers=min(self.workers, _cores()),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # else the loader draws from the random numbers of the training
        )
        try:
            for batch in _begun(loader):
                if isinstance(batch, InputError):
                    raise batch
                yield torch.from_numpy(batch)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise InputError(f"data.workers={self.workers}: {reason} (out of memory?); give fewer, or 0") from error


def _item(dataset: Any, position: int, title: str) -> Any:
    """Return an item of a Dataset; raise `InputError` for whatever its code raises."""
    try:
        return dataset[position]
    except InputError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{title}: image {position} cannot be read: {reason}") from error


def _kind(image: Any) -> str:
    return f"{image.dtype} of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__


class _Positions:
    """Lists of positions, each made when it is needed: a million of them would take much memory as lists."""

    def __init__(self, positions_N: Tensor, size: int) -> None:
        self.parts = torch.split(positions_N, size)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in self.parts)


class _Reader(TorchDataset[Tensor]):
    """Batches for the workers of a DataLoader; mistakes come as values, as a DataLoader would print their traceback."""

    def __init__(self, images: Streamed) -> None:
        self.images = replace(images, positions_N=images.positions_N[:0])

    def __getitems__(self, positions: list[int]) -> np.ndarray | InputError:
        try:
            return self.images.read(positions).numpy()  # torch would share a tensor by a server, which a signal breaks
        except InputError as error:
            return error


def _cores() -> int:
    """Return the number of cores that this process may use; torch warns of more workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the processes of a DataLoader, and return its batches.

    Signals that stop a command wait meanwhile: the exception of a handler would leave half a DataLoader, or be lost in
    what Python calls at a fork, whose exceptions it ignores. The processes begin with these signals blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows, which has no forks
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals(_: int) -> None:
    """Leave the signals that stop a command to the process that started this one, which then ends this one too."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: np.ndarray | InputError) -> np.ndarray | InputError:
    return batch


class Rows(TorchDataset[Tensor]):
    """The images of a tensor, one by one: of a file that is mapped into memory, of which little is read at a time."""

    def __init__(self, images_NCHW: Tensor) -> None:
        self.images_NCHW = images_NCHW

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def __getitem__(self, position: int) -> Tensor:
        return self.images_NCHW[position]
