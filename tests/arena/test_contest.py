"""The contest of selectors on one network: curves beside masked passes, and a network whose filters are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strangers import state_of
from torch import nn
from toys import filters_of

from tipping import planted
from tipping.ablation import ablated, chance_of
from tipping.arena import MATCHED, OWN, RANDOM, Arena, mean_along, measure_lines
from tipping.data import Split
from tipping.errors import InputError
from tipping.network import Filters, build
from tipping.selectors import Evidence, Scores


def test_lines_are_those_of_the_masked_network(model: nn.Module, split: Split, rng: np.random.Generator) -> None:
    filters = filters_of(model)
    orders, counts = [rng.permutation(18) for _ in range(2)], [0, 1, 5, 18]
    lines = measure_lines(filters, split, orders, counts)
    for order, removed_PN, kept_PN, losses_P in zip(
        orders, lines.removed_DPN, lines.kept_DPN, lines.kept_loss_DP, strict=True
    ):
        for count, removed_N, kept_N, loss in zip(counts, removed_PN, kept_PN, losses_P, strict=True):
            with ablated(filters, order[:count]), torch.no_grad():
                assert (removed_N == model(split.images_NCHW).argmax(1).cpu().numpy()).all()
            with ablated(filters, order[count:]), torch.no_grad():
                logits_NC = model(split.images_NCHW)
            assert (kept_N == logits_NC.argmax(1).cpu().numpy()).all()
            assert loss == pytest.approx(float(nn.functional.cross_entropy(logits_NC, split.labels_N)), rel=1e-5)


def test_the_mean_along_a_curve_is_the_area_over_its_width() -> None:
    assert mean_along([0, 1, 4], [[1.0, 0.5, 0.2]]) == pytest.approx((0.75 * 1 + 0.35 * 3) / 4)
    assert mean_along([0, 2], [[1, 0], [0, 0]]) == pytest.approx(0.25)


@pytest.fixture(scope="module")
def arena() -> Arena:
    """The planted network, whose filters are known, on images that show their class."""
    model = build({"_target_": "tipping.planted.PlantedNet"}, planted.IMAGE_SHAPE, planted.CLASSES + 1, seed=0)
    train, test = (Split(*planted.images(count, seed)) for count, seed in ((2000, 0), (500, 1)))
    filters = Filters.of(model, train[:1].images_NCHW)
    return Arena(Evidence(filters, train, mu=100), test, draws=3)


def known(arena: Arena) -> Scores:
    """Scores that say what is known: the carrier first, then the planted filters."""
    model, index = arena.evidence.filters.model, arena.evidence.filters.index
    first = (index.layer_F == 0) & (index.channel_F == model.carrier)
    planted_F = (index.layer_F == 1) & np.isin(index.channel_F, model.planted)
    return Scores(2.0 * first + planted_F)


def test_the_filters_that_are_known_to_be_used_cost_all_and_suffice(arena: Arena) -> None:
    order_A = arena.orders(known(arena))[OWN][0]
    lines = arena.measure([order_A])
    removed_DP, kept_DP = lines.accuracies(arena.images.labels_N.numpy())
    counts = lines.counts_P.tolist()
    assert removed_DP[0, counts.index(1)] < 0.05, "without the carrier nothing is seen"
    assert kept_DP[0, counts.index(23)] == removed_DP[0, 0] > 0.99, "19 filters are all that is used"
    assert lines.tipping_point(arena.images.labels_N.numpy(), chance_of(arena.images)).at < 1


def test_orders_of_random_filters_match_the_relevant_ones(arena: Arena) -> None:
    layer_F, reference_K = arena.evidence.filters.index.layer_F, arena.reference.order_K
    for name, kind in RANDOM.items():
        orders = arena.random_orders(name)
        assert list(orders) == [kind]
        assert len(orders[kind]) == 3
        for order in orders[kind]:
            if kind == OWN:
                assert sorted(order.tolist()) == list(range(len(layer_F)))
            else:
                assert np.array_equal(layer_F[order], layer_F[reference_K])
                assert name == "random_layer" or arena.reference.live_F[order].all()


def test_a_selector_has_its_own_order_and_one_that_is_matched(arena: Arena) -> None:
    orders = arena.orders(known(arena))
    layer_F = arena.evidence.filters.index.layer_F
    assert np.array_equal(layer_F[orders[MATCHED][0]], layer_F[arena.reference.order_K])
    assert len(orders[OWN][0]) == len(layer_F)


def test_the_mu_lasso_is_matched_with_itself(arena: Arena) -> None:
    played = arena.play("mu_lasso")
    assert played.scores is not None
    order_A = arena.orders(played.scores)[MATCHED][0]
    assert np.array_equal(order_A, arena.reference.order_K)


def test_scaled_scores_are_of_their_layer(arena: Arena) -> None:
    scaled = Arena(arena.evidence, arena.images, scaled=True)
    index = arena.evidence.filters.index
    scores = Scores(np.where(index.layer_F == 0, 100.0, 1.0) + index.channel_F)
    plain, fair = arena.orders(scores)[OWN][0], scaled.orders(scores)[OWN][0]
    assert (index.layer_F[plain[:32]] == 0).all(), "the scores of the first layer are the largest"
    assert (index.layer_F[fair[:10]] == 1).any()


def test_without_relevant_filters_there_is_nothing_to_match(arena: Arena) -> None:
    blank = Split(torch.zeros(50, *planted.IMAGE_SHAPE), torch.arange(50) % 9 + 1)
    empty = Arena(Evidence(arena.evidence.filters, blank, mu=1), arena.images)
    with pytest.raises(InputError, match="no filter is relevant"):
        _ = empty.reference


def test_the_network_is_as_before(model: nn.Module, split: Split) -> None:
    before = state_of(model)
    arena = Arena(Evidence(filters_of(model), split, mu=20), split[:100], draws=2)
    for name in ("random", "random_norm", "mu_lasso", "share"):
        arena.play(name)
    assert state_of(model) == before


def test_what_each_class_loses_without_the_filters_that_a_selector_scores_highest_for_it(arena: Arena) -> None:
    """Scores that know what each class needs cost it its images, and the others none; scores for all classes alike have
    no such filters; random filters cost the others as much."""
    evidence = arena.evidence
    arena = Arena(Evidence(evidence.filters, evidence.images, mu=1), arena.images, draws=30)  # one filter a class
    model, index = evidence.filters.model, evidence.filters.index
    score_FC = np.zeros((len(index.layer_F), planted.CLASSES + 1))
    for number, channel in enumerate(model.planted):
        score_FC[(index.layer_F == 1) & (index.channel_F == channel), 1 + number // 2] = 2 - number % 2
    labels_N = arena.images.labels_N.numpy()
    by_class = arena.measure_classes(Scores(score_FC))
    assert by_class
    assert by_class.labels_C.tolist() == list(range(1, planted.CLASSES + 1))
    own_class, collateral = by_class.mean_drops(labels_N, labels_N) or (0, 1)
    assert own_class == pytest.approx(1 - planted.RARE, abs=0.06), "the commoner pattern, of 500 images"
    assert collateral == 0
    assert arena.measure_classes(known(arena)) is None
    drawn = arena.measure_classes(None)
    assert drawn
    assert drawn.removed_CDN.shape == (planted.CLASSES, 30, len(labels_N))
    own_class, collateral = drawn.mean_drops(labels_N, labels_N) or (1, 0)
    assert own_class == pytest.approx(collateral, abs=0.03)


def test_drops_by_class_are_those_of_the_masked_network(
    model: nn.Module, split: Split, rng: np.random.Generator
) -> None:
    arena = Arena(Evidence(filters_of(model), split, mu=30), split[:200])
    scores = Scores(rng.normal(size=(18, 10)))
    by_class = arena.measure_classes(scores)
    weights_FC = arena.reference.weights_RC
    assert by_class
    images, labels_N = split[:200].images_NCHW, split[:200].labels_N.cpu().numpy()
    with torch.no_grad():
        intact_N = model(images).argmax(1).cpu().numpy()
    own_class, collateral = [], []
    for label, removed_DN in zip(by_class.labels_C.tolist(), by_class.removed_CDN, strict=True):
        count = int((weights_FC[:, label] != 0).sum())
        first = sorted(range(18), key=lambda f: -scores.values[f, label])[:count]
        with ablated(arena.evidence.filters, first), torch.no_grad():
            without_N = model(images).argmax(1).cpu().numpy()
        assert (removed_DN == without_N).all()
        drop_N = (intact_N == labels_N).astype(int) - (without_N == labels_N)
        own_class.append(drop_N[labels_N == label].mean())
        others = [drop_N[labels_N == other].mean() for other in np.unique(labels_N) if other != label]
        collateral.append(np.mean(others))
    expected = (np.mean(own_class), np.mean(collateral))
    assert by_class.mean_drops(intact_N, labels_N) == pytest.approx(expected, abs=1e-12)
