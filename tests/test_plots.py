"""Pictures that a run leaves behind."""

from modeling.plots import plot_curves


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
