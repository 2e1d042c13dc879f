# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Load once what every process of a task would load for itself.

Ansible forks a process for each node and task. What that process imports (the filters of ansible-core, the plugins of connection and
become with their documentation, jinja2's tables for a first template) is gone with it. The strategies `linear` and `free` look up a
task's action plugin before they fork (`action_loader.get(..., class_only=True)` in their run(), in ansible-core 2.18 to 2.21), which
imports its module; what that module has loaded, all forks have.

What is there by then is also hidden from the garbage collector: that of each fork would look at all objects of Ansible, and so have the
kernel copy every page that they are on, which is what Python's documentation has gc.freeze() for.

Nothing depends on it: where a strategy does otherwise, or a plugin cannot be loaded, each process loads it as ever.
"""

from __future__ import annotations

import contextlib
import gc

from ansible import constants as C
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import become_loader, connection_loader, lookup_loader, shell_loader
from ansible.template import Templar
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.trust import trust_as_template


def preload() -> None:
    """Have the plugins that a task on a node uses, as far as the configuration names them. Whatever fails is left to the task itself."""
    for loader, name in (
        (connection_loader, C.DEFAULT_TRANSPORT),
        (become_loader, C.DEFAULT_BECOME_METHOD),
        (shell_loader, "sh"),
        # Of tasks that somebody has written; the role reads the lock without it.
        (lookup_loader, "metalfleet.gpustack.lock_file"),
    ):
        with contextlib.suppress(Exception):
            loader.get(name, class_only=True)
    with contextlib.suppress(Exception):
        # All filters and tests of ansible-core are loaded with the first one.
        Templar(loader=DataLoader()).template(trust_as_template("{{ '{}' | ansible.builtin.from_yaml is ansible.builtin.truthy }}"))
    gc.freeze()
