"""No call of the front door changes the user's network, images or tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from strangers import CALLS, CLASSES, state_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tipping


@pytest.mark.parametrize("make", ["used", "chain"])
def test_the_model_is_as_before(make: str, loader: DataLoader, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(make)
    before = state_of(model)
    relevant = tipping.relevant_filters(model, loader, mu=5)
    assert state_of(model) == before
    curve = tipping.drop_curve(relevant, loader, points=2)
    assert state_of(model) == before
    seen, why = tipping.gallery(relevant, loader, images=2), tipping.explain(relevant, loader.dataset.tensors[0][:2])
    assert state_of(model) == before
    for found in (relevant, curve, tipping.tipping_point(curve), seen, why):
        assert found._repr_html_()
    assert state_of(model) == before
    with pytest.raises(ZeroDivisionError), tipping.ablated(relevant.filters, relevant.order[:3]):
        raise ZeroDivisionError
    assert state_of(model) == before


def breaking(loader: DataLoader, after: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    for number, batch in enumerate(loader):
        if number == after:
            raise RuntimeError("the disk is gone")
        yield batch


@pytest.mark.parametrize("call", ["relevant_filters", "drop_curve", "ablate_classes", "gallery"])
def test_the_model_is_as_before_after_a_failure_in_the_loader(used: nn.Module, loader: DataLoader, call: str) -> None:
    relevant, before = tipping.relevant_filters(used, loader, mu=5), state_of(used)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        getattr(tipping, call)(used if call == "relevant_filters" else relevant, breaking(loader))
    assert state_of(used) == before


@pytest.mark.parametrize("make", ["used", "chain"])
@pytest.mark.parametrize("call", CALLS)
def test_the_model_is_as_before_after_a_failure_in_the_midst_of_it(
    call: str, make: str, loader: DataLoader, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first convolution fails in one of its passes, be it the first, the last or some between. The exceptions are
    kept, and with them all that stood on the stack, as a notebook keeps them."""
    model = request.getfixturevalue(make)
    relevant, before = tipping.relevant_filters(model, loader, mu=5), state_of(model)
    plain, passes, last, kept = nn.Conv2d._conv_forward, 0, None, []

    def failing(*given: object) -> Tensor:
        nonlocal passes
        passes += 1
        if passes == last:
            raise LookupError("the card fell off")
        return plain(*given)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", failing)
    CALLS[call](relevant, loader)
    assert state_of(model) == before
    assert passes > 3
    stops = {round(one) for one in np.linspace(1, passes, 6)}
    for stop in stops:
        passes, last = 0, stop
        with pytest.raises(LookupError, match="the card fell off") as caught:
            CALLS[call](relevant, loader)
        kept.append(caught)
        assert state_of(model) == before
    assert len(kept) == len(stops)


@pytest.mark.parametrize(
    ("call", "where"), [("relevant_filters", "addmm_"), ("gallery", "sort"), ("explain", "argmax")]
)
def test_the_model_is_as_before_after_an_interrupt(
    used: nn.Module, loader: DataLoader, call: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While responses are summed or sorted, between two passes: the traceback, which a notebook keeps, keeps alive what
    yields them."""
    relevant, before = tipping.relevant_filters(used, loader, mu=5), state_of(used)
    images, labels = (torch.cat([part] * 5) for part in loader.dataset.tensors)  # more than are normalised at once

    plain = getattr(Tensor, where)

    def interrupted(tensor: Tensor, *given: object, **named: object) -> Tensor:
        if where == "argmax" and tensor.is_floating_point():  # of logits, in the midst of a pass
            return plain(tensor, *given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tensor, where, interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            if call == "explain":
                tipping.explain(relevant, images)
            else:
                CALLS[call](relevant, DataLoader(TensorDataset(images, labels), batch_size=100))
    assert state_of(used) == before
    assert caught.traceback


def test_the_images_are_as_before(device: torch.device, loader: DataLoader) -> None:
    """Also where a network's first module works in place."""
    torch.manual_seed(0)
    layers = (nn.ReLU(inplace=True), nn.Conv2d(2, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(150, CLASSES))
    model, images = nn.Sequential(*layers).to(device), loader.dataset.tensors[0].to(device)
    before, batches = images.clone(), [(images, loader.dataset.tensors[1].to(device))]
    relevant = tipping.relevant_filters(model, batches, mu=5)
    for call in (tipping.drop_curve, tipping.gallery):
        call(relevant, batches)
    tipping.explain(relevant, images[:3])
    assert torch.equal(images, before)


def test_what_a_loader_keeps_can_be_trained_on(own: nn.Module) -> None:
    kept: list[Tensor] = []

    def loading() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(3):
            kept.append(torch.randn(20, 2, 9, 9))
            yield kept[-1], torch.arange(20) % CLASSES

    tipping.relevant_filters(own, loading(), mu=3)
    assert not any(images.is_inference() for images in kept)


def test_a_network_that_calls_functions_is_not_said_to_be_ablated(own: nn.Module, loader: DataLoader) -> None:
    """Hooks cannot reach a call of relu in its own forward: silence there would be a wrong number."""
    images, _ = next(iter(loader))
    images = images.to(next(own.parameters()).device)
    filters = tipping.Filters.of(own, images[:1])
    assert filters.model is not own
    with tipping.ablated(filters, np.array([0])):
        filters.model(images)
        with pytest.raises(tipping.InputError, match=r"Own calls .* as functions.*: call filters\.model"):
            own(images)
    own(images)
