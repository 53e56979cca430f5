import pytest
from huggingface_hub.errors import StrictDataclassError

from modeling import MovieGenreConfig

from .conftest import GENRES, tiny_config


def test_head_dim_follows_from_width_and_heads():
    assert tiny_config().head_dim == 4


def test_heads_may_be_wider_than_the_encoder():
    assert tiny_config(head_dim=32).head_dim == 32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 65}, "hidden_size=65 is not divisible by num_attention_heads=8"),
        ({"hidden_size": 0}, "hidden_size=0 must be at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be at least 1"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"dropout_samples": 0}, "dropout_samples=0 must be at least 1"),
        ({"max_position_embeddings": 2}, "max_position_embeddings=2 must be at least 3"),
        ({"pad_token_id": 1500}, "pad_token_id=1500 lies outside the vocabulary of vocab_size=1500"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob=1.0 must lie in \[0, 1\)"),
        ({"classifier_dropout": -0.1}, r"classifier_dropout=-0.1 must lie in \[0, 1\)"),
        ({"layer_norm_eps": 0.0}, r"layer_norm_eps=0.0 must lie in \(0, 1\)"),
        ({"min_genres": 5}, "min_genres=5 must lie between 0 and the number of genres, 4"),
        ({"threshold_profiles": {"best": [0.5]}}, r"threshold_profiles\['best'\] has 1 values for 4 genres"),
        ({"threshold_profiles": {"best": [2.0] * 4}}, r"must lie in \[0, 1\]"),
        ({"default_profile": "best"}, "default_profile='best' is not one of the model's profiles"),
        ({"label_sets": {"10010": 3}}, "label_sets has '10010', expected 4 digits 0 or 1: for other genres pass"),
        ({"label_sets": {"1002": 3}}, "label_sets has '1002'"),
        ({"label_sets": {"1001": 0}}, r"label_sets\['1001'\]=0 must be at least 1"),
        (
            {"label_sets": {"1001": 2}, "threshold_profiles": {"subset_accuracy": [0.5] * 4}},
            r"threshold_profiles\['subset_accuracy'\] is of no use",
        ),
        ({"label_set_weight": 1.5}, r"label_set_weight=1.5 must lie in \[0, 1\]"),
        ({"default_profile": "subset_accuracy"}, "default_profile='subset_accuracy' is not one of"),
        ({"id2label": {0: "Drama", 2: "War"}}, "must map 0, 1, 2"),
        ({"id2label": {0: "Drama", 1: "Drama"}}, "names a genre twice"),
        ({"problem_type": "single_label_classification"}, "problem_type='single_label_classification': films have"),
        ({"format_version": 2}, "format_version=2 is newer than this code"),
        ({"hidden_size": "64"}, "expected int, got str"),
        ({"norm_placement": "middle"}, "middle"),
        ({"position_embedding_type": "sinusoidal", "hidden_size": 33, "head_dim": 4}, "hidden_size=33 must be even"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**values)


def test_a_number_of_labels_fits_the_genres():
    assert MovieGenreConfig(num_labels=1, id2label={0: "Drama"}).genres == ["Drama"]
    with pytest.raises(ValueError, match="num_labels=5 does not fit id2label, which names 1 genres"):
        MovieGenreConfig(num_labels=5, id2label={0: "Drama"})


def test_a_misspelt_field_is_named():
    with pytest.raises(TypeError, match="no field 'hiden_size'"):
        MovieGenreConfig(hiden_size=64)


def test_saving_and_loading_keeps_every_field(tmp_path):
    labels = {i: f"genre {i}" for i in range(12)}  # more than ten: their order must not become alphabetical
    config = tiny_config(
        id2label=labels,
        head_dim=8,
        norm_placement="pre",
        min_genres=2,
        threshold_profiles={"a": [0.25] * 12},
        label_sets={"100000000001": 7, "000100000000": 2},
        label_set_weight=0.4,
        default_profile="a",
    )
    config.save_pretrained(tmp_path)
    loaded = MovieGenreConfig.from_pretrained(tmp_path)
    ours, theirs = loaded.to_dict(), config.to_dict()
    assert {k: v for k, v in ours.items() if k != "_name_or_path"} == {
        k: v for k, v in theirs.items() if k != "_name_or_path"
    }
    assert loaded.genres == list(labels.values())


def test_genres_stand_in_the_order_of_the_logits():
    assert tiny_config().genres == GENRES
