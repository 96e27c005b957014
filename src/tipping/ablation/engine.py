"""The fast engine: a network's graph, what is known of its operations, and the ablations as plans."""

from __future__ import annotations

import logging

import numpy as np
from torch import Tensor, fx

from tipping.ablation.combining import Concatenation, Elementwise
from tipping.ablation.masks import ablated, check_scope, gone_channels, layer_values, weights_without_first_input
from tipping.ablation.mixing import Mixing
from tipping.ablation.movement import Movement, Numbers, numbers_moved
from tipping.ablation.narrowing import Pass, Prefix, Schedule
from tipping.ablation.operations import Fixed, Images, Mapwise, Operation, Shape
from tipping.ablation.plan import Ablation, Plan, Weights, WholePlan
from tipping.network import Filters, Graph, NotAGraph, same

log = logging.getLogger(__name__)
TRIED = (0, 0.1, 0.5)  # shares of the filters that are ablated when the engine is compared with the masked network


class Engine:
    """A network as a graph whose operations run on some channels only, as far as these are known.

    Attributes:
        graph: the graph.
        operations: what is known of each operation.
    """

    def __init__(self, filters: Filters, value: Tensor | None, scope: str, graph: Graph) -> None:
        check_scope(scope, value)
        self.filters, self.value, self.scope, self.graph = filters, value, scope, graph
        self.operations = operations_of(graph, frozenset())
        self._values = layer_values(filters, value)
        for node, layers in graph.sites.items():
            if node not in graph.maps or any(
                len(self._values[layer]) != graph.values[node].shape[1] for layer in layers
            ):
                raise NotAGraph(f"the output of {filters.sites[layers[0]]} has no map for each filter of {layers[0]}")

    @classmethod
    def tried(cls, filters: Filters, image_1CHW: Tensor, value: Tensor | None, scope: str) -> Engine:
        """Return the engine of a network in eval mode, compared with the masked network on two images.

        An operation that does something else than what is known of it runs whole, and a warning names it.

        Raises:
            NotAGraph: the network has no graph, or gives something else whatever runs whole.
        """
        engine = cls(filters, value, scope, Graph.trace(filters, image_1CHW))
        unknown: set[fx.Node] = set()
        while (wrong := engine._wrong()) is not None:
            if wrong in unknown:
                raise NotAGraph(f"{wrong.name} gives something else than it gave when it was traced")
            unknown.add(wrong)
            log.warning("%s: %s is not what it is taken for, and runs whole", type(filters.model).__name__, wrong.name)
            engine.operations = operations_of(engine.graph, frozenset(unknown))
        return engine

    def plan(self, gone: np.ndarray) -> Plan:
        """Return the plan of an ablation.

        Args:
            gone: positions of the filters to ablate: (K,).
        """
        return Plan(self.graph, self.operations, self._ablation(gone))

    def schedule(self, plans_reads: list[frozenset[fx.Node]]) -> Schedule:
        """Return the schedule of ablations, given what each reads of the intact network."""
        return Schedule(WholePlan(self.graph, self.operations, Ablation()), plans_reads)

    def _ablation(self, gone: np.ndarray) -> Ablation:
        channels, graph = gone_channels(self.filters, gone), self.graph
        if self.scope == "filter":
            masks = {
                node: [(channels[layer], self._values[layer]) for layer in layers if layer in channels]
                for node, layers in graph.sites.items()
            }
            return Ablation(replaced={node: replacing for node, replacing in masks.items() if replacing})
        reweighted: dict[fx.Node, tuple[Tensor, Weights]] = {}
        for layer, gone_C in channels.items():
            weights = weights_without_first_input(self.filters.model.get_submodule(layer), gone_C)
            reweighted |= dict.fromkeys(graph.layers[layer], (gone_C, weights))
        return Ablation(reweighted=reweighted)

    def _wrong(self) -> fx.Node | None:
        """Return the first operation that gives something else than within the masked network, if one does.

        Raises:
            NotAGraph: none does, and yet the logits differ.
        """
        graph, filters, draw = self.graph, self.filters, np.random.default_rng(0)
        pair_2CHW, count = graph.values[graph.nodes[0]], len(self.filters.index.layer_F)
        for share in TRIED:
            gone = draw.choice(count, int(np.ceil(share * count)), replace=False)
            plan = self.plan(gone)
            narrow = Pass(plan)
            logits_2C = Prefix(self.schedule([narrow.reads]), pair_2CHW).logits(0, narrow)
            with ablated(filters, gone, value=self.value, scope=self.scope):
                expected_2C = filters.model(pair_2CHW.clone())
            if same(logits_2C, expected_2C):
                continue
            for tried in (WholePlan(graph, self.operations, Ablation()), plan):
                if (wrong := Pass(tried).first_wrong(pair_2CHW)) is not None:
                    return wrong
            raise NotAGraph("with filters ablated, what torch.fx traces gives something else")
        return None


def operations_of(graph: Graph, unknown: frozenset[fx.Node]) -> dict[fx.Node, Operation]:
    """Return what is known of each operation of a graph.

    A normalisation by fixed statistics is one with the layer before it, where nothing else takes that layer's output.

    Args:
        unknown: operations of which nothing is to be taken for known.
    """
    operations: dict[fx.Node, Operation] = {}
    joined: dict[fx.Node, fx.Node] = {}  # the layer before each normalisation
    moved: dict[fx.Node, Numbers] = {}
    for node in graph.nodes:
        if node in joined:
            operations[node] = Mixing(graph, joined[node], node)
        elif node is graph.nodes[0]:
            operations[node] = Images(graph, node)
        elif node in graph.fixed:
            operations[node] = Fixed(graph, node)
        elif Shape.fits(graph, node):
            operations[node] = Shape(graph, node)
        elif node in unknown:
            operations[node] = Operation(graph, node)
        elif Mixing.fits(graph, node):
            norm = Mixing.norm_after(graph, node)
            if norm is None or norm in unknown:
                operations[node] = Mixing(graph, node)
            else:
                joined[norm] = node
        elif (numbers := numbers_moved(graph, node, moved)) is not None:
            movement = Movement.through(graph, node, numbers)
            if movement is None:
                moved[node] = numbers
            operations[node] = movement or Operation(graph, node)
        else:
            kinds = (kind for kind in (Elementwise, Concatenation, Mapwise) if kind.fits(graph, node))
            operations[node] = next(kinds, Operation)(graph, node)
    return operations
