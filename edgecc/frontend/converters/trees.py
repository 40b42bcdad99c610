"""Decision trees of the domain ai.onnx.ml, in the form that states nodes and leaves apart and in the older ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import (
    DOMAIN,
    POST_TRANSFORMS,
    best_label,
    labels_of,
    post_transformed,
    with_second_class,
)
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply
from edgecc.ir.types import Array, DType
from edgecc.ops.movement import Slice
from edgecc.ops.trees import TREE_AGGREGATES, TreeEnsemble

_AGGREGATES = ("average", "sum", "min", "max")
_MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")


@dataclass
class _Forest:
    """Nodes that compare by x <= split only; other comparisons are made of such nodes when they are added.

    `nodes` are (feature, split, yes, no, missing); a leaf is None. `leaves` has the (target, weight) pairs of each node.
    """

    dtype: DType
    nodes: list[tuple[int, float, int, int, int] | None] = field(default_factory=list)
    leaves: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def reserve(self) -> int:
        """The number of a node that `compare` or `leaf` defines later."""
        self.nodes.append(None)
        return len(self.nodes) - 1

    def compare(self, node: int, mode: str, feature: int, split: float, yes: int, no: int, missing: bool) -> None:
        """Defines a node: `yes` follows where the comparison holds, or the element is NaN and counts as if it did."""
        match mode:
            case "LEQ":
                self.nodes[node] = (feature, split, yes, no, int(missing))
            case "LT":  # below split, that is: at most the number before it
                before = np.nan if split == -np.inf else self._before(split)
                self.nodes[node] = (feature, before, yes, no, int(missing))
            case "GTE" | "GT":
                self.compare(node, "LT" if mode == "GTE" else "LEQ", feature, split, no, yes, not missing)
            case "NEQ":
                self.compare(node, "EQ", feature, split, no, yes, not missing)
            case _:
                at_most = self.reserve()
                self.nodes[node] = (feature, split, at_most, no, int(missing))
                self.compare(at_most, "LT", feature, split, no, yes, False)

    def member(self, node: int, feature: int, values: Sequence[float], yes: int, no: int, missing: bool) -> None:
        """Defines a node that asks whether an element is one of some numbers."""
        for value in values[:-1]:
            following = self.reserve()
            self.compare(node, "EQ", feature, value, yes, following, missing)
            node = following
        self.compare(node, "EQ", feature, values[-1] if values else np.nan, yes, no, missing)

    def _before(self, split: float) -> float:
        kind = self.dtype.numpy.type
        return float(np.nextafter(kind(split), kind(-np.inf)))

    def depth(self, roots: Sequence[int]) -> int:
        """Steps from a root to the farthest leaf.

        Raises: EdgeccError E110 where a node leads back to itself.
        """
        steps: dict[int, int] = {}
        for root in roots:
            pending, path = [(root, False)], set()
            while pending:
                node, is_done = pending.pop()
                entry = self.nodes[node]
                if is_done:
                    path.discard(node)
                    steps[node] = 0 if entry is None else 1 + max(steps[entry[2]], steps[entry[3]])
                elif node in path:
                    raise EdgeccError("E110", "a node of a tree leads back to itself")
                elif node not in steps:
                    path.add(node)
                    pending.append((node, True))
                    pending += [] if entry is None else [(entry[2], False), (entry[3], False)]
        return max((steps[root] for root in roots), default=0)

    def value(self, call: Call, x: Value, roots: Sequence[int], targets: int, aggregate: str) -> Value:
        """The operator on these trees."""
        if not self.nodes or x.type.rank != 2:
            raise EdgeccError("E110", f"the input is {x.type}, wanted [rows, features], and at least one node")
        rows = [entry or (0, 0.0, k, k, 0) for k, entry in enumerate(self.nodes)]
        if any(not 0 <= row[0] < int(x.type.shape[1]) for row in rows):
            raise EdgeccError("E110", f"a node asks for a feature that {x.type} does not have")
        weights = [self.leaves.get(k, []) for k in range(len(rows))]
        flat = [pair for pairs in weights for pair in pairs]
        if any(not 0 <= target < targets for target, _ in flat):
            raise EdgeccError("E110", f"a leaf has a target outside 0..{targets - 1}")
        columns = list(zip(*rows, strict=True))
        first = np.cumsum([0, *map(len, weights)])
        tables = [columns[0], np.array(columns[1], self.dtype.numpy), *columns[2:], first, [t for t, _ in flat],
                  np.array([w for _, w in flat], self.dtype.numpy), list(roots)]
        constants = [call.constant(t if isinstance(t, np.ndarray) and t.dtype.kind == "f" else np.array(t, np.int32)) for t in tables]
        return call.add(TreeEnsemble(targets, self.depth(roots), aggregate), x, *constants)


def _numbers(call: Call, name: str) -> Array:
    """A tensor attribute of numbers, which must be given."""
    data = call.tensor(name)
    if data is None or data.dtype.kind not in "fiu":
        raise EdgeccError("E102", f"attribute {name} is missing or not of numbers")
    return data.reshape(-1)


def _input(call: Call) -> Value:
    """The features as floats: integers, and halves, as f32."""
    x = call.input()
    x = x if x.type.dtype is DType.F64 else call.cast(x, DType.F32)
    return call.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x


@converter("TreeEnsemble", domain=DOMAIN, since=5)
def _tree_ensemble(call: Call) -> Value:
    """Set membership is a chain of comparisons; sets follow each other in the order of depth first, yes before no."""
    x = _input(call)
    splits, modes, weights = _numbers(call, "nodes_splits"), _numbers(call, "nodes_modes"), _numbers(call, "leaf_weights")
    lists = {name: call.ints(name) or () for name in ("nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs",
                                                      "nodes_falseleafs", "leaf_targetids", "tree_roots")}
    tracks = call.ints("nodes_missing_value_tracks_true") or (0,) * len(splits)
    members = iter([] if call.tensor("membership_values") is None else _numbers(call, "membership_values").tolist())
    forest = _Forest(x.type.dtype)
    count = len(splits)
    tree_nodes = [forest.reserve() for _ in range(count)]
    leaves = [forest.reserve() for _ in weights]
    if len(lists["leaf_targetids"]) != len(weights):
        raise EdgeccError("E102", f"leaf_targetids has {len(lists['leaf_targetids'])} entries and leaf_weights {len(weights)}")
    for leaf, target, weight in zip(leaves, lists["leaf_targetids"], weights, strict=True):
        forest.leaves[leaf] = [(target, float(weight))]
    if any(len(lists[name]) != count for name in lists if name.startswith("nodes")) or len(modes) != count or len(tracks) != count:
        raise EdgeccError("E102", "the attributes of the nodes have different lengths")

    def child(node: int, branch: str) -> int:
        place, is_leaf = lists[f"nodes_{branch}nodeids"][node], lists[f"nodes_{branch}leafs"][node]
        group = leaves if is_leaf else tree_nodes
        if not 0 <= place < len(group):
            raise EdgeccError("E110", f"node {node} leads to {place}, which does not exist")
        return group[place]

    roots, done = [], set()
    for root in lists["tree_roots"]:
        if not 0 <= root < count:
            raise EdgeccError("E110", f"root {root} does not exist")
        roots.append(child(root, "true") if lists["nodes_trueleafs"][root] and child(root, "true") == child(root, "false") else root)
        pending = [root] if roots[-1] == root else []
        while pending:
            node = pending.pop()
            if node in done:
                continue
            done.add(node)
            mode = dict(enumerate(_MODES)).get(modes[node], "")
            yes, no, tracked = child(node, "true"), child(node, "false"), bool(tracks[node])
            if mode == "MEMBER":
                values = []
                for value in members:
                    if np.isnan(value):
                        break
                    values.append(value)
                forest.member(node, lists["nodes_featureids"][node], values, yes, no, tracked)
            elif mode:
                forest.compare(node, mode, lists["nodes_featureids"][node], float(splits[node]), yes, no, tracked or mode == "NEQ")
            else:
                raise EdgeccError("E102", f"mode {modes[node]} of a node is not known")
            pending += [k for k in (no, yes) if k < count]
    aggregate, post = call.integer("aggregate_function", 1), call.integer("post_transform", 0)
    if not 0 <= aggregate < len(_AGGREGATES) or not 0 <= post < len(POST_TRANSFORMS):
        raise EdgeccError("E102", f"aggregate_function is {aggregate} and post_transform {post}, wanted 0..3 and 0..4")
    y = forest.value(call, x, roots, call.integer("n_targets"), _AGGREGATES[aggregate])
    return call.cast(post_transformed(call, y, POST_TRANSFORMS[post]), call.input().type.dtype)


def _older_forest(call: Call, x: Value, kind: str, count: int) -> tuple[_Forest, list[int]]:
    """The trees of a TreeEnsembleClassifier or TreeEnsembleRegressor, whose leaves are nodes; `kind` is class or target, of which there are `count`."""
    trees, numbers = call.ints("nodes_treeids") or (), call.ints("nodes_nodeids") or ()
    modes, features = call.strings("nodes_modes") or (), call.ints("nodes_featureids") or ()
    yes, no = call.ints("nodes_truenodeids") or (), call.ints("nodes_falsenodeids") or ()
    splits = _either(call, "nodes_values")
    tracks = call.ints("nodes_missing_value_tracks_true") or (0,) * len(trees)
    if len({len(part) for part in (trees, numbers, modes, features, yes, no, splits, tracks)}) != 1:
        raise EdgeccError("E102", "the attributes of the nodes have different lengths")
    forest = _Forest(x.type.dtype)
    places: dict[tuple[int, int], int] = {}
    roots: dict[int, int] = {}
    for tree, node in zip(trees, numbers, strict=True):
        places[tree, node] = forest.reserve()
        roots.setdefault(tree, places[tree, node])
    for k, tree in enumerate(trees):
        mode = modes[k].removeprefix("BRANCH_")
        if mode == "LEAF":
            continue
        if mode not in _MODES[:6]:
            raise EdgeccError("E102", f"mode '{printable(modes[k])}' of a node is not known")
        if (tree, yes[k]) not in places or (tree, no[k]) not in places:
            raise EdgeccError("E110", f"node {numbers[k]} of tree {tree} leads to one that does not exist")
        forest.compare(places[tree, numbers[k]], mode, features[k], float(splits[k]), places[tree, yes[k]], places[tree, no[k]], bool(tracks[k]))
    owners, members, targets = (call.ints(f"{kind}_{part}") or () for part in ("treeids", "nodeids", "ids"))
    weights = _either(call, f"{kind}_weights")
    if len({len(part) for part in (owners, members, targets, weights)}) != 1:
        raise EdgeccError("E102", "the attributes of the leaves have different lengths")
    for tree, node, target, weight in zip(owners, members, targets, weights, strict=True):
        if (tree, node) not in places:
            raise EdgeccError("E110", f"tree {tree} has no leaf {node}")
        own = forest.leaves.setdefault(places[tree, node], [])
        if count > 1 or not own:  # where there is one target, onnxruntime takes the first weight of a leaf, and paths are exported for that
            own.append((target, float(weight)))
    return forest, list(roots.values())


def _either(call: Call, name: str) -> Sequence[float]:
    """Numbers given as floats, or as a tensor."""
    data = call.tensor(f"{name}_as_tensor")
    return call.floats(name) or () if data is None else [float(v) for v in data.reshape(-1)]


@converter("TreeEnsembleRegressor", domain=DOMAIN, until=4)
def _tree_regressor(call: Call) -> Value:
    x = _input(call)
    aggregate, targets = call.text("aggregate_function", "SUM").lower(), call.integer("n_targets", 1)
    forest, roots = _older_forest(call, x, "target", targets)
    if aggregate not in TREE_AGGREGATES:
        raise EdgeccError("E102", f"aggregate_function is '{printable(aggregate)}'")
    y = call.cast(forest.value(call, x, roots, targets, aggregate), DType.F32)
    base = _either(call, "base_values")
    if base:
        if len(base) != targets:
            raise EdgeccError("E110", f"base_values has {len(base)} entries, wanted {targets}")
        y = call.map(lambda a, c: apply("add", a, c), y, call.constant(np.array(base, np.float32)))
    return post_transformed(call, y, call.text("post_transform", "NONE"))


@converter("TreeEnsembleClassifier", domain=DOMAIN, until=4)
def _tree_classifier(call: Call) -> list[Value]:
    """Scores of classes, and the label of the best. Of two classes one may have no leaves: its score follows from the other's."""
    x = _input(call)
    labels = labels_of(call, "classlabels_int64s", "classlabels_strings")
    forest, roots = _older_forest(call, x, "class", len(labels))
    targets, post = call.ints("class_ids") or (), call.text("post_transform", "NONE")
    scores = call.cast(forest.value(call, x, roots, len(labels), "sum"), DType.F32)
    base = _either(call, "base_values")
    if len(labels) == 2 and len(set(targets)) == 1:
        if len(base) > 1:
            raise Unsupported("two base_values of a classifier whose leaves name one class")
        score = call.add(Slice((0, targets[0]), (x.type.shape[0], 1), (1, 1)), scores)
        if base:
            score = call.map(lambda a, c: apply("add", a, c), score, call.constant(np.array(base, np.float32)))
        is_share = min(_either(call, "class_weights"), default=0.0) >= 0
        return with_second_class(call, score, labels, post, threshold=0.5 if is_share else 0.0, complement=is_share and post == "NONE")
    if base:
        if len(base) != len(labels):
            raise EdgeccError("E110", f"base_values has {len(base)} entries, wanted {len(labels)}")
        scores = call.map(lambda a, c: apply("add", a, c), scores, call.constant(np.array(base, np.float32)))
    return best_label(call, scores, labels, post)
