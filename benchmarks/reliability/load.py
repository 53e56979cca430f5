"""The real app under load, on loopback: twenty users at once, and ten thousand calls one after another."""

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil

from benchmarks.common import movies

USERS, MINUTES, CALLS = 20, 5, 10_000
ALLOWED = {200, 413, 422, 503}


def measure(scale: float) -> dict[str, Any]:
    """Both, on one server, and its end."""
    from tests.app_server import serve

    texts = [row["description"] for row in movies()]
    process, url = serve(PYTHONWARNINGS="ignore")
    try:
        alone = {text: answered(url, {"descriptions": [text]}) for text in texts[:100]}
        crowd = users(url, texts, 60 * MINUTES * scale)
        before = _resident(process.pid)
        same, beside = steady(url, alone, round(CALLS * scale))
        after = _resident(process.pid)
    finally:
        started = time.time()
        process.terminate()
        code = process.wait(timeout=30)
    return {
        "users": USERS,
        "minutes": round(MINUTES * scale, 1),
        **crowd,
        "calls": round(CALLS * scale),
        "bit_identical": same,
        "uncertain_beside": beside,
        "resident_mb_before": round(before, 1),
        "resident_mb_after": round(after, 1),
        "shutdown": {"exit_code": code, "seconds": round(time.time() - started, 2)},
    }


def users(url: str, texts: list[str], seconds: float) -> dict[str, Any]:
    """Single, batch, uncertainty and broken requests, mixed, with a second or so of thinking between them."""
    deadline = time.time() + seconds
    seen: list[tuple[str, int, float]] = []

    def user(number: int) -> None:
        draw = random.Random(number)
        while time.time() < deadline:
            kind = draw.choices(("single", "batch", "uncertainty", "broken", "large"), (80, 5, 5, 8, 2))[0]
            body: Any = {"descriptions": [draw.choice(texts)]}
            if kind == "batch":
                body = {"descriptions": draw.sample(texts, 16)}
            elif kind == "uncertainty":
                body |= {"mc_samples": 20, "seed": number}
            elif kind == "broken":
                body = draw.choice([{}, {"descriptions": [""]}, {"descriptions": "x"}, body | {"threshold": 7}, [1]])
            elif kind == "large":
                body = {"descriptions": ["x" * 6_000_000]}
            started = time.time()
            status = post(url, body)[0]
            seen.append((kind, status, time.time() - started))
            time.sleep(draw.uniform(0.5, 1.5))

    crowd = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    waits = {
        kind: [wait for name, status, wait in seen if (name, status) == (kind, 200)]
        for kind in ("single", "batch", "uncertainty")
    }
    return {
        "requests": len(seen),
        "statuses": {str(status): count for status, count in sorted(Counter(row[1] for row in seen).items())},
        "only_allowed": {row[1] for row in seen} <= ALLOWED,
        "seconds_p50_p95_p99": {
            kind: [round(float(np.percentile(values, p)), 3) for p in (50, 95, 99)] for kind, values in waits.items()
        },
    }


def steady(url: str, alone: dict[str, bytes], calls: int) -> tuple[int, int]:
    """Plain predictions beside Monte-Carlo ones: how many are bit for bit what they are alone; how many ran beside."""
    done, texts = threading.Event(), list(alone)

    def sampling() -> int:
        seed = 0
        while not done.is_set():
            answered(url, {"descriptions": texts[:1], "mc_samples": 5, "seed": (seed := seed + 1)})
        return seed

    with ThreadPoolExecutor() as pool:
        beside = pool.submit(sampling)
        try:
            texts_in_turn = (texts[i % len(texts)] for i in range(calls))
            same = sum(answered(url, {"descriptions": [text]}) == alone[text] for text in texts_in_turn)
        finally:
            done.set()
        return same, beside.result()


def answered(url: str, body: Any) -> bytes:
    """The reply of a request that must succeed."""
    status, reply = post(url, body)
    if status != 200:
        raise RuntimeError(f"status {status}: {reply[:200]!r}")
    return reply


def post(url: str, body: Any) -> tuple[int, bytes]:
    """Status and reply."""
    request = urllib.request.Request(f"{url}/api/v1/predict", json.dumps(body).encode())  # noqa: S310
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _resident(pid: int) -> float:
    """Megabytes."""
    return psutil.Process(pid).memory_info().rss / 1e6
