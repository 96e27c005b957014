"""A user's mistake in words: one line that names the culprit and the remedy, whichever library found it."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from hydra.errors import OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tipping.errors import InputError


def of_memory(error: BaseException) -> bool:
    """Return whether an error is want of memory, on the machine or on the GPU."""
    messages = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # by torch
    torchs = type(error).__name__ == "OutOfMemoryError"  # by its name, as torch may not be loaded
    return isinstance(error, MemoryError) or torchs or any(message in str(error) for message in messages)


def describe_mistake(error: BaseException) -> str:
    """Return a mistake as one line that names the culprit, without the details of Hydra's and OmegaConf's messages."""
    return " ".join(_named(error).splitlines())


def _named(error: BaseException) -> str:
    quote = "'"
    if isinstance(error.__cause__, InputError):
        return str(error.__cause__)
    if of_memory(error):
        return "out of memory: give smaller networks or batches (model.filters, trainer.batch_size), or fewer workers"
    if isinstance(error, BrokenExecutor):
        return "a worker was killed, perhaps for want of memory; the same command again does what is left"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; options are name=value, in quotes where signs are no letters"
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key}: has no value; give one"
    text = " ".join(str(error).split("Config search path")[0].split())
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        text = f"{error.full_key}: {(error.msg or text).splitlines()[0]}"
    if text.startswith("Could not override"):
        return f"{text.split(quote)[1]}: no such option of this model or job; --cfg job lists them all"
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(quote)[1]}: several values are a sweep; put -m before the options, or a list in [brackets]"
    if "is not a ListConfig" in text:
        return f"{text.split(':')[0]}: takes a list in brackets, such as [a,b]"
    return text
