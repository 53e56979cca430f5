"""Training processes killed at random moments, and checkpoints damaged in between: is anything lost?"""

import csv
import importlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, movies

FILMS = 240
FLAGS = ["--save_strategy", "steps", "--eval_strategy", "steps", "--save_steps", "2", "--eval_steps", "2"]
FLAGS += ["--num_train_epochs", "2", "--typos", "0.05", "--other_people", "0.5", "--disable_tqdm", "true"]
IN_A_SAVE = 0.3  # share of the kills that wait for a checkpoint to be half written
DAMAGE = 0.3  # share of the kills after which the newest checkpoint is damaged too


def measure(scale: float) -> dict[str, Any]:
    """Kill, damage, resume until 100 kills are done; compare what each run ends with to an undisturbed one."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    draw = random.Random(0)
    kills = round(100 * scale)
    count = dict.fromkeys(("kills", "in_a_save", "damaged", "passed_over", "started_anew", "runs", "identical"), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = _films(folder / "films.csv")
        importlib.import_module("modeling.training")  # once, for all the processes that are forked
        started = time.time()
        _start(films, folder / "whole", folder / "log").join()
        duration = time.time() - started
        wanted = _ended(folder / "whole")
        while count["kills"] < kills:
            run = folder / f"run-{count['runs']}"
            while True:
                begun, began = run.exists(), time.time()
                process = _start(films, run, folder / "log")
                if count["kills"] >= kills:
                    process.join()
                elif draw.random() < IN_A_SAVE:
                    _wait_for_a_save(process, run)
                else:
                    process.join(draw.uniform(0.2, 1) * duration)
                if (run / "model.safetensors").exists():  # finished, but for its record
                    process.join()
                said = (folder / "log").read_text(encoding="utf-8")
                count["passed_over"] += said.count("is passed over")
                count["started_anew"] += "starting anew" in said and begun
                if process.exitcode is not None:
                    break
                process.kill()
                process.join()
                count["kills"] += 1
                newest = _newest(run)
                if newest and not (newest / "seal.json").exists():
                    count["in_a_save"] += newest.stat().st_mtime > began  # else an earlier kill left it
                elif newest and draw.random() < DAMAGE:
                    _damage(newest, draw)
                    count["damaged"] += 1
            assert process.exitcode == 0, said
            count["runs"] += 1
            count["identical"] += _ended(run) == wanted
            shutil.rmtree(run)
            print(count, flush=True)
    return count


def _films(path: Path) -> Path:
    """Films of two genres: tuning thresholds should not be what takes the time."""
    rows = movies()[:FILMS]
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["genre", "description"])
        writer.writerows(["Drama" if "Drama" in row["genre"] else "Other", row["description"]] for row in rows)
    return path


def _start(films: Path, run: Path, log: Path) -> multiprocessing.process.BaseProcess:
    """A training process."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(films, run, log))
    process.start()
    return process


def _train(films: Path, run: Path, log: Path) -> None:
    from modeling.arguments import parse_arguments
    from modeling.training import train

    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    words = [str(ROOT / "configs" / "smoke.yaml"), "--train_file", str(films), "--output_dir", str(run), *FLAGS]
    train(*parse_arguments([*words, "--cpu_threads", "1", "--resume_from_checkpoint", "true"]))
    sys.stdout.flush()


def _wait_for_a_save(process: multiprocessing.process.BaseProcess, run: Path) -> None:
    before = _newest(run)
    while process.exitcode is None:
        newest = _newest(run)
        if newest and newest != before and not (newest / "seal.json").exists():
            return
        process.join(0.002)


def _ended(run: Path) -> list[bytes]:
    """The finished model, which is the best epoch's, and the one after the last step."""
    return [(folder / "model.safetensors").read_bytes() for folder in (run, _newest(run)) if folder]


def _newest(run: Path) -> Path | None:
    from modeling.checkpoints import checkpoints

    return next(iter(checkpoints(run)), None)


def _damage(checkpoint: Path, draw: random.Random) -> None:
    """Delete a file of a checkpoint, cut it short, or change a byte of it."""
    path = draw.choice([path for path in sorted(checkpoint.iterdir()) if path.stat().st_size])
    content = bytearray(path.read_bytes())
    way = draw.randrange(3)
    if way == 0:
        path.unlink()
    elif way == 1:
        path.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 0xFF
        path.write_bytes(content)
