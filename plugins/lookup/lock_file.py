# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lock_file
short_description: Read the lock file of llama-box releases
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Gives the content of a lock file on the controller, as the playbook C(metalfleet.gpustack.lock) writes it, for the
    O(metalfleet.gpustack.llama_box#module:lock) of the module M(metalfleet.gpustack.llama_box) and others.
  - A relative path counts from the folder of the first inventory, whatever folder the playbook is in, or from the working directory
    where the inventory is a list of hosts.
  - What the file says is checked by the module.
options:
  _terms:
    description: Paths of lock files, usually one. Empty text names none, which is as if there were no such file.
    type: list
    elements: str
    required: true
  required:
    description:
      - Whether it is an error that there is no such file. If not, the content is an empty dictionary, which that of a file never is.
    type: bool
    default: true
seealso:
  - module: metalfleet.gpustack.llama_box
"""

EXAMPLES = r"""
- name: Run the locked build of v0.0.139
  metalfleet.gpustack.llama_box:
    version: v0.0.139
    lock: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
"""

RETURN = r"""
_raw:
  description: The content of each file.
  type: list
  elements: dict
"""

import typing as t

from ansible.plugins.lookup import LookupBase
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.lock_file import read_lock_file


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore]
    """The lookup metalfleet.gpustack.lock_file."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """The content of each lock file. Raises AnsibleLookupError where there is none, or nothing in it that can be read."""
        self.set_options(var_options=variables, direct=kwargs)
        required = self.get_option("required")
        return [read_lock_file(self._loader, str(term), variables or {}, required) for term in terms]
