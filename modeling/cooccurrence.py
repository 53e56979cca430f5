"""Token embeddings from the corpus' own co-occurrence, as a start for a network without outside weights."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd

WINDOW = 8
SMOOTHING = 0.75


def cooccurrence_embeddings(
    ids: Sequence[Sequence[int]], vocabulary_size: int, dimensions: int, *, scale: float
) -> np.ndarray:
    """Factorise the positive pointwise mutual information of word pieces (Levy, Goldberg and Dagan 2015).

    Args:
        ids: word pieces of each training text, without special tokens.
        vocabulary_size: rows of the result.
        dimensions: width of the result.
        scale: root mean square of the values.

    Returns:
        (vocabulary_size, dimensions).
    """
    shape = (vocabulary_size, vocabulary_size)
    counts = csr_matrix(shape)
    for distance in range(1, WINDOW + 1):
        left = np.concatenate([np.asarray(row[:-distance], dtype=int) for row in ids])
        right = np.concatenate([np.asarray(row[distance:], dtype=int) for row in ids])
        counts = counts + csr_matrix((np.ones(len(left)), (left, right)), shape=shape)
    counts = (counts + counts.T).tocoo()
    frequency = np.asarray(counts.sum(axis=1)).ravel()
    context = frequency**SMOOTHING / (frequency**SMOOTHING).sum()
    information = np.log(counts.data / (frequency[counts.row] * context[counts.col]))
    positive = information > 0
    matrix = csr_matrix((information[positive], (counts.row[positive], counts.col[positive])), shape=shape)
    rank = min(dimensions, vocabulary_size)
    vectors, values, _ = randomized_svd(matrix, rank, random_state=0)
    embeddings = np.zeros((vocabulary_size, dimensions))
    embeddings[:, :rank] = vectors * np.sqrt(values)
    norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    known = norm[:, 0] > 0
    embeddings[known] *= scale * np.sqrt(dimensions) / norm[known]
    embeddings[~known] = np.random.default_rng(0).normal(0, scale, size=((~known).sum(), dimensions))
    return embeddings
