"""Scores, labels and metrics of one's own."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.quantization.accuracy import check_classes, labels_of, metric_named, read_labels, top_class


def test_the_top_class_is_compared_with_the_label_or_the_float_model():
    outputs, reference = {"y": np.array([0.1, 0.7, 0.2])}, {"y": np.array([0.5, 0.3, 0.2])}
    assert [top_class(outputs, reference, label) for label in (None, 0, 1)] == [0.0, 0.0, 1.0]
    assert top_class(reference, reference, None) == 1.0


def test_each_row_of_a_batch_has_its_class():
    outputs, reference = {"y": np.array([[9.0, 1, 2], [0, 3, 1]])}, {"y": np.array([[0.1, 0.7, 0.2], [0, 3, 1]])}
    assert [top_class(outputs, reference, label) for label in (None, (0, 1), (0, 0), (2, 2))] == [0.5, 1.0, 0.5, 0.0]
    assert labels_of((1, 2, 3, 4), 2) == [(1, 2), (3, 4)] and labels_of((1, 2), 1) == (1, 2)


def test_outputs_that_say_nothing_of_classes_are_refused():
    for dims in ((1, 10), (4, 10), (10,), (1, 10, 1, 1)):
        check_classes(dims)
    for dims in ((1, 1), (1,), (), (1, 84, 2100), (1, 4, 8, 8)):
        with pytest.raises(EdgeccError, match="no row of classes") as caught:
            check_classes(dims)
        assert caught.value.code == "E001"


def test_labels_by_name_and_by_order(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("file,name,class_index\nb.png,bear,7\na.png,ant,3\n", encoding="utf-8")
    assert read_labels(table, ["a.png", "b.png"], 2, offset=1) == (4, 8)
    lines = tmp_path / "labels.txt"
    lines.write_text("5\n6\n7\n", encoding="utf-8")
    assert read_labels(lines, None, 2) == (5, 6)
    for path, names, count, message in ((table, ["c.png"], 1, "no line for 'c.png'"), (table, None, 1, "no files of their own"),
                                        (lines, None, 4, "3 classes for 4"), (tmp_path / "none.txt", None, 1, "cannot be read")):
        with pytest.raises(EdgeccError, match=message) as caught:
            read_labels(path, names, count)
        assert caught.value.code == "E007"
    lines.write_text("five", encoding="utf-8")
    with pytest.raises(EdgeccError, match="is no number"):
        read_labels(lines, None, 1)


def test_a_metric_is_imported_by_name():
    assert metric_named("edgecc.quantization.accuracy:top_class")({"y": np.array([1, 0])}, {"y": np.array([1, 0])}, None) == 1.0
    for name in ("edgecc.nothing:f", "edgecc.errors:nothing", "edgecc.errors", "edgecc.errors:__doc__"):
        with pytest.raises(EdgeccError) as caught:
            metric_named(name)
        assert caught.value.code == "E001"
