# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: environment_line
short_description: Write a variable so that systemd and install.sh read it alike
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Gives the line C(NAME=value) for C(/etc/default/gpustack), quoted only where that is needed, for use in templates
    that render the O(metalfleet.gpustack.environment#module:content) of the module M(metalfleet.gpustack.environment).
  - Fails, with the reason but without the value, for a value that systemd (Linux) and GPUStack's C(install.sh) (macOS)
    cannot be made to read alike.
positional: value
options:
  _input:
    description: The variable's name.
    type: str
    required: true
  value:
    description: Its value, text or a whole number.
    type: raw
    required: true
"""

EXAMPLES = r"""
# In a template; prints HF_ENDPOINT=https://hub.example.com
- debug:
    msg: "{{ 'HF_ENDPOINT' | metalfleet.gpustack.environment_line('https://hub.example.com') }}"
"""

RETURN = r"""
_value:
  description: The line, without a line end.
  type: str
  sample: HF_ENDPOINT=https://hub.example.com
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_values import assignment_line, text_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError


def environment_line(name: str, value: t.Any) -> str:
    """The line `NAME=value` that all readers read alike."""
    try:
        return assignment_line(str(name), text_of(name, value, "variables"))
    except GpustackError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., str]]:
        """Their names."""
        return {"environment_line": environment_line}
