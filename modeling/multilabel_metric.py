"""The multi-label measures as a module of `evaluate`, for the Trainer's callback; needs no network."""

import datasets
import evaluate
import numpy as np

from .metrics import decision_scores, ranking_scores

_DESCRIPTION = "Multi-label measures: micro, macro and samples F1, subset accuracy, Hamming loss, average precision."
_INPUTS = """
Args:
    predictions: lists of 0 and 1, one value a label.
    references: the same for the truth.
    probabilities: optional, (rows, labels); adds the average precisions.
"""


class MultilabelMetric(evaluate.Metric):
    """`compute(predictions=, references=, probabilities=)` -> the names of `modeling.metrics.SCORES`."""

    def _info(self) -> evaluate.MetricInfo:
        integers = datasets.Sequence(datasets.Value("int32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": integers, "references": integers}),
        )

    def _compute(
        self, predictions: list, references: list, probabilities: np.ndarray | None = None
    ) -> dict[str, float]:
        truth, chosen = np.asarray(references), np.asarray(predictions)
        values = decision_scores(truth, chosen)
        return values if probabilities is None else values | ranking_scores(truth, np.asarray(probabilities))
