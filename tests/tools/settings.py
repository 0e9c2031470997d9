"""What JupyterLab and Voilà have to be told, written into this environment: python -m tests.tools.settings

Both read it however they are started, as long as they are those of this environment.
"""

import json
import sys
from pathlib import Path

TORNADO = {
    # A picture that a reader brings along comes in one message; a server that is not told so hangs up above 10 MB.
    "websocket_max_message_size": 500_000_000,  # bytes
    # While Voilà executes a notebook it hears no answer to its pings, and would hang up after 90 s.
    "ws_ping_timeout": 24 * 3600 * 1000,  # ms
}
FILES = {
    "jupyter_server_config.json": {"ServerApp": {"tornado_settings": TORNADO}},
    "voila.json": {
        "Voila": {"tornado_settings": TORNADO},
        "VoilaConfiguration": {"progressive_rendering": True},  # cells appear as they are ready
        "VoilaExecutor": {"timeout": 600},  # seconds for a cell
    },
}


def write(folder=Path(sys.prefix) / "etc" / "jupyter"):
    """Write the files into a folder that Jupyter looks into; what else they say is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sections in FILES.items():
        path = folder / name
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        told = before | {section: before.get(section, {}) | values for section, values in sections.items()}
        if told != before:  # a server may be reading it
            path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
