"""Operators of ai.onnx.ml on numbers, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model, import_model_with_report
from edgecc.frontend.bind import Range
from edgecc.reference.executor import execute
from tests.support import onnxruntime_sessions

F = np.float32
DOMAIN = "ai.onnx.ml"
POSTS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]


@pytest.fixture
def run(make, op, check):
    """run(op_type, feeds, outputs, version, **attributes) compares one node with onnxruntime."""
    def checked(op_type, feeds, outputs="y", version=3, by="ort", **attributes):
        model = make([op(op_type, " ".join(feeds), outputs, domain=DOMAIN, **attributes)], feeds, outputs.split(), domains=[(DOMAIN, version)])
        return check(model, feeds, by=by, tolerance=1e-5)
    return checked


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifier(run, random, post, classes):
    run("LinearClassifier", {"x": random(5, 4)}, "label score", coefficients=random(4 * classes).tolist(), intercepts=random(classes).tolist(),
        classlabels_ints=[7, 3, 5][:classes], post_transform=post, multi_class=0)


@pytest.mark.parametrize("post", POSTS[:3:2])
def test_linear_classifier_of_two_classes_by_one_score(run, random, post):
    run("LinearClassifier", {"x": random(9, 4)}, "label score", coefficients=random(4).tolist(), intercepts=[0.1], classlabels_ints=[4, 9],
        post_transform=post)


def test_linear_regressor(run, random):
    run("LinearRegressor", {"x": random(5, 4)}, coefficients=random(8).tolist(), intercepts=[0.5, -1.0], targets=2)


@pytest.mark.parametrize("one_class", [0, 1])
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(run, random, kernel, one_class):
    run("SVMRegressor", {"x": random(6, 4)}, coefficients=random(5).tolist(), support_vectors=random(20).tolist(), n_supports=5, rho=[0.3],
        kernel_type=kernel, kernel_params=[0.4, 0.5, 3.0], one_class=one_class)


def test_a_support_vector_machine_without_vectors_is_linear(run, random):
    run("SVMRegressor", {"x": random(6, 4)}, coefficients=random(4).tolist(), rho=[0.3], n_supports=0, kernel_params=[0.0, 0.0, 0.0])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(run, random, norm):
    run("Normalizer", {"x": random(3, 5)}, norm=norm)
    run("Normalizer", {"x": np.array([[1, -4], [-2, -1], [0, 0], [0, -3]], F)}, norm=norm)


def test_features(run, random):
    x = random(4, 3)
    run("Scaler", {"x": x}, offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 4.0])
    run("Binarizer", {"x": x}, threshold=0.25)
    run("ArrayFeatureExtractor", {"x": x, "i": np.array([[2, 0]])})
    run("FeatureVectorizer", {"x": x, "z": random(4, 2)}, inputdimensions=[3, 2])
    x[1, 2] = x[0, 0] = np.nan
    run("Imputer", {"x": x}, imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))


def test_one_hot_encoder_of_categories_that_must_be_known(run, make, op):
    """scikit-learn's default: another category ends the run."""
    for x in (np.array([[3], [1], [8]]), np.array([["b"], ["a"], ["b"]])):
        given = {"cats_strings": ["a", "b"]} if x.dtype.kind == "U" else {"cats_int64s": [1, 3, 8]}
        run("OneHotEncoder", {"x": x.astype(object) if x.dtype.kind == "U" else x}, zeros=0, **given)
    model = make([op("OneHotEncoder", "x", "y", domain=DOMAIN, zeros=0, cats_int64s=[1, 3])], {"x": [2]}, domains=[(DOMAIN, 1)])
    with edgecc.load(edgecc.compile(model, target="generic-c"), cc="gcc") as compiled, pytest.raises(EdgeccError) as caught:
        compiled.run({"x": np.array([1, 2], F)})
    assert caught.value.code == "E403"


def test_of_several_weights_of_a_leaf_the_first_counts_where_there_is_one_target(make, op, check, random):
    """As in paths through trees that sklearn-onnx exports."""
    nodes = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
             "nodes_values": [0.1, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0] * 4}
    for count, ids in ((1, [0, 0, 0, 0]), (2, [1, 1, 0, 0])):
        made = op("TreeEnsembleRegressor", "x", "y", domain=DOMAIN, n_targets=count, target_nodeids=[1, 1, 2, 2], target_ids=ids,
                  target_weights=[4.0, 5.0, 6.0, 7.0], **nodes)
        check(make([made], {"x": [5, 3]}, domains=[(DOMAIN, 1)]), {"x": random(5, 3)}, by="ort")


def test_label_encoder(run):
    run("LabelEncoder", {"x": np.array([[3, 1], [8, -3]])}, version=2, keys_int64s=[1, 3, 8], values_floats=[0.5, 1.5, 2.5], default_float=-1.0)
    run("LabelEncoder", {"x": np.array([1.5, np.nan, 2.0], F)}, version=4, keys_floats=[float("nan"), 1.5], values_int64s=[4, 5], default_int64=0)


# -- trees ------------------------------------------------------------------------------------


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def forest(random, trees, features, depth, modes):
    """Complete trees: node lists by attribute, and the leaves."""
    nodes = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                                   "missing_value_tracks_true")}
    leaves = []
    for tree in range(trees):
        inner = 2**depth - 1
        for k in range(2 * inner + 1):
            is_leaf = k >= inner
            row = (tree, k, 0 if is_leaf else int(random.integers(0, features)), 0.0 if is_leaf else float(random.integers(-2, 3)) / 2,
                   "LEAF" if is_leaf else str(random.choice(modes)), 0 if is_leaf else 2 * k + 1, 0 if is_leaf else 2 * k + 2, int(random.integers(0, 2)))
            for entries, entry in zip(nodes.values(), row, strict=True):
                entries.append(entry)
            if is_leaf:
                leaves.append((tree, k))
    return {f"nodes_{name}": entries for name, entries in nodes.items()}, leaves


def samples(random, rows, features):
    x = random.integers(-3, 4, (rows, features)).astype(F) / 2
    x[random.random(x.shape) < 0.15] = np.nan
    return x


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [MODES[:1], MODES[1:2], MODES[2:4], MODES[4:5]])
def test_tree_regressor(run, aggregate, modes):
    random = np.random.default_rng(0)
    nodes, leaves = forest(random, 3, 4, 3, modes)
    attributes = {"target_treeids": [t for t, _ in leaves], "target_nodeids": [k for _, k in leaves], "target_ids": [0] * len(leaves),
                  "target_weights": random.normal(size=len(leaves)).tolist()}
    run("TreeEnsembleRegressor", {"x": samples(random, 40, 4)}, n_targets=1, aggregate_function=aggregate, base_values=[0.25], **nodes, **attributes)


@pytest.mark.parametrize("post", POSTS)
def test_tree_classifier_of_three_classes(run, post):
    random = np.random.default_rng(1)
    nodes, leaves = forest(random, 4, 3, 2, MODES[:1])
    attributes = {"class_treeids": [t for t, _ in leaves], "class_nodeids": [k for _, k in leaves],
                  "class_ids": random.integers(0, 3, len(leaves)).tolist(), "class_weights": random.random(len(leaves)).tolist()}
    run("TreeEnsembleClassifier", {"x": samples(random, 30, 3)}, "label score", classlabels_int64s=[5, 6, 2], post_transform=post, **nodes, **attributes)


@pytest.mark.parametrize("post", POSTS[:3:2])
@pytest.mark.parametrize("signed", [False, True])
def test_tree_classifier_of_two_classes_by_one_score(run, signed, post):
    random = np.random.default_rng(2)
    nodes, leaves = forest(random, 3, 3, 2, MODES[:1])
    weights = random.normal(size=len(leaves)) if signed else random.random(len(leaves)) / 3
    run("TreeEnsembleClassifier", {"x": samples(random, 30, 3)}, "label score", classlabels_int64s=[0, 1], class_ids=[0] * len(leaves),
        class_treeids=[t for t, _ in leaves], class_nodeids=[k for _, k in leaves], class_weights=weights.tolist(), post_transform=post, **nodes)


def test_comparisons_at_infinities_and_zero():
    """Each comparison becomes one of x <= split alone."""
    values = np.array([-np.inf, -1.0, -0.0, 0.0, 1e-45, 1.0, np.inf, np.nan], F)
    meanings = [np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal]
    for split in values[:-1]:
        for mode, meaning in enumerate(meanings):
            node = helper.make_node(
                "TreeEnsemble", ["x"], ["y"], domain=DOMAIN, n_targets=1, tree_roots=[0], nodes_featureids=[0], nodes_truenodeids=[0],
                nodes_trueleafs=[1], nodes_falsenodeids=[1], nodes_falseleafs=[1], leaf_targetids=[0, 0],
                nodes_modes=numpy_helper.from_array(np.array([mode], np.uint8)), nodes_splits=numpy_helper.from_array(np.array([split], F)),
                leaf_weights=numpy_helper.from_array(np.array([1.0, 2.0], F)))
            graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, [8, 1])], [helper.make_empty_tensor_value_info("y")])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid(DOMAIN, 5), helper.make_opsetid("", 22)], ir_version=10)
            got = execute(import_model(model), {"x": values[:, None]})["y"][:, 0]
            np.testing.assert_array_equal(got, np.where(meaning(values, split), 1.0, 2.0), err_msg=f"{meaning.__name__} {split}")


def test_trees_with_cycles_are_refused(make, op):
    nodes = {"nodes_treeids": [0], "nodes_nodeids": [0], "nodes_featureids": [0], "nodes_values": [0.0], "nodes_modes": ["BRANCH_LEQ"],
             "nodes_truenodeids": [0], "nodes_falsenodeids": [0]}
    model = make([op("TreeEnsembleRegressor", "x", "y", domain=DOMAIN, n_targets=1, target_treeids=[0], target_nodeids=[0], target_ids=[0],
                     target_weights=[1.0], **nodes)], {"x": [2, 2]}, domains=[(DOMAIN, 3)])
    with pytest.raises(EdgeccError) as caught:
        import_model(model)
    assert caught.value.code == "E110"


# -- support vectors, maps ----------------------------------------------------------------------


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("counts", [[3, 2], [2, 3, 1], [1, 0, 4, 2]])
def test_votes_of_support_vectors(run, random, counts, post):
    total, classes = sum(counts), len(counts)
    kernel = {2: "LINEAR", 3: "RBF", 4: "POLY"}[classes]
    run("SVMClassifier", {"x": random(7, 4)}, "label score", coefficients=random(total * (classes - 1)).tolist(), kernel_type=kernel,
        kernel_params=[0.4, 0.5, 2.0], rho=random(classes * (classes - 1) // 2).tolist(), support_vectors=random(total * 4).tolist(),
        vectors_per_class=counts, classlabels_ints=[7, 3, 5, 9][:classes], post_transform=post)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_support_vector_machine(run, random, classes, sign):
    weights = random(classes * 4) if sign < 0 else np.abs(random(classes * 4))
    run("SVMClassifier", {"x": random(9, 4)}, "label score", coefficients=weights.tolist(), rho=[-0.2], classlabels_ints=[4, 9, 2][:classes],
        kernel_params=[0.0, 0.0, 0.0])


@pytest.mark.parametrize(("counts", "post"), [([1, 2], "NONE"), ([3, 2], "LOGISTIC"), ([2, 1, 2], "NONE"), ([2, 1, 2], "SOFTMAX"),
                                              ([1, 2, 1, 3, 1], "NONE")])
def test_probabilities_of_support_vectors(run, random, counts, post):
    total, classes = sum(counts), len(counts)
    pairs = classes * (classes - 1) // 2
    for _ in range(3):
        run("SVMClassifier", {"x": 2 * random(7, 4)}, "label score", coefficients=random(total * (classes - 1)).tolist(), kernel_type="RBF",
            kernel_params=[0.4, 0.5, 2.0], rho=random(pairs).tolist(), support_vectors=random(total * 4).tolist(), vectors_per_class=counts,
            classlabels_ints=list(range(classes)), prob_a=(-2 * np.abs(random(pairs))).tolist(), prob_b=random(pairs).tolist(), post_transform=post)


def test_probabilities_that_do_not_fit_are_refused(make, op, random):
    for numbers, classes in ((2, 2), (1, 3), (200 * 199 // 2, 200)):
        wrong = op("SVMClassifier", "x", "label score", domain=DOMAIN, coefficients=[1.0] * (classes * (classes - 1)), rho=[0.1] * (classes * (classes - 1) // 2),
                   support_vectors=random(classes * 4).tolist(), vectors_per_class=[1] * classes, classlabels_ints=list(range(classes)),
                   prob_a=[1.0] * numbers, prob_b=[0.0] * numbers)
        with pytest.raises(EdgeccError, match=r"prob_a|at most are"):
            import_model(make([wrong], {"x": random(3, 4)}, ["label", "score"], domains=[(DOMAIN, 3)]))


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [4, 7, 1]}, {"classlabels_strings": ["a", "b\n", "*/"]}])
def test_maps_are_columns_with_names(make, op, random, labels):
    pytest.importorskip("onnxruntime")
    x = random(3, 3)
    model = make([op("ZipMap", "x", "y", domain=DOMAIN, **labels)], {"x": x}, domains=[(DOMAIN, 1)])
    graph, report = import_model_with_report(model)
    wanted = onnxruntime_sessions.run(model, {"x": x})[0]
    (port,) = report.outputs
    assert port.kind == "maps" and port.gather(execute(graph, {"x": x})) == wanted
    assert any("column" in note for note in report.notes)


def of_a_map(op, attributes, key, value):
    kinds = {"int64": TensorProto.INT64, "string": TensorProto.STRING, "float": TensorProto.FLOAT, "double": TensorProto.DOUBLE}
    x = onnx.ValueInfoProto(name="x")
    x.type.map_type.key_type = kinds[key]
    x.type.map_type.value_type.tensor_type.elem_type = kinds[value]
    graph = helper.make_graph([op("CastMap" if "map_form" in attributes else "DictVectorizer", "x", "y", domain=DOMAIN, **attributes)], "g", [x],
                              [helper.make_empty_tensor_value_info("y")])
    graph.output[0].type.tensor_type.elem_type = kinds["float" if "map_form" in attributes else value]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)], ir_version=9)


@pytest.mark.parametrize(("attributes", "key", "value", "given"), [
    ({"string_vocabulary": ["a", "c", "b\x1b[2J", "z"]}, "string", "float", {"a": 4.0, "c": 8.0}),
    ({"int64_vocabulary": [7, -1, 3]}, "int64", "float", {3: 0.5, -1: 2.5}),
    ({"map_form": "SPARSE", "max_map": 5, "cast_to": "TO_FLOAT"}, "int64", "float", {0: 1.5, 3: -2.0})])
def test_maps_that_are_inputs_become_columns(op, attributes, key, value, given):
    pytest.importorskip("onnxruntime")
    model = of_a_map(op, attributes, key, value)
    wanted = onnxruntime_sessions.run(model, {"x": given})[0]
    graph, report = import_model_with_report(model)
    (port,) = report.inputs
    assert port.kind == "map" and len(report.notes) == 1 and "\x1b" not in report.notes[0]
    columns = np.array([[given.get(k, 0) for k in port.keys]], graph.inputs[0].type.dtype.numpy)
    np.testing.assert_array_equal(execute(graph, {"x": columns})["y"], wanted)


@pytest.mark.parametrize("attributes", [{"map_form": "DENSE"}, {"map_form": "SPARSE"}, {"map_form": "SPARSE", "max_map": 2**62}])
def test_maps_whose_keys_nothing_says_are_refused(op, attributes):
    with pytest.raises(EdgeccError) as caught:
        import_model(of_a_map(op, attributes, "int64", "float"))
    assert caught.value.code in ("E102", "E105")


def test_operators_on_maps_take_no_other_tensors(make, op, random):
    with pytest.raises(EdgeccError, match="wanted a map"):
        import_model(make([op("DictVectorizer", "x", "y", domain=DOMAIN, int64_vocabulary=[1, 2])], {"x": random(1, 3)}, domains=[(DOMAIN, 1)]))


def test_the_number_of_rows_may_be_the_runs(make, op, random):
    coefficients = {"coefficients": random(8).tolist(), "intercepts": [0.5, -1.0], "classlabels_ints": [3, 8], "post_transform": "LOGISTIC"}
    nodes = [op("Scaler", "x", "s", domain=DOMAIN, offset=[1.0], scale=[0.5]), op("Normalizer", "s", "n", domain=DOMAIN, norm="L2"),
             op("LinearClassifier", "n", "label p", domain=DOMAIN, **coefficients), op("ZipMap", "p", "maps", domain=DOMAIN, classlabels_int64s=[3, 8])]
    model = make(nodes, {"x": ["rows", 4]}, ["label", "maps"], domains=[(DOMAIN, 3)])
    x = random(5, 4)
    opened = execute(import_model(model, shapes={"x": (Range(1, 9), 4)}), {"x": x})
    fixed = execute(import_model(model, shapes={"x": (5, 4)}), {"x": x})
    np.testing.assert_array_equal(opened["label"], fixed["label"])
    np.testing.assert_allclose(opened["maps"], fixed["maps"], rtol=1e-6)
