"""Teachers: models that know what a small Transformer is slow to learn from a few thousand films.

Trained on their soft labels beside the true ones (Hinton et al. 2015), the network starts from that knowledge. Every
film's soft labels come from a teacher that has not seen it (out of fold): what a teacher has learned by heart is no
knowledge. Teachers label further texts too, whose true genres nobody knows: there the network learns what no training
film tells (a transfer set). Where another reader's genres of these texts are at hand, a large language model's say,
teachers and network learn from that reader as well. Two kinds:

- `linear`: TF-IDF of words and word pairs, and a logistic regression a genre. Knows which words speak for a genre.
- the folder or Hub repository of a pretrained encoder: the mean of its token vectors, frozen, and a small network on
  top. Knows what other texts say about the world.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from .data import file_hash, row_hash
from .prediction_movie_genre import length_batches
from .tokenization import local_source

logger = logging.getLogger(__name__)

FOLDS = 5
TEXTS_AT_ONCE, SECONDS_UNSAVED = 512, 120
LONGEST = 256  # tokens of a description that an encoder reads
READING_WEIGHT = 0.5  # of a text whose genres another reader says, to a teacher that learns from it; a film has 1
READING_SHARE = 0.3  # of such a text's label, what the reader says; the rest is what teachers say
# The network on an encoder's vectors; of as many networks, trained alike but for the seed, the mean counts.
TEACHER_WIDTH, TEACHER_EPOCHS, TEACHER_MEMBERS = 1024, 10, 2
CERTAIN = 1e-4  # teachers are not believed to be surer than this


def linear_model(analyzer: str = "word") -> Pipeline:
    """The untrained linear teacher; also the baseline that the network is measured against.

    Args:
        analyzer: what is counted, single and in pairs: "word"s, or "char"acters, where a language writes no spaces.
    """
    return make_pipeline(
        TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        MultiOutputClassifier(LogisticRegression(C=8.0, solver="liblinear")),
    )


def embed(name: str, descriptions: Sequence[str], cache: Path | None = None, *, bf16: bool = False) -> np.ndarray:
    """An encoder's view of each description: its token vectors' mean in the last and in the fourth last layer.

    Args:
        name: folder or Hub repository of any encoder that `AutoModel` loads.
        descriptions: texts, cut after 256 tokens.
        cache: folder for the vectors; a text that is there is not read again, nor after a crash what was read more than
            a few minutes before it.
        bf16: read in bfloat16: faster on processors that multiply in it, and next to the same vectors.

    Returns:
        (films, 2 * width) float32; each half has length one.
    """
    path = cache and cache / f"{Path(name).name}.safetensors"
    known = _stored(path)
    encoder = file_hash(Path(name) / "model.safetensors") or name  # a folder may be trained on under its name
    if bf16:
        encoder += " in bfloat16"
    keys = [hashlib.sha256(f"{encoder}\n{text}".encode()).hexdigest()[:32] for text in descriptions]
    missing = {key: text for key, text in zip(keys, descriptions, strict=True) if key not in known}
    if missing:
        read, names, saved = _reader(name, bf16), list(missing), time.monotonic()
        parts = [names[i : i + TEXTS_AT_ONCE] for i in range(0, len(names), TEXTS_AT_ONCE)]
        for part in track(parts, description=f"{Path(name).name} reads", transient=True):
            known |= dict(zip(part, read([missing[key] for key in part]), strict=True))
            if path and (part is parts[-1] or time.monotonic() - saved > SECONDS_UNSAVED):
                path.parent.mkdir(parents=True, exist_ok=True)
                known = _stored(path) | known  # another run may have read other texts meanwhile
                partial = path.with_suffix(f".{os.getpid()}.part")
                save_file(known, partial)
                os.replace(partial, path)
                saved = time.monotonic()
    return np.stack([known[key] for key in keys])


def _stored(path: Path | None) -> dict[str, np.ndarray]:
    """Vectors of a cache; none of a damaged one, which is filled anew."""
    if path and path.exists():
        with suppress(SafetensorError):
            return load_file(path)
    return {}


def _reader(name: str, bf16: bool) -> Callable[[list[str]], np.ndarray]:
    """An encoder that reads: texts -> vectors of `embed`."""
    source = local_source(name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True).to(device).eval()

    @torch.inference_mode()
    def read(texts: list[str]) -> np.ndarray:
        ids = tokenizer(texts, truncation=True, max_length=LONGEST, return_token_type_ids=False)["input_ids"]
        vectors = np.empty((len(ids), 2 * model.config.hidden_size), dtype=np.float32)
        for batch in length_batches([len(row) for row in ids], 32):
            padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                layers = model(**padded, output_hidden_states=True).hidden_states
            mask = padded["attention_mask"][..., None]
            means = [
                (layer.float() * mask).sum(dim=1) / mask.sum(dim=1)
                for layer in (layers[-1], layers[-min(4, len(layers))])
            ]
            vectors[batch] = torch.cat([F.normalize(mean, dim=-1) for mean in means], dim=-1).cpu().numpy()
        return vectors

    return read


def soft_labels(
    teachers: Sequence[str],
    descriptions: Sequence[str],
    truth: np.ndarray,
    texts: Sequence[str] = (),
    reading: np.ndarray | None = None,
    *,
    cache: Path | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """What several teachers, none of which was trained on the text, say together of films and of further texts.

    How much each counts is learned from the films: a logistic regression of their genres on the teachers'
    out-of-fold log-odds (stacking, Wolpert 1992).

    Args:
        teachers: "linear", or the folders or Hub repositories of encoders.
        descriptions: of the training films.
        truth: (films, genres) of 0 and 1.
        texts: that are no films' descriptions.
        reading: (texts, genres), the probabilities that another reader gives. Teachers learn from it, and it is a part
            of each text's label itself.
        cache: folder for the encoders' vectors, which are slow to compute.
        bf16: encoders read in bfloat16.

    Returns:
        (films + texts, genres) probabilities.

    Raises:
        ValueError: if there are fewer different descriptions than folds.
    """
    rows, films = [*descriptions, *texts], len(descriptions)
    labels = truth if reading is None else np.vstack([truth, reading])
    weights = np.where(np.arange(len(labels)) < films, 1.0, READING_WEIGHT)
    groups = [row_hash(text) for text in rows[: len(labels)]]
    said = []
    for name in teachers:
        logger.info("the teacher %s reads %s descriptions", name, f"{len(rows):,}")
        teach = linear_teacher if name == "linear" else encoder_teacher
        features = np.array(rows, dtype=object) if name == "linear" else embed(name, rows, cache, bf16=bf16)
        said.append(out_of_fold(teach, features, labels, groups, weights))
    if truth.min() == truth.max():  # every film has every genre, or none any: there is nothing to weigh teachers by
        return np.mean(said, axis=0)
    odds = logit(np.stack(said, axis=-1).clip(CERTAIN, 1 - CERTAIN)).reshape(-1, len(teachers))
    judge = LogisticRegression().fit(odds[: truth.size], truth.ravel())
    soft: np.ndarray = judge.predict_proba(odds)[:, 1].reshape(len(rows), -1)
    if reading is not None:
        soft[films:] = (1 - READING_SHARE) * soft[films:] + READING_SHARE * reading
    return soft


def predicted(model: Pipeline, features: np.ndarray) -> np.ndarray:
    """Probabilities (films, genres) of a fitted model."""
    return np.column_stack([both[:, 1] for both in model.predict_proba(features)])


# What a teacher that has learned says of features: (rows, ...) -> probabilities (rows, genres).
Learned = Callable[[np.ndarray], np.ndarray]


def linear_teacher(texts: np.ndarray, labels: np.ndarray, weights: np.ndarray, seed: int) -> Learned:
    """The linear model, fitted; a genre with a chance of a half and more counts as given.

    A genre that no row has, or all have, is beyond a regression: its frequency stands in.
    """
    given = labels >= 0.5
    known = given.any(axis=0) & ~given.all(axis=0)
    frequency, model = np.average(given, axis=0, weights=weights), linear_model()
    if known.any():
        told = {"y": given[:, known].astype(float), "multioutputclassifier__sample_weight": weights}
        try:
            model.fit(texts, **told)
        except ValueError as error:
            if "no terms remain" not in str(error) and "empty vocabulary" not in str(error):
                raise
            logger.warning("no two descriptions share a word: the linear teacher counts characters instead")
            model = linear_model("char").fit(texts, **told)

    def learned(texts: np.ndarray) -> np.ndarray:
        found = np.tile(frequency, (len(texts), 1))
        if known.any():
            found[:, known] = predicted(model, texts)
        return found

    return learned


def encoder_teacher(vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, seed: int) -> Learned:
    """A hidden layer over an encoder's vectors, trained by weighted cross-entropy; the mean of several such."""
    inputs, targets, weight = (torch.tensor(array, dtype=torch.float32) for array in (vectors, labels, weights))
    batch = min(128, max(16, len(inputs) // 100))
    networks = []
    with torch.random.fork_rng():
        for member in range(TEACHER_MEMBERS):
            torch.manual_seed(seed * TEACHER_MEMBERS + member)
            network = torch.nn.Sequential(
                torch.nn.LayerNorm(inputs.shape[1], elementwise_affine=False),
                torch.nn.Dropout(0.1),
                torch.nn.Linear(inputs.shape[1], TEACHER_WIDTH),
                torch.nn.GELU(),
                torch.nn.Dropout(0.3),
                torch.nn.Linear(TEACHER_WIDTH, targets.shape[1]),
            )
            optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05, fused=True)
            steps = TEACHER_EPOCHS * -(-len(inputs) // batch)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
            for _ in range(TEACHER_EPOCHS):
                for rows in torch.randperm(len(inputs)).split(batch):
                    loss = F.binary_cross_entropy_with_logits(
                        network(inputs[rows]), targets[rows], weight=weight[rows, None]
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
            networks.append(network.eval())

    @torch.inference_mode()
    def learned(vectors: np.ndarray) -> np.ndarray:
        inputs = torch.tensor(vectors, dtype=torch.float32)
        return torch.stack([network(inputs).sigmoid() for network in networks]).mean(dim=0).double().numpy()

    return learned


def out_of_fold(
    teach: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Learned],
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    weights: np.ndarray,
) -> np.ndarray:
    """Probabilities of each row by a teacher that was not trained on it.

    Args:
        teach: called for each of five folds with the other rows' features, labels and weights, and the fold's number,
            a seed. The folds are the same ones in every run.
        features: (rows, ...), what the teacher reads.
        labels: (labelled, genres) from 0 to 1, of the first rows; the others get the mean of all folds' teachers.
        groups: one a labelled row; rows of the same group share a fold.
        weights: one a labelled row, of its part in the fit.

    Returns:
        (rows, genres) probabilities.

    Raises:
        ValueError: if there are fewer groups than folds.
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < FOLDS:
        raise ValueError(f"{len(names)} different descriptions are too few for a teacher: at least {FOLDS} are needed")
    folds = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[number]
    labelled = len(labels)
    probabilities = np.zeros((len(features), labels.shape[1]))
    for fold in track(range(FOLDS), description="a teacher learns", transient=True):
        fit = np.flatnonzero(folds != fold)
        held = np.concatenate([np.flatnonzero(folds == fold), np.arange(labelled, len(features))])
        learned = teach(features[fit], labels[fit], weights[fit], fold)
        probabilities[held] += learned(features[held])
    probabilities[labelled:] /= FOLDS
    return probabilities
