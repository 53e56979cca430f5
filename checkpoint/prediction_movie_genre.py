"""What a prediction is and how it follows from probabilities: no torch, shared by every backend."""

import logging
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
SURROGATE = re.compile("[\ud800-\udfff]")

HUB_TIMEOUT = 10  # seconds to wait for the Hub's first answer

SUBSET_ACCURACY = "subset_accuracy"  # the profile that compares whole sets of genres
FILMS_AT_ONCE = 4096  # that are compared with every set


@dataclass(frozen=True)
class GenreUncertainty:
    """Spread of one genre's probability over the Monte-Carlo samples.

    Attributes:
        std: standard deviation of the probability.
        entropy: entropy of the mean probability, in nats (total uncertainty).
        mutual_information: entropy less the samples' mean entropy, in nats: the model's share (Houlsby et al. 2011).
    """

    std: float
    entropy: float
    mutual_information: float


@dataclass(frozen=True)
class GenrePrediction:
    """Genres of one description.

    Attributes:
        genres: the genres chosen, most probable first.
        probabilities: calibrated probability of every genre of the model.
        confidence: expected F1 of `genres` under `probabilities`, 0 to 1.
        uncertainty: by genre, when Monte-Carlo samples were drawn.
        word_weights: (start, end, weight) in characters of the text, when asked for; absolute weights sum to one, and
            gradient attribution gives words that speak against the genre weights below zero.
        truncated_at: character from which on the text was not read, None if all of it was.
    """

    genres: list[str]
    probabilities: dict[str, float]
    confidence: float
    uncertainty: dict[str, GenreUncertainty] | None = None
    word_weights: list[tuple[int, int, float]] | None = None
    truncated_at: int | None = None

    def to_dict(self, *, flat: bool = False) -> dict[str, Any]:
        """Plain JSON values: nested, or `flat` columns for files (`genres`, `confidence`, `p_<Genre>`, ...)."""
        if not flat:
            return {
                "genres": list(self.genres),
                "probabilities": dict(self.probabilities),
                "confidence": self.confidence,
                "uncertainty": self.uncertainty
                and {genre: vars(value).copy() for genre, value in self.uncertainty.items()},
                "word_weights": self.word_weights and [list(span) for span in self.word_weights],
                "truncated_at": self.truncated_at,
            }
        row: dict[str, Any] = {
            "genres": ", ".join(self.genres),
            "confidence": self.confidence,
            "truncated_at": self.truncated_at,
        }
        row |= {f"p_{genre}": probability for genre, probability in self.probabilities.items()}
        for genre, value in (self.uncertainty or {}).items():
            row |= {f"{name}_{genre}": number for name, number in vars(value).items()}
        return row


@dataclass(frozen=True)
class LabelSets:
    """A rule that chooses one of the sets of genres that training films have, not genre by genre.

    Few films have a set of genres of their own: the most probable one that others have (a label powerset, Tsoumakas and
    Katakis 2007) is right more often than genres put together one by one. A set's score is its log-probability if
    genres were independent, plus `weight` times the log of how much more often films have it than they would then.

    Attributes:
        members: 0 or 1, (sets, genres).
        log_lift: log of each set's share of films over what its genres' shares make it, (sets,).
        weight: from 0, for independent genres, to 1, for probabilities that know nothing of what goes together.
    """

    members: np.ndarray
    log_lift: np.ndarray
    weight: float

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], weight: float) -> "LabelSets":
        """From a configuration's `label_sets`."""
        digits = np.frombuffer("".join(counts).encode(), dtype=np.uint8).reshape(len(counts), -1)
        members, films = (digits == ord("1")).astype(float), np.array(list(counts.values()), dtype=float)
        share = np.clip(films @ members / films.sum(), 1e-6, 1 - 1e-6)
        alone = members @ np.log(share) + (1 - members) @ np.log1p(-share)
        return cls(members, np.log(films / films.sum()) - alone, weight)

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Log-probability of each set, but for a constant a film: (films, genres) -> (films, sets)."""
        p = np.clip(probabilities, 1e-6, 1 - 1e-6)
        return (np.log(p) - np.log1p(-p)) @ self.members.T + self.weight * self.log_lift

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """The best set of each film, boolean (films, genres)."""
        starts = range(0, len(probabilities), FILMS_AT_ONCE)
        best = [self.scores(probabilities[i : i + FILMS_AT_ONCE]).argmax(axis=1) for i in starts]
        return self.members[np.concatenate(best) if best else []] > 0


Rule = np.ndarray | LabelSets  # what decides: one threshold a genre, (genres,), or whole sets


def thresholds_of(rule: Rule, genres: Sequence[str]) -> dict[str, float]:
    """Threshold of each genre; none where whole sets are compared."""
    return {} if isinstance(rule, LabelSets) else dict(zip(genres, map(float, rule), strict=True))


def fertility(text: str, offsets: Sequence[tuple[int, int]]) -> float:
    """Word pieces a word, where `offsets` are their (start, end) in characters (Rust et al. 2021, section 3).

    Little above one in the language that a tokenizer was made for; words of other languages fall to pieces.
    """
    pieces = sum(WORD.search(text, start, end) is not None for start, end in offsets)
    return pieces / max(1, len(WORD.findall(text, 0, offsets[-1][1]))) if offsets else 0.0


def profile_names(config: Any) -> list[str]:
    """Names of a configuration's decision profiles, the default one first."""
    names = {*(config.threshold_profiles or ()), *([SUBSET_ACCURACY] if config.label_sets else ())}
    return sorted(names, key=lambda name: (name != config.default_profile, name))


def resolve_rule(threshold: float | Mapping[str, float] | str | None, config: Any) -> Rule:
    """The rule that decides, from what the caller gave: one threshold a genre, (genres,), or whole sets.

    Args:
        threshold: a number for all genres, a dict by genre (others keep the default profile's, or 0.5 where that has
            no thresholds), a profile's name, or None for the default profile: 0.5 everywhere where there is none.
        config: the model's `MovieGenreConfig`, or another with its fields.

    Raises:
        ValueError: for an unknown profile or genre, or a threshold outside [0, 1].
        TypeError: for any other type.
    """
    genres, profiles = config.genres, config.threshold_profiles or {}
    if isinstance(threshold, str) or threshold is None:
        name = config.default_profile if threshold is None else threshold
        if name is None:
            return np.full(len(genres), 0.5)
        if name == SUBSET_ACCURACY and config.label_sets:
            return LabelSets.from_counts(config.label_sets, config.label_set_weight)
        if name not in profiles:
            raise ValueError(f"no decision profile {name!r}; this model has {sorted(profile_names(config)) or 'none'}")
        return np.asarray(profiles[name], dtype=float)
    if isinstance(threshold, Mapping):
        if unknown := sorted(set(threshold) - set(genres), key=str):
            raise ValueError(f"no genre {', '.join(map(repr, unknown))}; this model knows {', '.join(genres)}")
        for genre, value in threshold.items():
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(f"threshold[{genre!r}]={value!r} is a {type(value).__name__}, expected a number")
        default = resolve_rule(None, config)
        default = np.full(len(genres), 0.5) if isinstance(default, LabelSets) else default
        values = np.array([threshold.get(genre, default[i]) for i, genre in enumerate(genres)], dtype=float)
    elif isinstance(threshold, Real) and not isinstance(threshold, bool):
        values = np.full(len(genres), float(threshold))
    else:
        raise TypeError(
            f"threshold is a {type(threshold).__name__}, expected a number, a dict by genre or a profile's name"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"threshold={threshold!r} lies outside [0, 1]")
    return values


def check_texts(
    texts: str | Sequence[str], mc_samples: int, batch_size: int, stride: int | None, seed: int | None
) -> list[str]:
    """The texts as a list.

    Raises:
        TypeError: if one is not a string, or an option has the wrong type.
        ValueError: if one has no words or half a character, or an option lies outside its range.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, bytearray, Mapping)):
        raise TypeError(f"texts is a {type(texts).__name__}, expected a string or a sequence of them")
    texts = [texts] if isinstance(texts, str) else list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] is a {type(text).__name__}, expected a string")
        if not WORD.search(text):
            raise ValueError(f"texts[{index}] has no words: there is nothing to classify")
        if SURROGATE.search(text):
            raise ValueError(f"texts[{index}] holds half a character (a lone surrogate, \\ud800 to \\udfff)")
    numbers = {"mc_samples": mc_samples, "batch_size": batch_size, "stride": stride, "seed": seed}
    for name, value in numbers.items():
        if not isinstance(value, Integral) and (value is not None or name in ("mc_samples", "batch_size")):
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}, expected a whole number")
    if seed is not None and not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed} must lie between 0 and 2**64 - 1")
    if mc_samples < 0 or mc_samples == 1:
        raise ValueError(f"mc_samples={mc_samples} must be 0 (off) or a number of masks, from 2 on: one has no spread")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    return texts


def check_attribution(attribution: str | None, genre: str | None, genres: Sequence[str]) -> None:
    """Whether `attribution` and `genre` fit each other and the model.

    Raises:
        ValueError: for an unknown attribution or genre, or one that needs the other.
    """
    if attribution not in (None, "pooling", "gradient"):
        raise ValueError(f"attribution={attribution!r} is not known; choose 'pooling', 'gradient' or None")
    if attribution == "gradient" and genre is None:
        raise ValueError("attribution='gradient' explains one genre: name it with genre=")
    if attribution != "gradient" and genre is not None:
        raise ValueError(f"genre={genre!r} is for attribution='gradient' alone: leave it out or ask for that")
    if genre is not None and genre not in genres:
        raise ValueError(f"no genre {genre!r}; this model knows {', '.join(genres)}")


def choose(probabilities: np.ndarray, rule: Rule, min_genres: int) -> np.ndarray:
    """Genres at or above their threshold, or the best set; and the most probable others where fewer than `min_genres`.

    Args:
        probabilities: (films, genres).
        rule: thresholds (genres,), or whole sets.
        min_genres: genres that every film gets at least.

    Returns:
        Boolean array (films, genres).
    """
    chosen = rule.choose(probabilities) if isinstance(rule, LabelSets) else probabilities >= rule
    short = np.flatnonzero(chosen.sum(axis=1) < min_genres)
    # Probabilities end at 1: what is chosen already comes first.
    first = np.argsort(-(probabilities[short] + 2 * chosen[short]), axis=1, kind="stable")[:, :min_genres]
    chosen[short[:, None], first] = True
    return chosen


def expected_f1(probabilities: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Expected F1 of each chosen set if genres were independent with these probabilities.

    With T true genres inside the chosen set S and R outside, F1 = 2 T / (|S| + T + R); T and R are Poisson binomial
    (Ye et al. 2012, "Optimizing F-measures"), so the expectation is exact. An empty set that is right counts as 1.

    Args:
        probabilities: (films, genres).
        chosen: boolean (films, genres).

    Returns:
        (films,) values in [0, 1].
    """
    inside = _poisson_binomial(np.where(chosen, probabilities, 0.0))  # (films, genres + 1)
    outside = _poisson_binomial(np.where(chosen, 0.0, probabilities))
    true, other = np.ogrid[: inside.shape[1], : outside.shape[1]]
    sizes, expected = chosen.sum(axis=1), np.empty(len(chosen))
    for size in np.unique(sizes):
        films, total = sizes == size, size + true + other
        f1 = np.where(total == 0, 1.0, 2 * true / np.maximum(total, 1))
        expected[films] = ((inside[films] @ f1) * outside[films]).sum(axis=1)
    return expected


def _poisson_binomial(probabilities: np.ndarray) -> np.ndarray:
    """Distribution of the number of successes, (films, trials + 1), of independent trials (films, trials)."""
    films, trials = probabilities.shape
    distribution = np.zeros((films, trials + 1))
    distribution[:, 0] = 1.0
    for p in probabilities.T:
        distribution[:, 1:] = distribution[:, 1:] * (1 - p)[:, None] + distribution[:, :-1] * p[:, None]
        distribution[:, 0] *= 1 - p
    return distribution


def binary_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy in nats of each probability taken as a coin."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


@dataclass(frozen=True)
class Window:
    """What one forward pass reads of a text.

    Attributes:
        text: index of the text.
        ids: token ids, special tokens included.
        offsets: (start, end) in characters of each token; (0, 0) for special tokens.
        truncated_at: character from which on the text is not read, None if no window leaves anything out.
    """

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    truncated_at: int | None


def window_starts(pieces: int, room: int, stride: int | None) -> range:
    """Word pieces at which windows of `room` pieces begin that share `stride` with their neighbours.

    The last one begins where everything behind it fits; without a stride there is one window.
    """
    return range(1) if stride is None else range(0, max(pieces - stride, 1), room - stride)


def split_windows(
    ids: Sequence[Sequence[int]],
    offsets: Sequence[Sequence[tuple[int, int]]],
    marks: Sequence[int],
    max_length: int,
    stride: int | None,
) -> list[Window]:
    """Cut tokenised texts to the model's length, or read them in overlapping windows.

    Args:
        ids: word pieces of each text, without special tokens.
        offsets: their (start, end) in characters.
        marks: ids of the tokens put before and behind each window: what the tokenizer makes of no text.
        max_length: tokens a window holds, special tokens included.
        stride: tokens that neighbouring windows share; None keeps the first window only.

    Returns:
        The windows of all texts in order, those of one text next to each other.

    Raises:
        ValueError: if a text has no word piece, `stride` leaves no room to advance, or there are not two marks.
    """
    if len(marks) != 2:
        raise ValueError(f"the tokenizer puts {len(marks)} tokens around a text, expected one before and one behind it")
    room = max_length - 2
    if stride is not None and not 0 <= stride < room:
        raise ValueError(f"stride={stride} must lie between 0 and {room - 1}: the model reads {room} tokens at a time")
    windows = []
    for text, (pieces, spans) in enumerate(zip(ids, offsets, strict=True)):
        if not pieces:
            raise ValueError(f"texts[{text}] has no words that the tokenizer knows")
        starts = window_starts(len(pieces), room, stride)
        truncated_at = int(spans[room - 1][1]) if stride is None and len(pieces) > room else None
        for start in starts:
            part = slice(start, start + room)
            framed = [marks[0], *pieces[part], marks[1]]
            windows.append(Window(text, framed, [(0, 0), *spans[part], (0, 0)], truncated_at))
    return windows


def length_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of nearly equal length, longest first (memory peaks at once, not at the end)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def read_windows(
    windows: Sequence[Window],
    probabilities: Callable[[list[list[int]]], tuple[np.ndarray, np.ndarray]],
    batch_size: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a network says of windows, in batches of nearly equal length.

    Args:
        windows: of all texts, at least one.
        probabilities: from the token ids of a batch to (samples, batch, genres) and pooling weights (batch, seq).
        batch_size: windows a call.

    Returns:
        Probabilities (samples, windows, genres), and the pooling weights of each window's tokens.
    """
    samples: list[np.ndarray] = [np.empty(0)] * len(windows)
    weights: list[np.ndarray] = [np.empty(0)] * len(windows)
    for batch in length_batches([len(window.ids) for window in windows], batch_size):
        values, pooling = probabilities([windows[i].ids for i in batch])
        for row, i in enumerate(batch):
            samples[i], weights[i] = values[:, row], pooling[row, : len(windows[i].ids)]
    return np.stack(samples, axis=1), weights


def word_weights(
    text: str, offsets: Sequence[tuple[int, int]], weights: Sequence[float] | np.ndarray
) -> list[tuple[int, int, float]]:
    """Weights of word pieces gathered into words.

    Args:
        text: what was tokenised.
        offsets: (start, end) of each piece in characters; an empty span (a special token) is passed over.
        weights: one a piece.

    Returns:
        (start, end, weight) of each word that was read, in order; absolute weights sum to one unless all are zero.
        Punctuation is dropped.
    """
    words = [match.span() for match in WORD.finditer(text)]
    starts = [start for start, _ in words]
    totals: dict[int, float] = {}
    for (start, end), weight in zip(offsets, weights, strict=True):
        word = bisect_right(starts, start) - 1
        if start < end and word >= 0 and start < words[word][1]:
            totals[word] = totals.get(word, 0.0) + float(weight)
    norm = sum(map(abs, totals.values())) or 1.0
    return [(*words[word], total / norm) for word, total in sorted(totals.items())]


def assemble(
    texts: Sequence[str],
    windows: Sequence[Window],
    samples: np.ndarray,
    weights: Sequence[np.ndarray] | None,
    genres: Sequence[str],
    rule: Rule,
    min_genres: int,
) -> list[GenrePrediction]:
    """Predictions of texts from the probabilities of their windows, which are averaged.

    Args:
        texts: what was read.
        windows: of all texts in order.
        samples: (samples, windows, genres) probabilities; one sample means no Monte Carlo.
        weights: of each window's tokens, for word weights; or None.
        genres: names in the order of the last axis.
        rule: thresholds (genres,), or whole sets.
        min_genres: genres that every text gets at least.
    """
    first = np.searchsorted([window.text for window in windows], np.arange(len(texts)))
    ends = np.append(first[1:], len(windows))
    samples = (
        np.add.reduceat(samples.astype(float), first, axis=1) / (ends - first)[:, None]
    )  # (samples, texts, genres)
    probabilities = samples.mean(axis=0)
    chosen = choose(probabilities, rule, min_genres)
    confidence = expected_f1(probabilities, chosen)
    std = samples.std(axis=0)
    entropy = binary_entropy(probabilities)
    information = np.maximum(entropy - binary_entropy(samples).mean(axis=0), 0.0)
    predictions = []
    for text in range(len(texts)):
        uncertainty = words = None
        if len(samples) > 1:
            uncertainty = {
                genre: GenreUncertainty(float(std[text, i]), float(entropy[text, i]), float(information[text, i]))
                for i, genre in enumerate(genres)
            }
        if weights is not None:
            mine = range(first[text], ends[text])
            words = word_weights(
                texts[text],
                [span for i in mine for span in windows[i].offsets],
                np.concatenate([weights[i] for i in mine]),
            )
        predictions.append(
            GenrePrediction(
                genres=[genres[i] for i in np.argsort(-probabilities[text], kind="stable") if chosen[text, i]],
                probabilities={genre: float(probabilities[text, i]) for i, genre in enumerate(genres)},
                confidence=float(confidence[text]),
                uncertainty=uncertainty,
                word_weights=words,
                truncated_at=windows[first[text]].truncated_at,
            )
        )
    return predictions


def cache_alone(name: str, revision: str | None = None, token: str | bool | None = None) -> bool:
    """Whether a repository can only be read from the cache: offline by choice, or because the Hub does not answer.

    The latter is asked once and told in a warning. The Hub's client would ask for every file in vain, for a minute.

    Args:
        name: of the repository, as in you/movie-genre; a folder needs no Hub.
        revision: branch, tag or commit.
        token: for a private repository.
    """
    if os.path.isdir(name):
        return False
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision), token=token, timeout=HUB_TIMEOUT)
    except (OSError, ValueError):
        return False  # an answer, if not a glad one: loading will say what is wrong
    except Exception as error:  # of the client's own HTTP library, whichever it is
        logger.warning("%s does not answer (%s): %s is read from the cache", constants.ENDPOINT, error, name)
        return True
    return False


def nothing_cached(name: str, cache: str | os.PathLike[str] | None = None) -> ConnectionError:
    """What to raise where `cache_alone` holds and the cache, the usual one or another, has nothing."""
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
    return ConnectionError(
        f"{name!r} is no folder, {why}, and the cache ({cache or constants.HF_HUB_CACHE}) has no copy of it: "
        "load it once while the Hub can be reached, or name a folder"
    )
