"""Counts of n-grams against onnxruntime."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model

POOL = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 2, 3, 4]
GRAMS = {"ngram_counts": [0, 4, 10], "ngram_indexes": [0, 1, 2, 3, 4, 5, 7, 8], "pool_int64s": POOL}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("least", "most", "skip"), [(1, 1, 0), (1, 2, 0), (2, 2, 5), (1, 3, 2), (3, 3, 1)])
@pytest.mark.parametrize("dims", [[3, 12], [9], [2, 2]])
def test_n_grams(make, op, check, mode, least, most, skip, dims):
    weights = {"weights": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]} if mode != "TF" else {}
    node = op("TfIdfVectorizer", "x", "y", mode=mode, min_gram_length=least, max_gram_length=most, max_skip_count=skip, **GRAMS, **weights)
    x = np.random.default_rng(sum(dims)).integers(2, 9, dims)
    check(make([node], {"x": x}), {"x": x}, by="ort")


def test_pools_that_do_not_fit(make, op):
    node = op("TfIdfVectorizer", "x", "y", mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=0, ngram_counts=[0, 4],
              ngram_indexes=[0, 1], pool_int64s=POOL)
    with pytest.raises(EdgeccError, match="ngram_counts") as caught:
        import_model(make([node], {"x": np.zeros(4, np.int64)}))
    assert caught.value.code == "E110"
