"""Teachers: models that know what a small Transformer is slow to learn from a few thousand films.

Trained on their soft labels beside the true ones (Hinton et al. 2015), the network starts from that knowledge. Every
film's soft labels come from a teacher that has not seen it (out of fold): what a teacher has learned by heart is no
knowledge. Teachers label further texts too, whose true genres nobody knows: there the network learns what no training
film tells (a transfer set). Where another reader's genres of these texts are at hand, a large language model's say,
teachers and network learn from that reader as well. Two kinds:

- `linear`: TF-IDF of words and word pairs, and a logistic regression a genre. Knows which words speak for a genre.
- the folder or Hub repository of a pretrained encoder: the mean of its token vectors, frozen, and a small network on
  top. Knows what other texts say about the world. Its last layers may be tuned to the genres too, in a teacher of its
  own: slower, and beside the frozen one it errs differently.
"""

import copy
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModel,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from .data import file_hash, row_hash
from .prediction_movie_genre import length_batches
from .tokenization import local_source

logger = logging.getLogger(__name__)

FOLDS = 5
TEXTS_AT_ONCE, SECONDS_UNSAVED = 512, 120
LONGEST = 256  # tokens of a description that an encoder reads
BATCH = 32  # descriptions that it reads, or learns from, at a time
READING_WEIGHT = 0.5  # of a text whose genres another reader says, to a teacher that learns from it; a film has 1
READING_SHARE = 0.3  # of such a text's label, what the reader says; the rest is what teachers say
# The network on an encoder's vectors; of as many networks, trained alike but for the seed, the mean counts.
TEACHER_WIDTH, TEACHER_EPOCHS, TEACHER_MEMBERS = 1024, 10, 2
# An encoder whose last layers are tuned; the dense layer on top, which starts from nothing, learns at so many times
# the rate.
TUNED_FOLDS, TUNED_EPOCHS, TUNED_RATE, TUNED_HEAD = 3, 2, 1.5e-4, 10
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


def probe_model() -> Pipeline:
    """A logistic regression a genre on an encoder's frozen vectors, untrained; a baseline."""
    return make_pipeline(MultiOutputClassifier(LogisticRegression(C=2.0, max_iter=1000)))


def embed(name: str, descriptions: Sequence[str], cache: Path | None = None, *, bf16: bool = False) -> np.ndarray:
    """An encoder's `Encoder.views` of each description."""
    return Encoder(name, descriptions, cache, bf16=bf16).views()


class Stored:
    """Arrays by name, and the file that keeps them for the next run; a damaged one is filled anew."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.arrays: dict[str, np.ndarray] = {}
        if path and path.exists():
            with suppress(SafetensorError):
                self.arrays = load_file(path)

    def save(self) -> None:
        """Replace the file, whole."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}.part")
        save_file(self.arrays, partial)
        os.replace(partial, self.path)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:32]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of each text's token vectors: (batch, seq, width), (batch, seq) -> (batch, width)."""
    return (states.float() * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def soft_labels(
    teachers: Sequence[str],
    descriptions: Sequence[str],
    truth: np.ndarray,
    texts: Sequence[str] = (),
    reading: np.ndarray | None = None,
    *,
    layers: int = 0,
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
        layers: of every encoder that are tuned, in a teacher of its own; 0 leaves that out.
        cache: folder for the encoders' vectors, and what tuned ones say, which are slow to compute.
        bf16: encoders read and learn in bfloat16.

    Returns:
        (films + texts, genres) probabilities.

    Raises:
        ValueError: if there are fewer different descriptions than folds, or an encoder has fewer layers.
    """
    rows, films = [*descriptions, *texts], len(descriptions)
    labels = truth if reading is None else np.vstack([truth, reading])
    weights = np.where(np.arange(len(labels)) < films, 1.0, READING_WEIGHT)
    groups = [row_hash(text) for text in rows[: len(labels)]]
    said = []
    for name in teachers:
        logger.info("the teacher %s reads %s descriptions", name, f"{len(rows):,}")
        if name == "linear":
            said.append(out_of_fold(linear_teacher, np.array(rows, dtype=object), labels, groups, weights))
            continue
        encoder = Encoder(name, rows, cache, layers=layers, bf16=bf16)
        said.append(out_of_fold(encoder_teacher, encoder.views(), labels, groups, weights))
        if layers:
            logger.info("the last %d layers of %s learn the genres", layers, name)
            numbers = np.arange(len(rows))
            said.append(out_of_fold(encoder.tuned, numbers, labels, groups, weights, folds=TUNED_FOLDS))
    if truth.min() == truth.max():  # every film has every genre, or none any: there is nothing to weigh teachers by
        return np.mean(said, axis=0)
    odds = logit(np.stack(said, axis=-1).clip(CERTAIN, 1 - CERTAIN)).reshape(-1, len(said))
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
                    _step(network(inputs[rows]), targets[rows], weight[rows], optimizer, schedule)
            networks.append(network.eval())

    @torch.inference_mode()
    def learned(vectors: np.ndarray) -> np.ndarray:
        inputs = torch.tensor(vectors, dtype=torch.float32)
        return torch.stack([network(inputs).sigmoid() for network in networks]).mean(dim=0).double().numpy()

    return learned


def _step(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weight: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """One step down the cross-entropy of (rows, genres), of which each row has its weight."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, weight=weight[:, None])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


class Encoder:
    """A pretrained encoder that teaches: frozen, by its views of texts, and with its last layers tuned to the genres.

    It reads each text once. What enters the layers that learn stays in memory, in bfloat16 some 100 KB a text. Views
    are stored, and so is what each fold's tuned teacher says: after a crash, what was stored is not computed again.

    Args:
        name: folder or Hub repository of any encoder that `AutoModel` loads.
        texts: that it may learn from or be asked about, cut after 256 tokens.
        cache: folder for what it says.
        layers: that learn.
        bf16: read and learn in bfloat16: faster on processors that multiply in it, and next to the same views.

    Raises:
        ValueError: once it reads, if it has fewer layers.
    """

    def __init__(
        self, name: str, texts: Sequence[str], cache: Path | None = None, *, layers: int = 0, bf16: bool = False
    ) -> None:
        self.name, self.texts, self.layers, self.bf16 = name, list(texts), layers, bf16
        self.cache, self.short = cache, Path(name).name
        self.identity = file_hash(Path(name) / "model.safetensors") or name  # a folder may be trained on under its name
        if bf16:
            self.identity += " in bfloat16"
        self.unread = set(range(len(self.texts))) if layers else set()  # whose states are not in memory

    @cached_property
    def model(self) -> PreTrainedModel:
        """The encoder in evaluation mode."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        source = local_source(self.name)
        return AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True).to(device).eval()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return AutoTokenizer.from_pretrained(local_source(self.name))

    @cached_property
    def ids(self) -> list[list[int]]:
        """Token ids of each text."""
        ids: list[list[int]] = self.tokenizer(self.texts, truncation=True, max_length=LONGEST)["input_ids"]
        return ids

    @cached_property
    def below(self) -> int:
        """The number of layers below those that learn."""
        if (below := len(_layers(self.model)) - self.layers) < 0:
            raise ValueError(f"{self.name} has {below + self.layers} layers, not {self.layers} that could learn")
        return below

    @cached_property
    def states(self) -> Sequence[torch.Tensor]:
        """What enters the layers that learn, (tokens, width) a text, once it is read."""
        lengths = [len(row) for row in self.ids]
        dtype = torch.bfloat16 if self.bf16 else torch.float32
        return torch.empty(sum(lengths), self.model.config.hidden_size, dtype=dtype).split(lengths)

    def views(self) -> np.ndarray:
        """Its view of each text: its token vectors' mean in the last and in the fourth last layer.

        Returns:
            (texts, 2 * width) float32; each half has length one.
        """
        stored = Stored(self.cache and self.cache / f"{self.short}.safetensors")
        keys = [_digest(f"{self.identity}\n{text}") for text in self.texts]
        rows = list({key: row for row, key in enumerate(keys) if key not in stored.arrays}.values())
        parts, saved = [rows[i : i + TEXTS_AT_ONCE] for i in range(0, len(rows), TEXTS_AT_ONCE)], time.monotonic()
        for part in track(parts, description=f"{self.short} reads", transient=True):
            for batch, mask, layers in self._read(part, self.model):
                means = [_mean(layer, mask) for layer in (layers[-1], layers[-min(4, len(layers))])]
                halves = torch.cat([F.normalize(mean, dim=-1) for mean in means], dim=-1).cpu().numpy()
                stored.arrays |= {keys[row]: view for row, view in zip(batch, halves, strict=True)}
            if part is parts[-1] or time.monotonic() - saved > SECONDS_UNSAVED:
                stored.save()
                saved = time.monotonic()
        return np.stack([stored.arrays[key] for key in keys])

    def tuned(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, seed: int) -> Learned:
        """A teacher as `out_of_fold` wants it, whose features are numbers of texts: the last layers learn."""

        def learned(asked: np.ndarray) -> np.ndarray:
            key = _digest(self.key, str(seed), *(array.tobytes() for array in (rows, labels, weights, asked)))
            if key not in self.said.arrays:
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    self.said.arrays[key] = self._train(rows, labels, weights)(asked)
                self.said.save()
            return self.said.arrays[key].astype(float)

        return learned

    @cached_property
    def said(self) -> Stored:
        """What tuned teachers said."""
        return Stored(self.cache and self.cache / f"{self.short}-tuned.safetensors")

    @cached_property
    def key(self) -> str:
        """Of all that its tuned teachers have in common."""
        told = (self.identity, self.layers, TUNED_EPOCHS, BATCH, TUNED_RATE, TUNED_HEAD)
        return _digest(f"{told}\n", "\n".join(self.texts))

    @torch.inference_mode()
    def _read(
        self, rows: Sequence[int], model: PreTrainedModel
    ) -> Iterator[tuple[list[int], torch.Tensor, tuple[torch.Tensor, ...]]]:
        """Texts' numbers, attention mask and the model's hidden states, batch by batch of similar length."""
        below = self.below if self.layers else 0
        for places in length_batches([len(self.ids[row]) for row in rows], BATCH):
            batch = [rows[place] for place in places]
            padded = self._padded(batch)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
                layers = model(**padded, output_hidden_states=True).hidden_states
            for row, states in zip(batch, layers[below], strict=True):
                if row in self.unread:
                    self.states[row].copy_(states[: len(self.ids[row])])
            self.unread.difference_update(batch)
            yield batch, padded["attention_mask"], layers

    def _padded(self, batch: Iterable[int]) -> BatchEncoding:
        padded = self.tokenizer.pad({"input_ids": [self.ids[i] for i in batch]}, return_tensors="pt")
        return padded.to(self.model.device)

    def _train(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Learned:
        if self.unread:
            reading = self._read(sorted(self.unread), _part(self.model, slice(self.below + 1)))
            total = -(-len(self.unread) // BATCH)
            for _ in track(reading, f"{self.short} reads", total=total, transient=True):
                pass
        device = self.model.device
        top = TopLayers(self.model, self.layers)
        output = torch.nn.Linear(self.model.config.hidden_size, labels.shape[1]).to(device)
        chance = torch.tensor(np.average(labels, axis=0, weights=weights)).clip(CERTAIN, 1 - CERTAIN)
        with torch.no_grad():
            output.weight.zero_()
            output.bias.copy_(chance.logit())

        def logits(batch: np.ndarray) -> torch.Tensor:
            states = pad_sequence([self.states[i] for i in batch], batch_first=True).to(device).float()
            padded = self._padded(batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                last = top(states, **padded)
            return output(F.dropout(_mean(last, padded["attention_mask"]), 0.1, training=top.training))

        targets, weight = (torch.tensor(array, dtype=torch.float32, device=device) for array in (labels, weights))
        rates = [(top, TUNED_RATE), (output, TUNED_HEAD * TUNED_RATE)]
        optimizer = torch.optim.AdamW([{"params": of.parameters(), "lr": rate} for of, rate in rates], fused=True)
        lengths = [len(self.ids[row]) for row in rows]
        steps = -(-len(rows) // BATCH)
        schedule = get_linear_schedule_with_warmup(optimizer, TUNED_EPOCHS * steps // 10, TUNED_EPOCHS * steps)
        top.train()
        with attention_kernel(device, self.bf16):
            for step in track(range(TUNED_EPOCHS * steps), description="its last layers learn", transient=True):
                if step % steps == 0:
                    batches = np.array_split(get_length_grouped_indices(lengths, BATCH), steps)
                    order = torch.randperm(steps)
                batch = batches[order[step % steps]]
                _step(logits(rows[batch]), targets[batch], weight[batch], optimizer, schedule)
        top.eval()

        @torch.inference_mode()
        def learned(asked: np.ndarray) -> np.ndarray:
            found = np.empty((len(asked), labels.shape[1]), dtype=np.float32)
            for batch in length_batches([len(self.ids[row]) for row in asked], BATCH):
                found[batch] = logits(asked[batch]).sigmoid().cpu().numpy()
            return found

        return learned


def attention_kernel(device: torch.device, bf16: bool) -> AbstractContextManager[None]:
    """The faster attention to train by: on CPUs PyTorch's fused one is several times as slow backwards in bfloat16."""
    return sdpa_kernel(SDPBackend.MATH) if bf16 and device.type == "cpu" else nullcontext()


class TopLayers(torch.nn.Module):
    """A copy of an encoder's last layers, which alone can learn: states that enter them -> token vectors."""

    def __init__(self, encoder: PreTrainedModel, layers: int) -> None:
        super().__init__()
        self.encoder = _part(encoder, slice(-layers, None)).requires_grad_(False)
        stack = _layers(self.encoder).requires_grad_(True)
        stack[0].register_forward_pre_hook(lambda layer, given: (self.states, *given[1:]))

    def forward(self, states: torch.Tensor, **padded: torch.Tensor) -> torch.Tensor:
        """Token vectors (batch, seq, width) of `states` (batch, seq, width), whose ids and mask are `padded`."""
        self.states = states  # in the place of what the embeddings make of the ids
        vectors: torch.Tensor = self.encoder(**padded).last_hidden_state
        return vectors


def _part(encoder: PreTrainedModel, layers: slice) -> PreTrainedModel:
    """A copy with some of its layers."""
    part = copy.deepcopy(encoder)
    stack = _layers(part)
    kept = stack[layers]
    del stack[:]
    stack.extend(kept)
    part.config.num_hidden_layers = len(stack)
    return part


def _layers(encoder: PreTrainedModel) -> torch.nn.ModuleList:
    """The stack of its layers.

    Raises:
        ValueError: if there is none, as where one layer is gone through several times.
    """
    for module in encoder.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == encoder.config.num_hidden_layers:
            return module
    raise ValueError(f"{encoder.name_or_path} has no stack of layers that could be tuned")


def out_of_fold(
    teach: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Learned],
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    weights: np.ndarray,
    *,
    folds: int = FOLDS,
) -> np.ndarray:
    """Probabilities of each row by a teacher that was not trained on it.

    Args:
        teach: called for each fold with the other rows' features, labels and weights, and the fold's number, a seed.
        features: (rows, ...), what the teacher reads.
        labels: (labelled, genres) from 0 to 1, of the first rows; the others get the mean of all folds' teachers.
        groups: one a labelled row; rows of the same group share a fold.
        weights: one a labelled row, of its part in the fit.
        folds: how many; the same ones in every run, so that what was stored serves all.

    Returns:
        (rows, genres) probabilities.

    Raises:
        ValueError: if there are fewer groups than folds.
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise ValueError(f"{len(names)} different descriptions are too few for a teacher: at least {folds} are needed")
    fold_of = (np.random.default_rng(0).permutation(len(names)) % folds)[number]
    labelled = len(labels)
    probabilities = np.zeros((len(features), labels.shape[1]))
    for fold in track(range(folds), description="a teacher learns", transient=True):
        fit = np.flatnonzero(fold_of != fold)
        held = np.concatenate([np.flatnonzero(fold_of == fold), np.arange(labelled, len(features))])
        learned = teach(features[fit], labels[fit], weights[fit], fold)
        probabilities[held] += learned(features[held])
    probabilities[labelled:] /= folds
    return probabilities
