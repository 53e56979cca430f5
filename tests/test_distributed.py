"""Training over several processes: real ones, which talk through gloo."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from .conftest import ROOT

WORKER = [str(ROOT / "tests" / "distributed_worker.py")]
CONFIG = ROOT / "configs" / "accelerate" / "cpu.yaml"


def launch(program, folder, *flags):
    """Run the worker and give what each process saw."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *program, *flags, *WORKER, str(folder)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return launch([], tmp_path_factory.mktemp("alone") / "out")[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--main_process_port", "0"]
    return launch(launcher, tmp_path_factory.mktemp("two") / "out")


def test_accelerate_starts_two_processes_that_know_of_each_other(two, alone):
    assert [seen["world_size"] for seen in two] == [2, 2]
    assert alone["world_size"] == 1


def test_what_the_first_process_cannot_do_ends_the_others_too(tmp_path):
    rows = [f"Drama,Train {'abcd'[i]}.,train" for i in range(4)] + [f"Drama,Text {i}.,validation" for i in range(6)]
    (tmp_path / "films.csv").write_text("\n".join(["genre,description,split", *rows]))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIG, "--main_process_port", "0"]
    flags = ["configs/smoke.yaml", "--train_file", tmp_path / "films.csv", "--output_dir", tmp_path / "out"]
    done = subprocess.run(
        [*map(str, [*launcher, "train.py", *flags])], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert done.stderr.count("4 different descriptions are too few for a teacher") == 2, done.stderr[-3000:]


def test_both_processes_end_with_the_same_weights_bit_for_bit(two):
    assert two[0]["weights"] == two[1]["weights"]


def test_each_step_has_the_loss_of_one_process_on_the_same_batch(two, alone):
    assert len(alone["losses"]) == 12
    assert alone["losses"][0] != pytest.approx(alone["losses"][-1], abs=1e-2)
    assert np.abs(np.subtract(two[0]["losses"], alone["losses"])).max() < 1e-5
    assert two[0]["sum"] == pytest.approx(alone["sum"], rel=1e-5)


def test_in_every_epoch_each_film_is_read_once_by_one_of_them(two, alone):
    for epoch in range(2):
        films = sorted(film for batch in alone["order"][epoch] for film in batch)
        assert len(set(films)) > 90
        assert sorted(film for seen in two for batch in seen["order"][epoch] for film in batch) == films
    assert alone["order"][0] != alone["order"][1]


@pytest.mark.parametrize("rows", [1, 203, 1001])
def test_evaluation_counts_every_row_once(two, alone, rows):
    expected = {k: v for k, v in alone[f"rows_{rows}"].items() if not k.endswith(("runtime", "second"))}
    assert expected["predictions"] == rows
    for seen in two:
        got = {name: seen[f"rows_{rows}"][name] for name in expected}
        # The mean loss alone counts padding rows twice, which is why nothing is chosen by it.
        loss = [name for name in expected if name.endswith("loss") and "hamming" not in name and "log" not in name]
        assert {k: v for k, v in got.items() if k not in loss} == pytest.approx(
            {k: v for k, v in expected.items() if k not in loss}, abs=1e-6, nan_ok=True
        )
