"""A real server: `app.py` in a process of its own, on a free port of loopback."""

import os
import re
import socket
import subprocess
import sys
import threading
import time

from .conftest import ROOT


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(program=("app.py",), **environment):
    """Start app.py and wait until it has printed its address and all of it serves."""
    for _ in range(3):  # a port that was free may be taken by the time that it is asked for
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env=os.environ | {"PORT": str(free_port()), "PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed = ""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            printed += process.stdout.readline()
            if "To create a public link" in printed:
                threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would block the server
                return process, re.search(r"http://127\.0\.0\.1:\d+", printed).group()
        process.kill()
        if "cannot serve on" not in printed:
            break
    raise AssertionError(f"no address printed:\n{printed}")
