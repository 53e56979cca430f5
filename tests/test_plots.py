"""Pictures that a run leaves behind."""

import numpy as np
from matplotlib.font_manager import findfont, get_font

from modeling.plots import FONT, _families, plot_curves, plot_genres


def test_the_curves_are_drawn_from_the_history(tmp_path):
    history = [
        {"epoch": e, f"eval_{p}_{m}": 0.5}
        for e in (1, 2)
        for p in ("train", "validation")
        for m in ("loss", "micro_f1")
    ]
    plot_curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    plot_curves([], tmp_path / "empty.png")
    assert (tmp_path / "curves.png").read_bytes() != (tmp_path / "empty.png").read_bytes()


def test_genres_in_letters_of_another_script_are_drawn_where_a_font_has_them(tmp_path, caplog, recwarn):
    genres = ["动作", "剧情", "Drama"]
    plot_genres(genres, np.full((3, 3), 0.5), tmp_path / "genres.png")
    assert (tmp_path / "genres.png").stat().st_size > 5000
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert _families("Komödie") == [FONT]
    match _families("".join(genres)):
        case [_, other]:
            assert {*map(ord, "动作剧情")} <= get_font(findfont(other)).get_charmap().keys()
        case alone:
            assert alone == [FONT]
            assert "no font of this machine has all letters" in caplog.text
    assert _families("\U0010fffd") == [FONT]
    assert "some are boxes" in caplog.text
