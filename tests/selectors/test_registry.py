"""The selectors as they are entered, described and found."""

from __future__ import annotations

import re

import numpy as np
import pytest
from running import ROOT, options_of
from torch import nn
from toys import filters_of

from tipping.data import Split
from tipping.errors import InputError
from tipping.experiment import config
from tipping.selectors import COSTS, SELECTORS, Evidence, Scores, registry, score

FAMILIES = ("weights", "activations", "gradients", "attribution", "probes", "ablation")


def test_each_is_described_in_the_docs_with_its_source() -> None:
    page = (ROOT / "docs" / "arena.md").read_text()
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "references.bib").read_text(), re.MULTILINE))
    described = {}
    for line in page.split("## The selectors")[1].split("\n\n")[1].splitlines()[2:]:
        names, family, _, sources = (cell.strip() for cell in line.strip("|").split("|"))
        described |= dict.fromkeys(re.findall(r"`(\w+)`", names), family)
        assert set(re.findall(r"\[(\w+)\]", sources)) <= keys
    assert described == {name: one.family for name, one in SELECTORS.items()}


def test_each_is_of_a_family_and_a_cost_and_says_its_formula() -> None:
    for name, one in SELECTORS.items():
        assert one.name == name
        assert one.family in FAMILIES
        assert one.cost in COSTS
        assert (one.formula.__doc__ or "").startswith(("Return", "Estimate"))


def test_the_charts_have_a_colour_for_each_family() -> None:
    from tipping.results.arena_chart import FAMILIES as COLOURS

    assert set(COLOURS) == {*FAMILIES, "random"}
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_scores_that_are_no_numbers_are_refused(
    model: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Evidence(filters_of(model), split)
    undefined = registry.Selector("l1", "weights", "weights", lambda _: np.array([1.0, np.nan]))
    monkeypatch.setitem(SELECTORS, "l1", undefined)
    with pytest.raises(InputError, match="selector=l1: its scores of this network are not finite"):
        score("l1", evidence)
    with pytest.raises(InputError, match="selector=l9: give one of l1, "):
        score("l9", evidence)


def test_the_selector_by_default_is_the_mu_lasso_of_the_registry() -> None:
    assert config.MU_LASSO == registry.MU_LASSO == options_of().selector
    assert SELECTORS[registry.MU_LASSO].formula.__module__ == "tipping.selectors.lasso"


def test_scores_by_class_are_added_up() -> None:
    assert Scores(np.array([[1, -3], [2, 2]])).overall_F.tolist() == [-2, 4]
    assert Scores(np.array([5, 6])).overall_F.tolist() == [5, 6]


def test_responses_that_memory_does_not_hold_are_refused_before_a_pass(
    model: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tipping.selectors.evidence.MOST", 4 * 700 * 18 - 1)
    with pytest.raises(InputError, match="responses of 18 filters to 700 images take"):
        score("anova", Evidence(filters_of(model), split))
