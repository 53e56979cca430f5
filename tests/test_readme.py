"""What the README promises, done."""

import re
import subprocess
import sys

from .conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_results_are_those_of_the_results_files():
    assert subprocess.run([sys.executable, "-m", "benchmarks.report", "--check"], cwd=ROOT).returncode == 0


def test_its_six_lines_run():
    code = re.search(r"```python\n(.+?)```", README, re.S).group(1)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Science Fiction" in done.stdout.splitlines()[0]


def test_its_commands_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make (\w+)", README)) <= targets
    help_text = subprocess.run(
        [sys.executable, "-m", "modeling.cli", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    for command in re.findall(r"^movie-genre (\w+)", README, re.M):
        assert command in help_text.stdout
    for settings in re.findall(r"configs/\w+\.yaml", README):
        assert (ROOT / settings).exists()
