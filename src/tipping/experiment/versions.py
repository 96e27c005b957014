"""The description of a job in its record: options, device, code and versions."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tipping.data import OWN, content_digests
from tipping.errors import InputError
from tipping.experiment import config
from tipping.experiment.data_options import DataOptions
from tipping.experiment.options import LATER
from tipping.experiment.record import Record
from tipping.network import file_digests

PACKAGE = Path(__file__).parents[1]
SCRIPTS = ("train.py", "interpret.py")  # beside the folder of the presets
PACKAGES = ("tipping", "torch", "numpy", "pytorch-lightning", "hydra-core", "wandb")


def describe(options: config.Config, device: torch.device, conf: Path) -> dict[str, Any]:
    """Describe a job: return the part of its record that is known before it runs.

    A job calls this function first, because code and files may change while the job runs.

    Args:
        options: the options of the job.
        device: the device of the job.
        conf: the folder of the presets.

    Raises:
        InputError: the checkpoint or the images cannot be read, or the network's class cannot be imported.
    """
    try:
        files = file_digests(options.model)
    except OSError as error:
        raise InputError(
            f"model.checkpoint={options.model['checkpoint']} cannot be read ({error}); give a file of weights"
        ) from error
    return {
        "config": asdict(options),
        "mu": options.mu,
        "seed": options.seed,
        "model": options.model,
        "model_files": files,
        "data": options.data.name,
        "data_files": content_digests(**options.data.place()),
        "protocol": {**asdict(options.protocol), "name": _full_name(options.protocol, conf)},
        "device": device_name(device),
        "versions": versions(conf),
    }


def has_own_images(record: Record) -> bool:
    """Return whether the images of a job are the user's own, whose content may change.

    Options in a record of somebody's may name any function for these: only the options of a job that is asked for are
    to be followed.
    """
    data = record.config["data"]
    return (data.get("source") or data["name"]) in OWN


def digests_of_files(model: Mapping[str, Any], data: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return the SHA-256 of the files, of the network and of the images, that decide the result of a job.

    Args:
        model: the options of the network.
        data: the options of the data set; None for a public one.

    Raises:
        InputError: as `describe`.
        OSError: the checkpoint cannot be read.
    """
    return {**file_digests(model), **(content_digests(**DataOptions(**data).place()) if data else {})}


def device_name(device: torch.device) -> str:
    """Return the name of a device as records give it: that of the GPU, or of the processor with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads ({_processor()})"


def _processor() -> str:
    """Return the name of the processor; the machine's name where the system does not give the processor's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _full_name(protocol: config.Protocol, conf: Path) -> str:
    """Return a preset's name with the axes that differ from the preset, such as ``described, control=live``."""
    preset = _protocol_preset(protocol.name, conf)
    if preset is None:
        return protocol.name
    given = {axis: str(getattr(protocol, axis)).lower() for axis in ("dense", *config.AXES)}  # as YAML writes true
    preset = {**LATER["protocol"], **preset}  # a user's own may be older than an axis
    axes = [f"{axis}={value}" for axis, value in given.items() if value != str(preset.get(axis)).lower()]
    return ", ".join([protocol.name, *sorted(axes)])


def _protocol_preset(name: str, conf: Path) -> Any:
    """Return the protocol of a preset; None if there is no such preset.

    The preset is in the folder `conf` or, in a job that Hydra runs, in a folder of the user's.
    """
    path = conf / "protocol" / f"{name}.yaml"
    if path.is_file():
        preset: Any = OmegaConf.load(path)
        return preset.get("protocol", preset)
    if not GlobalHydra.instance().is_initialized():
        return None
    try:
        return compose("config", [f"protocol={name}"]).protocol  # composed, as a preset may build on another
    except (HydraException, OmegaConfBaseException):
        return None


@cache
def versions(conf: Path) -> dict[str, str | None]:
    """Return the versions of Python, the main packages and the code, and the commit in a git checkout, else None.

    Args:
        conf: the folder of the presets.
    """
    root = PACKAGE.parents[1]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    packages = {name: _version(name) for name in PACKAGES}
    commit = commit if (root / ".git").exists() else None
    return {"python": sys.version.split()[0], **packages, "code": _code(conf), "commit": commit}


def _version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed, as `tipping` may run from its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code(conf: Path) -> str:
    """Return a hash of the package, the presets and the scripts; a wheel has no scripts."""
    files = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    files |= {path.relative_to(conf): path for path in conf.rglob("*.yaml")}
    files |= {Path(name): conf.parent / name for name in SCRIPTS if (conf.parent / name).is_file()}
    content = hashlib.sha256()
    files = {name: path for name, path in files.items() if path.is_file()}  # locks of editors are links to nothing
    for name, path in sorted(files.items()):
        content.update(f"{name} {path.stat().st_size} ".encode() + path.read_bytes())
    return content.hexdigest()[:16]
