"""Do the words that attribution points at carry the genre? Writes results/attribution.json.

    python -m benchmarks.attribution [--films 228]

For each test film of data/movies.csv and its most probable genre, the top words of each method are deleted from the
text and the genre's probability is read again; the same number of random words is deleted for comparison. A method
points at something real if its words take more probability away. Intervals are 95 % bootstrap intervals over films.
"""

import argparse
import json
from collections.abc import Iterable

import numpy as np
import torch

from benchmarks.common import CHECKPOINT, MOVIES, RESULTS, about, movies, weights, write
from modeling import MovieGenreModel
from modeling.metrics import bootstrap
from modeling.modeling_movie_genre import GRADIENT_STEPS
from modeling.prediction_movie_genre import word_weights

SHARE = 0.2  # of a text's words are deleted
RANDOM_DRAWS = 10
Spans = list[tuple[int, int, float]]


def gradient_times_input(model: MovieGenreModel, text: str, genre: int) -> Spans:
    """The cheaper rival of integrated gradients: one gradient, at the text itself (Simonyan et al. 2013)."""
    encoded = model.tokenizer(text, return_offsets_mapping=True, return_tensors="pt", verbose=False)
    ids = encoded["input_ids"][:, : model.config.max_position_embeddings]
    embeddings = model.embeddings.word_embeddings(ids).detach().requires_grad_()
    pooled, _ = model.pooling(model._encode(ids, None, inputs_embeds=embeddings)[-1], None)
    (gradient,) = torch.autograd.grad(model.classifier(pooled)[0, genre], embeddings)
    offsets = encoded["offset_mapping"][0, : ids.shape[1]].tolist()
    return word_weights(text, offsets, (embeddings.detach() * gradient).sum(dim=-1)[0].numpy())


def without(text: str, spans: Iterable[tuple[int, int, float]]) -> str:
    """The text with these words taken out."""
    for start, end, _ in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    return text


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=228, help="test films to look at")
    options = parser.parse_args()
    model = MovieGenreModel.from_pretrained(CHECKPOINT).eval()
    texts = [film["description"] for film in movies("test")][: options.films]
    generator = np.random.default_rng(0)

    changed: list[str] = []
    of_method: list[tuple[str, int, str]] = []  # method, film, genre of each changed text
    before = []
    for film, (text, prediction) in enumerate(zip(texts, model.predict_genres(texts), strict=True)):
        genre = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        before.append(prediction.probabilities[genre])
        ranked = {
            "integrated gradients": model.predict_genres(text, attribution="gradient", genre=genre).word_weights,
            "gradient x input": gradient_times_input(model, text, model.config.genres.index(genre)),
            "pooling weight": model.predict_genres(text, attribution="pooling").word_weights,
        }
        words = ranked["pooling weight"]
        count = max(1, round(SHARE * len(words)))
        deleted = [(name, sorted(spans, key=lambda span: -span[2])[:count]) for name, spans in ranked.items()]
        deleted += [
            ("random words", [words[i] for i in generator.permutation(len(words))[:count]]) for _ in range(RANDOM_DRAWS)
        ]
        for method, spans in deleted:
            changed.append(without(text, spans))
            of_method.append((method, film, genre))

    drops: dict[str, np.ndarray] = {}
    for (method, film, genre), prediction in zip(of_method, model.predict_genres(changed), strict=True):
        share = 1 / RANDOM_DRAWS if method == "random words" else 1.0
        row = drops.setdefault(method, np.zeros(len(texts)))
        row[film] += share * (before[film] - prediction.probabilities[genre])

    def figure(values: np.ndarray) -> dict[str, float | list[float]]:
        interval = bootstrap(lambda sample: {"mean": float(sample.mean())}, [values])["mean"]
        return {"mean": float(values.mean()), "interval": interval}

    chance = drops["random words"]
    result = {
        **about("attribution", MOVIES, split="test", films=len(texts)),
        "model": weights(CHECKPOINT),
        "gradient_steps": GRADIENT_STEPS,
        "share_of_words_deleted": SHARE,
        "probability_before": float(np.mean(before)),
        "probability_lost": {method: figure(values) for method, values in drops.items()},
        "more_than_random": {
            method: figure(values - chance) for method, values in drops.items() if method != "random words"
        },
    }
    write(RESULTS / "attribution.json", result)
    print(json.dumps(result["probability_lost"], indent=1))


if __name__ == "__main__":
    main()
