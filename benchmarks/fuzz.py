"""A long fuzzing of the REST interface of a running demo; writes results/fuzz.json.

    python -m benchmarks.fuzz [--examples 500]

Schemathesis makes requests from the OpenAPI description, valid and broken ones, and also chains of them. A reply of
5xx, or one that the description does not know, is a failure, and the exit code says so.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.common import CHECKPOINT, RESULTS, about, weights, write
from tests.app_server import serve


def main() -> None:
    """Serve, fuzz and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500, help="requests an operation and phase")
    options = parser.parse_args()
    process, url = serve()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        # Which genres, profiles and words there are no schema can say: refusing them is no failure.
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/api/v1/openapi.json"]
        flags = ["--url", url, "--max-examples", str(options.examples), "--seed", "0", "--generation-database", "none"]
        flags += ["--exclude-checks", "positive_data_acceptance", "--report-junit-path", str(report)]
        try:
            done = subprocess.run([*command, *flags], cwd=folder, check=False)
            alive = process.poll() is None
        finally:
            process.terminate()
        suites = ET.parse(report).getroot()  # noqa: S314  # written by the line above
    told = about("fuzz")
    result = {
        **told,
        "versions": told["versions"] | {"schemathesis": importlib.metadata.version("schemathesis")},
        "model": weights(CHECKPOINT),
        "examples": options.examples,
        "operations": [case.get("name") for case in suites.iter("testcase")],
        "failures": sum(1 for case in suites.iter("testcase") if case.find("failure") is not None),
        "server_alive": alive,
        "exit_code": done.returncode,
    }
    path = RESULTS / "fuzz.json"
    write(path, result)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
