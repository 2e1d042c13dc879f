# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPUStack's API in memory, with templates for the names and messages of workers, models and instances.

Prints the variables with which the roles reach it, as JSON, and serves until its input ends.
"""

from __future__ import annotations

import json
import sys

from ansible_collections.metalfleet.gpustack.tests.unit import memory_gpustack
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import mac
from hostile_host import TEMPLATE, template_of
from server import Echo


def main() -> None:
    """Two workers and a model that is as the mmap policy wants it."""
    gpustack = Echo()
    for number in (1, 2):
        name = f"{template_of('worker')} {number}"
        labels = {"os": "darwin", "arch": "arm64", "worker-name": name, "own": TEMPLATE}
        gpustack.workers[number] = mac(number, name=name, hostname=TEMPLATE, state_message=TEMPLATE, labels=labels)
    gpustack.add(template_of("model"), backend_parameters=["--no-mmap"], description=TEMPLATE)
    for instance in gpustack.instances.values():
        instance["state_message"] = TEMPLATE
    server = FakeServer()
    server.answer = gpustack.answer
    with running(server):
        variables = {"gpustack_server_url": server.url, "gpustack_server_api_key": memory_gpustack.API_KEY, "gpustack_models_list": []}
        print(json.dumps(variables), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
