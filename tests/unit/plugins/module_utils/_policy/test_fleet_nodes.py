# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.doc_fragments.nodes import ModuleDocFragment
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import fleet_nodes
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.fleet_nodes import NodeFacts, node_of, parse_nodes, worker_facts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import Worker, parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB

BUILTIN = {"slot": "builtin", "pin": None, "version": "v0.0.139", "recorded_version": "v0.0.136"}
PINNED = {"slot": "pinned", "pin": "v0.0.144", "version": "v0.0.145"}
NODE: dict[str, t.Any] = {
    "installation": {"kind": "script"},
    "gpustack_version": "0.6.0",
    "llama_box": [BUILTIN, PINNED],
    "residency": {"state": "present", "places": []},
}
GARBAGE: list[t.Any] = [None, 0, True, "x", [], [None], {}]


def parsed(**entry: t.Any) -> NodeFacts:
    (node,) = parse_nodes([{"name": "mac-1", **entry}])
    return node


def test_all_that_is_known_of_a_node() -> None:
    assert parsed(addresses=["10.0.0.1"], apple_silicon={"chip": "Apple M3 Ultra"}, node=NODE) == NodeFacts(
        name="mac-1",
        addresses=("10.0.0.1",),
        apple_silicon={"chip": "Apple M3 Ultra"},
        gpustack_version="0.6.0",
        llama_box_version="v0.0.139",
        pinned_versions=("v0.0.144",),
        residency="present",
    )


@pytest.mark.parametrize(
    "entry", [{}, {"addresses": [], "apple_silicon": {}, "node": {}}, {"addresses": None, "apple_silicon": None, "node": None}]
)
def test_a_name_is_enough(entry: dict[str, t.Any]) -> None:
    assert parsed(**entry) == NodeFacts("mac-1", (), {}, None, None, None, "unknown")


def test_a_node_without_pinned_programs_has_none_and_one_without_gpustack_was_not_looked_at() -> None:
    assert parsed(node={**NODE, "llama_box": [BUILTIN]}).pinned_versions == ()
    assert parsed(node={**NODE, "llama_box": []}).pinned_versions == ()
    assert parsed(node={**NODE, "llama_box": [], "installation": {"kind": "none"}}).pinned_versions is None


def test_a_builtin_program_that_does_not_say_its_version() -> None:
    silent = {**BUILTIN, "version": None}
    assert parsed(node={**NODE, "llama_box": [silent, PINNED]}).llama_box_version is None
    assert parsed(node={**NODE, "llama_box": [PINNED]}).llama_box_version is None


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("key", list(NODE))
def test_garbage_of_a_node_is_unknown(key: str, garbage: t.Any) -> None:
    node = parsed(node={**NODE, key: garbage})
    if key == "gpustack_version":
        assert node.gpustack_version == ("x" if garbage == "x" else None)
    if key == "llama_box":
        assert (node.llama_box_version, node.pinned_versions) == (None, () if isinstance(garbage, list) else None)
    if key == "residency":
        assert node.residency == "unknown"


@pytest.mark.parametrize(
    ("state", "residency"), [("absent", "absent"), ("present", "present"), ("unknown", "unknown"), ("gone", "unknown")]
)
def test_residency(state: str, residency: str) -> None:
    assert parsed(node={"residency": {"state": state}}).residency == residency


def test_a_pin_without_a_name_is_left_out() -> None:
    assert parsed(node={"llama_box": [{"slot": "pinned", "pin": None}, PINNED, {"slot": "pinned", "pin": 5}]}).pinned_versions == (
        "v0.0.144",
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "nodes is no list: write one dictionary for each node, with its name"),
        (["mac-1"], "node 1 of nodes is no dictionary: write at least its name"),
        ([{"name": "a"}, {}], "node 2 of nodes has no name: write that of its worker on GPUStack's server, or its host name or address"),
        ([{"name": ""}], "node 1 of nodes has no name: write that of its worker on GPUStack's server, or its host name or address"),
        ([{"name": 7}], "node 1 of nodes has no name: write that of its worker on GPUStack's server, or its host name or address"),
        (
            [{"name": "a", "facts": 1, "addr": 2}],
            "node 1 of nodes has unknown keys: addr, facts; it may have name, addresses, apple_silicon, node",
        ),
        ([{"name": "a", "addresses": "b"}], "node 1 of nodes, a: addresses is no list of texts"),
        ([{"name": "a", "addresses": [1]}], "node 1 of nodes, a: addresses is no list of texts"),
        ([{"name": "a", "apple_silicon": [1]}], "node 1 of nodes, a: apple_silicon is no dictionary"),
        ([{"name": "a", "node": "b"}], "node 1 of nodes, a: node is no dictionary"),
        (
            [{"name": "a", "node": {"node": {}, "changed": False}}],
            "node 1 of nodes, a: node is the whole result of node_info; write RESULT.node",
        ),
        ([{"name": "b"}, {"name": "a"}, {"name": "b"}, {"name": "a"}], "nodes: a, b is there more than once; give each node once"),
    ],
)
def test_what_is_no_list_of_nodes(entries: t.Any, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_nodes(entries)
    assert str(caught.value) == message


WORKER = Worker(name="mac-1", hostname="studio.example.com", ip="10.0.0.1")


@pytest.mark.parametrize("name", ["mac-1", "studio.example.com", "10.0.0.1"])
def test_a_worker_is_the_node_of_its_name_host_name_or_address(name: str) -> None:
    others = (NodeFacts("mac-11"), NodeFacts("mac-"), NodeFacts("MAC-1"))
    assert node_of(WORKER, (*others, NodeFacts(name))) == NodeFacts(name)
    node = NodeFacts("studio", addresses=("other", name))
    assert node_of(WORKER, (*others, node)) is node
    assert node_of(WORKER, others) is None


def test_a_name_outranks_an_address_and_the_workers_name_outranks_both() -> None:
    by_name, by_host, by_ip = NodeFacts("mac-1"), NodeFacts("studio.example.com"), NodeFacts("10.0.0.1")
    by_address = NodeFacts("x", addresses=("mac-1",))
    assert node_of(WORKER, (by_address, by_ip, by_host, by_name)) is by_name
    assert node_of(WORKER, (by_address, by_ip, by_host)) is by_host
    assert node_of(WORKER, (by_address, by_ip)) is by_ip


def test_an_address_that_several_nodes_have_tells_nothing() -> None:
    first, second = NodeFacts("a", addresses=("10.0.0.1", "mac-1")), NodeFacts("b", addresses=("10.0.0.1",))
    assert node_of(WORKER, (first, second)) is first
    assert node_of(Worker(name="mac-1", ip="10.0.0.1"), (NodeFacts("a", addresses=("10.0.0.1",)), second)) is None


def test_a_worker_without_any_name_is_no_node() -> None:
    assert node_of(Worker(name="", hostname=None), (NodeFacts("a", addresses=("",)),)) is None


RAW: dict[str, t.Any] = {
    "name": "mac-1",
    "status": {
        "memory": {"total": 512 * GIB},
        "kernel": {"name": "Darwin"},
        "gpu_devices": [{"name": "Apple M3 Ultra", "index": 0, "memory": {"total": 384 * GIB}, "type": "mps"}],
    },
}


def test_facts_of_workers_with_and_without_a_node() -> None:
    workers = [parse_worker(RAW), parse_worker({**RAW, "name": "mac-2"})]
    nodes = parse_nodes([{"name": "mac-2", "node": NODE, "apple_silicon": {"is_virtual": True}}])
    without, with_node = worker_facts(workers, nodes, "0.6.2")
    assert (without.name, without.gpustack_version, without.llama_box_version, without.is_virtual) == ("mac-1", "0.6.2", "v0.0.154", False)
    assert (with_node.name, with_node.gpustack_version, with_node.llama_box_version) == ("mac-2", "0.6.0", "v0.0.139")
    assert (with_node.is_virtual, with_node.working_set_bytes, with_node.memory_bytes) == (True, 384 * GIB, 512 * GIB)
    (silent,) = worker_facts(workers[1:], parse_nodes([{"name": "mac-2", "node": {"gpustack_version": "0.7.1"}}]), "0.6.2")
    assert (silent.gpustack_version, silent.llama_box_version) == ("0.7.1", "v0.0.171")
    assert worker_facts([], nodes, None) == []


def test_documentation_and_specification_say_the_same() -> None:
    def plain(option: dict[str, t.Any]) -> dict[str, t.Any]:
        found = {key: value for key, value in option.items() if key not in ("description", "suboptions")}
        if "suboptions" in option:
            found["options"] = {name: plain(one) for name, one in option["suboptions"].items()}
        return found

    assert plain(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["nodes"]) == fleet_nodes.OPTION


def test_entries_as_ansible_makes_them() -> None:
    result = ArgumentSpecValidator({"nodes": fleet_nodes.OPTION}).validate({"nodes": [{"name": "mac-1"}]})
    assert result.error_messages == []
    assert parse_nodes(result.validated_parameters["nodes"]) == (NodeFacts("mac-1"),)
    assert ArgumentSpecValidator({"nodes": fleet_nodes.OPTION}).validate({}).validated_parameters["nodes"] == []
