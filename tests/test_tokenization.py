import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from modeling import MovieGenreModel
from modeling.tokenization import VOCABULARY_SIZE, load_tokenizer, train_tokenizer

from .conftest import tiny_model


def test_the_standard_tokenizer_has_berts_vocabulary():
    tokenizer = load_tokenizer(None, 128)
    assert len(tokenizer) == VOCABULARY_SIZE
    assert tokenizer.model_max_length == 128
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("The Café's unbelievable!")["input_ids"])
    assert tokens == ["[CLS]", "the", "cafe", "'", "s", "unbelievable", "!", "[SEP]"]


def test_no_output_reaches_the_model_that_it_does_not_take():
    assert list(load_tokenizer(None, 128)("A text.")) == ["input_ids", "attention_mask"]


def test_a_learned_tokenizer_keeps_pieces_seen_twice(descriptions):
    tokenizer = train_tokenizer(descriptions, 64)
    assert 1000 < len(tokenizer) < VOCABULARY_SIZE
    small = train_tokenizer(["one two", "one three"], 64)
    assert "one" in small.get_vocab()
    assert "two" not in small.get_vocab()


def test_learning_stops_at_the_size_asked_for(descriptions):
    assert len(train_tokenizer(descriptions, 64, vocabulary_size=300)) == 300


def test_saving_keeps_tokenizer_and_limits(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Two gamblers, one horse: 1888."
    assert dict(loaded(text)) == dict(tokenizer(text))
    assert loaded.model_max_length == 64
    assert len(loaded(text * 100)["input_ids"]) > 64  # nothing is cut unless asked


def save_words(folder, template=None):
    """A tokenizer of whole words, with marks around a text by the template."""
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "war": 2, "<s>": 3, "</s>": 4}, unk_token="[UNK]"))
    if template:
        words.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", 3), ("</s>", 4)])
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]").save_pretrained(folder)


@pytest.mark.parametrize("template", [None, "$A <s> </s>"])
def test_a_tokenizer_that_does_not_mark_beginning_and_end_is_refused(tmp_path, template):
    save_words(tmp_path, template)
    with pytest.raises(ValueError, match="put one token before a text and one behind it"):
        load_tokenizer(tmp_path, 64)


def test_a_tokenizer_with_marks_of_other_names_serves_to_the_end(tmp_path):
    save_words(tmp_path, "<s> $A </s>")
    tokenizer = load_tokenizer(tmp_path, 64)
    model = tiny_model()
    expected = model(torch.tensor([[3, 2, 4]]), torch.ones(1, 3, dtype=torch.long)).logits.sigmoid()[0]
    found = model.predict_genres("war", tokenizer).probabilities
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_cased_vocabulary_is_read_as_it_is(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "War", "war"]
    BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path, 64).tokenize("War war") == ["War", "war"]


def test_accents_stay_where_a_tokenizer_keeps_them(tmp_path):
    vocabulary = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "über", "uber"])}
    BertTokenizer(vocab=vocabulary, do_lower_case=True, strip_accents=False).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path, 64).tokenize("Über") == ["über"]


def test_a_tokenizer_without_its_words_is_refused(saved):
    (saved / "tokenizer.json").unlink()  # transformers makes up one that knows its special tokens alone
    for read in (lambda: load_tokenizer(saved, 64), lambda: MovieGenreModel.from_pretrained(saved).tokenizer):
        with pytest.raises(ValueError, match=r"knows no words: its tokenizer\.json is missing"):
            read()


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"version": "1.0'])
def test_a_damaged_tokenizer_is_named(saved, content):
    (saved / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"the tokenizer of .* cannot be read: "):
        MovieGenreModel.from_pretrained(saved).predict_genres("Snow falls.")


def test_the_tokenizer_is_found_from_any_working_folder(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(saved.parent)
    model = MovieGenreModel.from_pretrained(saved.name)
    monkeypatch.chdir(tmp_path.parent)
    assert model.predict_genres("Snow falls.").genres
