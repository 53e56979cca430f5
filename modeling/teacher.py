"""Teachers: models that know what a small Transformer is slow to learn from a few thousand films.

Trained on their soft labels beside the true ones (Hinton et al. 2015), the network starts from that knowledge. Every
film's soft labels come from a teacher that has not seen it (out of fold): what a teacher has learned by heart is no
knowledge. Teachers that have seen all films label further texts, whose genres nobody knows: there the network learns
what no training film tells (a transfer set). Two kinds:

- `linear`: TF-IDF of words and word pairs, and a logistic regression a genre. Knows which words speak for a genre.
- the folder or Hub repository of a pretrained encoder: the mean of its token vectors, frozen, and a logistic
  regression a genre. Knows what other texts say about the world.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from .data import file_hash, row_hash
from .prediction_movie_genre import length_batches
from .tokenization import local_source

logger = logging.getLogger(__name__)

FOLDS = 5
LONGEST = 256  # tokens of a description that an encoder reads


def linear_model() -> Pipeline:
    """The untrained linear teacher; also the baseline that the network is measured against."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        OneVsRestClassifier(LogisticRegression(C=8.0, solver="liblinear")),
    )


def probe_model() -> Pipeline:
    """A logistic regression a genre on an encoder's frozen vectors, untrained; a baseline too."""
    return make_pipeline(OneVsRestClassifier(LogisticRegression(C=2.0, max_iter=1000)))


def embed(name: str, descriptions: Sequence[str], cache: Path | None = None) -> np.ndarray:
    """An encoder's view of each description: its token vectors' mean in the last and in the fourth last layer.

    Args:
        name: folder or Hub repository of any encoder that `AutoModel` loads.
        descriptions: texts, cut after 256 tokens.
        cache: folder for the vectors; a text that is there is not read again.

    Returns:
        (films, 2 * width) float32; each half has length one.
    """
    path = cache and cache / f"{Path(name).name}.safetensors"
    known: dict[str, np.ndarray] = {}
    if path and path.exists():
        with suppress(SafetensorError):  # a damaged cache is filled anew
            known = load_file(path)
    encoder = file_hash(Path(name) / "model.safetensors") or name  # a folder may be trained on under its name
    keys = [hashlib.sha256(f"{encoder}\n{text}".encode()).hexdigest()[:32] for text in descriptions]
    missing = {key: text for key, text in zip(keys, descriptions, strict=True) if key not in known}
    if missing:
        known |= dict(zip(missing, _read(name, list(missing.values())), strict=True))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.part")
            save_file(known, partial)
            os.replace(partial, path)
    return np.stack([known[key] for key in keys])


def _read(name: str, texts: list[str]) -> np.ndarray:
    """Vectors of `embed`, computed."""
    source = local_source(name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True).to(device).eval()
    ids = tokenizer(texts, truncation=True, max_length=LONGEST, return_token_type_ids=False)["input_ids"]
    vectors = np.empty((len(ids), 2 * model.config.hidden_size), dtype=np.float32)
    batches = length_batches([len(row) for row in ids], 32)
    for batch in track(batches, description=f"{Path(name).name} reads", transient=True):
        padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(device)
        with torch.inference_mode():
            layers = model(**padded, output_hidden_states=True).hidden_states
            mask = padded["attention_mask"][..., None]
            means = [
                (layer * mask).sum(dim=1) / mask.sum(dim=1) for layer in (layers[-1], layers[-min(4, len(layers))])
            ]
            vectors[batch] = torch.cat([F.normalize(mean, dim=-1) for mean in means], dim=-1).cpu().numpy()
    return vectors


def soft_labels(
    teachers: Sequence[str], descriptions: Sequence[str], truth: np.ndarray, *, seed: int = 0, cache: Path | None = None
) -> np.ndarray:
    """Mean of several teachers' out-of-fold probabilities.

    Args:
        teachers: "linear", or the folders or Hub repositories of encoders.
        descriptions: of the training films.
        truth: (films, genres) of 0 and 1.
        seed: of the folds.
        cache: folder for the encoders' vectors, which are slow to compute.

    Returns:
        (films, genres) probabilities.

    Raises:
        ValueError: if there are fewer different descriptions than folds.
    """
    groups = [row_hash(text) for text in descriptions]
    total = np.zeros(truth.shape)
    for name in teachers:
        logger.info("the teacher %s reads the training films", name)
        total += out_of_fold(_model(name), _features(name, descriptions, cache), truth, groups, seed=seed)
    return total / len(teachers)


def transfer_labels(
    teachers: Sequence[str],
    descriptions: Sequence[str],
    truth: np.ndarray,
    texts: Sequence[str],
    *,
    cache: Path | None = None,
) -> np.ndarray:
    """What several teachers, trained on all films, say of other texts: the mean of their probabilities.

    Args:
        teachers: as in `soft_labels`.
        descriptions: of the training films.
        truth: (films, genres) of 0 and 1.
        texts: without genres; none of them a training film's description, which its teacher would know by heart.
        cache: as in `soft_labels`.

    Returns:
        (texts, genres) probabilities.
    """
    total = np.zeros((len(texts), truth.shape[1]))
    for name in teachers if len(texts) else ():
        logger.info("the teacher %s reads %s texts without genres", name, f"{len(texts):,}")
        known, new = (_features(name, part, cache) for part in (descriptions, texts))
        total += _fit_predict(_model(name), known, truth, new)
    return total / len(teachers)


def _model(name: str) -> Pipeline:
    return linear_model() if name == "linear" else probe_model()


def _features(name: str, descriptions: Sequence[str], cache: Path | None) -> np.ndarray:
    """What a teacher's model reads of each description."""
    return np.array(descriptions, dtype=object) if name == "linear" else embed(name, descriptions, cache)


def _fit_predict(model: Pipeline, features: np.ndarray, truth: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Probabilities (others, genres).

    A genre that the films do not know, or that all of them have, is beyond a regression: its frequency stands in.
    """
    probabilities = np.tile(truth.mean(axis=0), (len(others), 1))
    known = (truth.min(axis=0) == 0) & (truth.max(axis=0) == 1)
    if known.any():
        model.fit(features, truth[:, known])
        # For a single genre scikit-learn gives the complement's column too, and first.
        probabilities[:, known] = model.predict_proba(others)[:, -known.sum() :]
    return probabilities


def out_of_fold(
    model: Pipeline, features: np.ndarray, truth: np.ndarray, groups: Sequence[str], *, seed: int = 0
) -> np.ndarray:
    """Probabilities of each film by a model that was not trained on it.

    Args:
        model: multi-label, untrained; fitted anew for each of five folds.
        features: (films, ...), what the model reads.
        truth: (films, genres) of 0 and 1.
        groups: one a film; films of the same group share a fold.
        seed: of the folds.

    Returns:
        (films, genres) probabilities.

    Raises:
        ValueError: if there are fewer groups than folds.
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < FOLDS:
        raise ValueError(f"{len(names)} different descriptions are too few for a teacher: at least {FOLDS} are needed")
    folds = (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[number]
    probabilities = np.zeros(truth.shape)
    for fold in range(FOLDS):
        fit, held = folds != fold, folds == fold
        probabilities[held] = _fit_predict(model, features[fit], truth[fit], features[held])
    return probabilities
