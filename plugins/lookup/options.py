# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: options
short_description: The options of a module from variables of other names
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Gives a dictionary of the values of variables under names of their own, without those variables that are not defined. So a role passes
    its variables to a module whose options are called otherwise.
  - It takes the place of one V({{ variable | default(omit\) }}) for each option, which Ansible would compile for each node. A variable
    whose own template names one that is not defined is an error.
options:
  _terms:
    description: Dictionaries from the name of an option to the name of the variable that has its value.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Give the module those of its options that are set
  metalfleet.gpustack.node:
    llama_box: "{{ lookup('metalfleet.gpustack.options', names) }}"
  vars:
    names:
      version: fleet_llama_box_version
      base_url: fleet_mirror
"""

RETURN = r"""
_raw:
  description: For each dictionary one from the names of options to values.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore]
    """The lookup metalfleet.gpustack.options."""

    def run(self, terms: list[dict[str, str]], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        """A dictionary of values for each dictionary of names, without which AnsibleLookupError is raised."""
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        for names in terms:
            if not isinstance(names, dict):
                raise AnsibleLookupError(f"a dictionary from options to the names of variables is needed, not {type(names).__name__}")
        found: list[dict[str, t.Any]] = self._templar.template(
            [{option: known[name] for option, name in names.items() if name in known} for names in terms]
        )
        return found
