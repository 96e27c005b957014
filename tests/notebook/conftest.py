"""Networks and loaders that know nothing of the package."""

from __future__ import annotations

import pytest
import torch
from strangers import CLASSES, Own
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture
def own(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return Own().to(device).train()


@pytest.fixture
def loader(own: nn.Module) -> DataLoader:
    """300 images of two channels, labelled by the network itself, of whose classes each has some."""
    images = torch.randn(300, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = own(images.to(next(own.parameters()).device))
        own.head.bias -= logits.mean(0)
        logits = own(images.to(next(own.parameters()).device)).cpu()
    return DataLoader(TensorDataset(images, logits.argmax(1)), batch_size=70)


@pytest.fixture
def used(own: nn.Module) -> nn.Module:
    """The network in the midst of a training: some of it in eval mode, with gradients."""
    own.second.eval()
    own(torch.ones(2, 2, 9, 9, device=next(own.parameters()).device)).sum().backward()
    return own


@pytest.fixture
def chain(device: torch.device) -> nn.Module:
    """A network of modules only, which train mode would change: with batch normalisation and dropout; used as above."""
    torch.manual_seed(3)
    first, second = (nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True)), (nn.Conv2d(6, 8, 3), nn.ReLU())
    chain = nn.Sequential(*first, *second, nn.Flatten(), nn.Dropout(), nn.Linear(200, CLASSES)).to(device).train()
    chain[3].eval()
    chain(torch.randn(4, 2, 9, 9).to(device)).sum().backward()
    return chain
