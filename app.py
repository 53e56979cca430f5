"""The demo: a description in, its genres out; a file in, a file out; and the API behind both.

    python app.py
    HOST=0.0.0.0 PORT=8000 MODEL_ID=you/movie-genre python app.py

The page is at /, REST at /api/v1 (described in /api/v1/openapi.json), Gradio's endpoints at /gradio_api, and MCP tools
at /gradio_api/mcp/ where the `mcp` extra is installed.
"""

import importlib.util
import os
import signal
import sys
import time

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # phone nobody
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    from modeling import charts, serving
    from modeling.page import CSS, build, theme
except ValueError as error:  # a setting that cannot be
    sys.exit(f"app.py: {error}")


def settings() -> str:
    """The settings that the environment may change, with their defaults."""
    width = max(map(len, serving.SETTINGS))
    lines = [f"    {name:<{width}}  {text} ({default})" for name, (default, text) in serving.SETTINGS.items()]
    return "Settings come from the environment (defaults in brackets):\n" + "\n".join(lines)


def main() -> None:
    """Serve the page and the API."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{__doc__}\n{settings()}")
        return
    if len(sys.argv) > 1:
        print(
            f"app.py takes no {sys.argv[1]}: settings come from the environment, as in PORT=8000 python app.py; "
            "app.py --help lists them",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        service = serving.Service()
    except (OSError, ValueError) as error:
        sys.exit(f"app.py: {error}")
    page = build(service)
    try:
        page.launch(
            server_name=serving.HOST,
            server_port=serving.PORT,
            theme=theme(),
            css=charts.CSS + CSS,
            max_file_size=serving.MAX_BODY_MB * 1_000_000,
            mcp_server=importlib.util.find_spec("mcp") is not None,
            app_kwargs=serving.app_kwargs(service),
            footer_links=["api", "settings"],
            # Threads for all who wait, and some to serve the page; what few visitors gave last is kept in memory.
            max_threads=service.turnstile.capacity + 40,
            state_session_capacity=100,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            # Else Gradio asks its own page, and ends if no answer comes in 3 seconds: so it is where others ask first.
            _frontend=False,
            prevent_thread_lock=True,
        )
    except OSError:  # Gradio's, which speaks of a range of ports
        sys.exit(
            f"app.py: cannot serve on {serving.HOST}:{serving.PORT}: "
            "taken, or no address of this machine; name another HOST or PORT"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        page.server.should_exit = True  # whoever comes now is refused
    answered = service.turnstile.empty(serving.LAST_SECONDS)
    page.close(verbose=False)
    if not answered:
        print(f"app.py: ends with answers under way after {serving.LAST_SECONDS} s", file=sys.stderr, flush=True)
        os._exit(1)  # threads that still compute would abort an ordinary end


if __name__ == "__main__":
    main()
