# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In an interpreter of its own, since this one may have loaded everything already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import preload

# What the process of a task on a node does before it asks the node. Prints the modules that this imports.
TASK = """
import gc, json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import action_loader, become_loader, connection_loader, init_plugin_loader, lookup_loader, shell_loader
from ansible.template import Templar
try:
    from ansible.template import trust_as_template
except ImportError:
    trust_as_template = str
init_plugin_loader([])
if sys.argv[1] == "with":
    assert action_loader.get("metalfleet.gpustack.node", class_only=True)
before = set(sys.modules)
# What no collection in a fork has to look at.
assert (gc.get_freeze_count() > 0.9 * (len(gc.get_objects()) + gc.get_freeze_count())) == (sys.argv[1] == "with")
connection_loader.get("ssh", class_only=True)
become_loader.get("sudo", class_only=True)
shell_loader.get("sh", class_only=True)
lookup_loader.get("metalfleet.gpustack.lock_file", class_only=True)
assert Templar(loader=DataLoader()).template(trust_as_template("{{ '{}' | from_yaml }}")) == {}
print(json.dumps(sorted(name for name in set(sys.modules) - before if name.startswith("ansible"))))
"""


def imported_by_a_task(*arguments: str) -> t.List[str]:
    paths = [path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections"))]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", TASK, *arguments], check=True, stdout=subprocess.PIPE, env=environment)
    found: t.List[str] = json.loads(done.stdout)
    return found


def test_nothing_is_left_to_be_imported_by_each_process() -> None:
    alone = imported_by_a_task("without")
    assert {name.rsplit(".", 1)[-1] for name in alone if ".gpustack.plugins.lookup." in name} == {"lock_file"}
    assert [name for name in alone if name.startswith("ansible.plugins.filter.")]
    assert [name for name in alone if "ansible.plugins.connection.ssh" in name or "plugins.connection" in name]
    assert imported_by_a_task("with") == []


@pytest.mark.parametrize("constant", ["DEFAULT_TRANSPORT", "DEFAULT_BECOME_METHOD"])
def test_what_cannot_be_loaded_is_left_to_the_task(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload.C, constant, "there.is.none")
    preload.preload()
