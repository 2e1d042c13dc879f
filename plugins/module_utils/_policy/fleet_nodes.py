# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a play knows of its nodes, which no server says, and which worker of the server each of them is."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import mmap_facts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import BUILTIN, PINNED
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import WorkerFacts, items, text
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import mapping
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import ABSENT, PRESENT, UNKNOWN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker

# Documented in plugins/doc_fragments/nodes.py.
OPTION: t.Dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "apple_silicon": {"type": "dict", "default": {}},
        "node": {"type": "dict", "default": {}},
    },
}
_KEYS = tuple(OPTION["options"])
_NO_INSTALLATION = "none"
# What worker_from_mapping reads besides the server's own fields.
_TOLD = ("apple_silicon", "gpustack_version", "llama_box_version")


@dataclasses.dataclass(frozen=True)
class NodeFacts:
    """What is known of a node. Unknown is None, for residency "unknown".

    name, addresses: what the server may know it by. apple_silicon: as the facts module gives it. llama_box_version: what the
    builtin program says of itself. pinned_versions: the backend_versions that it has a program for. residency: present,
    absent or unknown.
    """

    name: str
    addresses: t.Tuple[str, ...] = ()
    apple_silicon: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    gpustack_version: t.Optional[str] = None
    llama_box_version: t.Optional[str] = None
    pinned_versions: t.Optional[t.Tuple[str, ...]] = None
    residency: str = UNKNOWN


def parse_nodes(entries: t.Any) -> t.Tuple[NodeFacts, ...]:
    """The nodes of a play. Raises BadInputError."""
    if not isinstance(entries, (list, tuple)):
        raise BadInputError("nodes is no list: write one dictionary for each node, with its name")
    nodes = tuple(_parse_node(f"node {position} of nodes", entry) for position, entry in enumerate(entries, 1))
    names = [node.name for node in nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInputError(f"nodes: {', '.join(twice)} is there more than once; give each node once")
    return nodes


def _parse_node(which: str, entry: t.Any) -> NodeFacts:
    if not isinstance(entry, dict):
        raise BadInputError(f"{which} is no dictionary: write at least its name")
    unknown = sorted(str(key) for key in set(entry) - set(_KEYS))
    if unknown:
        raise BadInputError(f"{which} has unknown keys: {', '.join(unknown)}; it may have {', '.join(_KEYS)}")
    name, addresses = entry.get("name"), entry.get("addresses") or []
    if not isinstance(name, str) or not name:
        raise BadInputError(f"{which} has no name: write that of its worker on GPUStack's server, or its host name or address")
    if not isinstance(addresses, (list, tuple)) or not all(isinstance(address, str) for address in addresses):
        raise BadInputError(f"{which}, {name}: addresses is no list of texts")
    for key in ("apple_silicon", "node"):
        if not isinstance(entry.get(key) or {}, dict):
            raise BadInputError(f"{which}, {name}: {key} is no dictionary")
    node = mapping(entry.get("node"))
    if "node" in node:
        raise BadInputError(f"{which}, {name}: node is the whole result of node_info; write RESULT.node")
    return NodeFacts(
        name=name,
        addresses=tuple(addresses),
        apple_silicon=mapping(entry.get("apple_silicon")),
        gpustack_version=text(node.get("gpustack_version")),
        llama_box_version=_builtin_version(node),
        pinned_versions=_pinned_versions(node),
        residency=_residency(node),
    )


def _programs(node: t.Mapping[str, t.Any], slot: str) -> t.List[t.Mapping[str, t.Any]]:
    return [program for program in map(mapping, items(node.get("llama_box"))) if program.get("slot") == slot]


def _builtin_version(node: t.Mapping[str, t.Any]) -> t.Optional[str]:
    return next((text(program.get("version")) for program in _programs(node, BUILTIN)), None)


def _pinned_versions(node: t.Mapping[str, t.Any]) -> t.Optional[t.Tuple[str, ...]]:
    # Where no GPUStack was found, nobody looked into its folders.
    if not isinstance(node.get("llama_box"), list) or mapping(node.get("installation")).get("kind") == _NO_INSTALLATION:
        return None
    pins = (text(program.get("pin")) for program in _programs(node, PINNED))
    return tuple(pin for pin in pins if pin is not None)


def _residency(node: t.Mapping[str, t.Any]) -> str:
    state = mapping(node.get("residency")).get("state")
    return str(state) if state in (PRESENT, ABSENT) else UNKNOWN


def node_of(worker: Worker, nodes: t.Sequence[NodeFacts]) -> t.Optional[NodeFacts]:
    """The node that a worker runs on, by its name, host name and address; None where it is none of them.

    An address that several nodes have, such as that of a bridge for containers, tells nothing.
    """
    names = [name for name in (worker.name, worker.hostname, worker.ip) if name]
    by_name = {node.name: node for node in nodes}
    found = next((by_name[name] for name in names if name in by_name), None)
    if found is not None:
        return found
    for name in names:
        owners = [node for node in nodes if name in node.addresses]
        if len(owners) == 1:
            return owners[0]
    return None


def worker_facts(workers: t.Iterable[Worker], nodes: t.Sequence[NodeFacts], gpustack_version: t.Optional[str]) -> t.List[WorkerFacts]:
    """The server's workers as the mmap policy knows them, with what their nodes say. gpustack_version: the server's."""
    found = []
    for worker in workers:
        node = node_of(worker, nodes)
        told = {} if node is None else {name: getattr(node, name) for name in _TOLD}
        found.append(mmap_facts.worker_from_mapping({**worker.raw, **told}, gpustack_version))
    return found
