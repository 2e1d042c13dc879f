# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a real GPUStack on disposable hosts: the server by its API, workers by their processes. Nothing here asks the collection."""

from __future__ import annotations

import json
import pathlib
import typing as t

if t.TYPE_CHECKING:
    from testinfra.host import Host

_ON_HOST = (pathlib.Path(__file__).parents[1] / "gpustack/install_gpustack.py").read_text()
_ASK = """
import base64, json, sys, urllib.request
url, credentials = sys.argv[1], sys.argv[2]
headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()} if credentials else {}
with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
    print(json.dumps(json.load(answer)))
"""


def _ask(host: Host, url: str, credentials: str = "") -> t.Any:
    return json.loads(host.check_output("python3 -c %s %s %s", _ASK, url, credentials))


def items(host: Host, path: str) -> list[dict[str, t.Any]]:
    """A list of the server, asked from a worker of it."""
    config = json.loads(host.check_output("cat /etc/gpustack/config.yaml"))
    return list(_ask(host, f"{config['server_url']}{path}?perPage=100", "admin:Secret#12345")["items"])


def look(host: Host) -> dict[str, t.Any]:
    """What install_gpustack.py sees."""
    return dict(json.loads(host.check_output("python3 -c %s look", _ON_HOST)))


def engines(host: Host) -> dict[str, dict[str, t.Any]]:
    """The llama-boxes that serve models, by the model's name."""
    return dict(json.loads(host.check_output("python3 -c %s engines", _ON_HOST)))


def props(host: Host, engine: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the llama-box of a model says of itself."""
    port = engine["argv"][engine["argv"].index("--port") + 1]
    return dict(_ask(host, f"http://127.0.0.1:{port}/props"))
