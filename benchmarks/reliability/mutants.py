"""Do the tests bite? Small faults are put into the code, one at a time; how many make a test fail?

Mutation testing (DeMillo, Lipton and Sayward 1978): comparisons, arithmetic, constants and conditions are changed in a
copy of the project, and the tests of that module are run on it.
"""

import ast
import multiprocessing
import multiprocessing.context
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT

MUTANTS = 200
SECONDS = 240
PRELOADED = ("pytest", "hypothesis", "transformers.trainer", "datasets", "sklearn.metrics", "iterstrat.ml_stratifiers")
# Code under test: file, the functions and classes of it (all if none), the tests that speak for it.
TARGETS = {
    "data.py": ((), ("test_data.py",)),
    "decision.py": ((), ("test_decision.py",)),
    "metrics.py": ((), ("test_metrics.py",)),
    "prediction_movie_genre.py": (
        (
            *("resolve_rule", "LabelSets", "choose", "expected_f1", "_poisson_binomial", "binary_entropy"),
            *("split_windows", "length_batches", "read_windows", "word_weights", "assemble"),
        ),
        ("test_prediction.py", "test_predict_genres.py"),
    ),
    "verdict.py": ((), ("test_verdict.py",)),
    "modeling_movie_genre.py": (
        (
            *("Dropout", "SelfAttentionPooling", "MovieGenreClassifier"),
            *("predict_genres", "_probabilities", "_encoder_samples"),
        ),
        ("test_modeling.py", "test_predict_genres.py"),
    ),
}
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARED |= {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
COMPUTED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
COMPUTED |= {ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.FloorDiv: ast.Mult}
# Values that stand for no behaviour: a check that always holds, and what could as well be another number.
ARBITRARY = {"strict", "verbose", "seed", "resamples", "draws", "points"}
Change = tuple[str, int, int, str, str]  # file, line, column in bytes, before, after


def measure(scale: float) -> dict[str, Any]:
    """Sample mutants, run the tests on each."""
    changes = [change for file, (names, _) in TARGETS.items() for change in mutants(file, names)]
    sample = random.Random(0).sample(changes, min(round(MUTANTS * scale), len(changes)))
    # Each is tested in a fork of a process that has imported what is slow to import.
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(PRELOADED))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if any(pool.map(lambda file: _killed((file, 1, 0, "", ""), processes), TARGETS)):
            raise RuntimeError("tests fail on the code as it is")
        killed = list(pool.map(lambda change: _killed(change, processes), sample))
    alive = [change for change, dead in zip(sample, killed, strict=True) if not dead]
    by_file = {
        file: [dead for change, dead in zip(sample, killed, strict=True) if change[0] == file] for file in TARGETS
    }
    return {
        "possible": len(changes),
        "sampled": len(sample),
        "killed": sum(killed),
        "share": round(sum(killed) / len(sample), 3),
        "by_file": {file: {"sampled": len(values), "killed": sum(values)} for file, values in by_file.items()},
        "survivors": [f"{file}:{line}: {before}  ->  {after}" for file, line, _, before, after in alive],
    }


def mutants(file: str, names: tuple[str, ...]) -> Iterator[Change]:
    """Every change of one place, annotations aside: nothing runs them."""
    source = (ROOT / "modeling" / file).read_text(encoding="utf-8")
    wanted = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (not names or node.name in names)
    ]
    seen = set()
    for node in (inner for outer in wanted for inner in _expressions(outer)):
        before, place = ast.get_source_segment(source, node), (node.lineno, node.col_offset, node.end_col_offset)
        if place in seen or not before or "\n" in before or _is_message(node, source):
            continue
        seen.add(place)
        for after in _changed(node):
            yield file, node.lineno, node.col_offset, before, after


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Those within a node that are computed when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or (isinstance(node, ast.keyword) and node.arg in ARBITRARY):
            continue
        if isinstance(node, ast.arguments) and name in ("defaults", "kw_defaults"):
            given = node.kwonlyargs if name == "kw_defaults" else [*node.posonlyargs, *node.args][-len(value) :]
            value = [one for one, name in zip(value, given, strict=False) if name.arg not in ARBITRARY]
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.expr):
                yield child
            if isinstance(child, ast.AST):
                yield from _expressions(child)


def _changed(node: ast.expr) -> Iterator[str]:
    """Other versions of an expression."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield ast.unparse(ast.Compare(node.left, [COMPARED[type(node.ops[0])](), *node.ops[1:]], node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
        yield f"({ast.unparse(ast.BinOp(node.left, COMPUTED[type(node.op)](), node.right))})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield repr(not node.value if type(node.value) is bool else node.value + 1)


def _is_message(node: ast.expr, source: str) -> bool:
    """Whether the expression stands in a line that words a complaint: those are no behaviour."""
    line = source.splitlines()[node.lineno - 1].lstrip()
    return line.startswith(("raise", 'f"', '"')) or " as error" in line


def _killed(change: Change, processes: multiprocessing.context.ForkServerContext) -> bool:
    """Whether a test fails, or takes too long, on a copy of the project with this change."""
    file, line, column, before, after = change
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for folder in ("modeling", "tests", "configs", "data", "benchmarks"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
        for entry in ("checkpoint", "pyproject.toml", "train.py", "app.py", "README.md"):
            (copy / entry).symlink_to(ROOT / entry)
        path = copy / "modeling" / file
        lines = path.read_bytes().splitlines(keepends=True)
        changed, end = lines[line - 1], column + len(before.encode())
        lines[line - 1] = changed[:column] + after.encode() + changed[end:]
        path.write_bytes(b"".join(lines))
        process = processes.Process(target=_test, args=(copy, TARGETS[file][1]))
        process.start()
        process.join(SECONDS)
        late = process.exitcode is None
        process.kill()
        process.join()
    dead = late or process.exitcode != 0
    if not dead and before != after:
        print(f"survived: {file}:{line}: {before}  ->  {after}", flush=True)
    return dead


def _test(copy: Path, tests: Sequence[str]) -> None:
    """Run tests on a copy of the project, in this process; its exit code is theirs."""
    import pytest

    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)  # for what the tests start
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *(str(copy / "tests" / test) for test in tests)]))
