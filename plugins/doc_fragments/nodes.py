# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The option of modules that use what a play knows of its nodes; its specification is OPTION in _policy/fleet_nodes.py."""

    DOCUMENTATION = r"""
options:
  nodes:
    description:
      - What this play knows of its nodes. GPUStack's server does not know which llama-box a worker has, nor its environment.
      - A node is that worker of the server which is called O(nodes[].name), or has that host name or address, and else the one that
        is called like one of O(nodes[].addresses). What is no worker of the server is left out.
      - Without it, what only nodes can tell is unknown, and each worker is taken to have the llama-box that the server's GPUStack
        brings.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of its worker on GPUStack's server, or its host name or address as the server knows it.
        type: str
        required: true
      addresses:
        description: Other names and addresses that it may be known by. One that several nodes have is not looked at.
        type: list
        elements: str
        default: []
      apple_silicon:
        description: C(ansible_facts.apple_silicon), the facts of M(metalfleet.gpustack.apple_silicon_facts).
        type: dict
        default: {}
      node:
        description: The return value RV(metalfleet.gpustack.node_info#module:node) of M(metalfleet.gpustack.node_info).
        type: dict
        default: {}
"""
