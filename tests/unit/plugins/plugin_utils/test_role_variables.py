# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values are resolved by the real Ansible, since what omit, undefined variables and nested templates become is up to it."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.metalfleet.gpustack.plugins.modules import node
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils import role_variables
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import validated

ROLE = pathlib.Path(role_variables.__file__).resolve().parents[2] / "roles/gpustack_node"
DEFAULTS: dict[str, t.Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
SPEC: dict[str, t.Any] = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
LOCK = {"format": 1, "releases": {}}
COMMENT = "# Set gpustack_node_environment in the inventory instead of editing these lines.\n"
PARTS = ("environment", "llama_box", "wired_limit")
WANTED = {"gpustack_node_llama_box_version": "v0.0.139", "gpustack_node_wired_limit_state": "present"}


def trusted(value: t.Any) -> t.Any:
    """A value as an inventory gives it."""
    if isinstance(value, dict):
        return {name: trusted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [trusted(inner) for inner in value]
    return role_variables.trust_as_template(value) if isinstance(value, str) else value


def options(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the role asks of the module with these variables. Templates in files, and lock files, are named instead of read."""
    variables = trusted({**DEFAULTS, **given})
    templar = Templar(loader=DataLoader(), variables=variables)

    def resolve(value: t.Any) -> t.Any:
        if value == role_variables.RENDER:
            return f"# from {variables['gpustack_node_environment_template']}\n"
        return templar.template(value)

    return role_variables.RoleVariables(variables, resolve, lambda path: {**LOCK, "path": path}).options()


def test_the_defaults_are_the_cure_alone() -> None:
    """Neither llama-box nor the wired limit is anybody's who has not asked for it."""
    found = options({})
    assert set(found) == {
        *("environment", "restart", "settle_seconds", "health_timeout_seconds", "verify", "receipt_max_age_hours", "models_follow")
    }
    assert (found["environment"]["content"], found["environment"]["variables"], found["environment"]["secrets"]) == ("", {}, {})
    assert "mode" not in found["environment"]


def value_of(spec: t.Mapping[str, t.Any]) -> t.Any:
    """One that is allowed, and neither the default nor WANTED."""
    values = {"str": "text", "path": "/a/path", "int": 7, "float": 0.5, "bool": not spec.get("default", False), "dict": {"NAME": "value"}}
    if "choices" not in spec:
        return values[spec["type"]]
    return (
        [spec["choices"][-1]] if spec["type"] == "list" else next(one for one in spec["choices"] if one not in ("present", spec["default"]))
    )


@pytest.mark.parametrize("name", sorted(SPEC))
def test_each_variable_of_the_role_changes_what_is_asked(name: str) -> None:
    """And the module takes the result: an option of another name or type is refused by its argument spec."""
    before, after = options(WANTED), options({**WANTED, name: value_of(SPEC[name])})
    assert before != after
    assert validated(node.ARGUMENT_SPEC, after)


def test_options_are_called_as_their_variables() -> None:
    """Two of one type that are exchanged would be accepted."""
    tables = (role_variables.NODE, role_variables.ENVIRONMENT, role_variables.LLAMA_BOX, role_variables.WIRED_LIMIT)
    names = [pair for table in tables for pair in table.items()]
    assert {pair for pair in names if not pair[1].endswith(f"_{pair[0]}")} == set()


def flat(given: t.Mapping[str, t.Any]) -> set[str]:
    """Names of options, those below others with a dot."""
    inner = {f"{name}.{below}" for name in PARTS for below in given[name]}
    return {*inner, *given} - {*PARTS}


def test_no_option_is_without_a_variable() -> None:
    """But those that a role has no use for, and those that action plugins fill in."""
    given = {name: value_of(spec) for name, spec in SPEC.items() if not name.endswith(("_state", "_template"))}
    spec = {**node.ARGUMENT_SPEC, **{name: node.ARGUMENT_SPEC[name]["options"] for name in PARTS}}
    filled_in = {"receipt_for", "node_name", "role_variables", "llama_box.archives"}
    assert flat(spec) - flat(options({**given, "gpustack_node_wired_limit_state": "present"})) == {
        *filled_in,
        *("lock_wait_seconds", "environment.path"),
    }


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"gpustack_node_environment": {"A": "{{ 1 + 1 }}"}}, {"content": COMMENT, "variables": {"A": 2}}),
        ({"gpustack_node_environment": "{{ of_fleet }}", "of_fleet": {"A": "1"}}, {"content": COMMENT, "variables": {"A": "1"}}),
        ({"gpustack_node_environment": {"A": "1", "B": "{{ omit }}"}}, {"content": COMMENT, "variables": {"A": "1"}}),
        ({"gpustack_node_environment": {}}, {"content": "", "variables": {}}),
        ({"gpustack_node_environment": "{{ omit }}"}, {"content": ""}),
        # What it names is the template's own business.
        ({"gpustack_node_environment": {"A": "1"}, "gpustack_node_environment_template": "own.j2"}, {"content": "# from own.j2\n"}),
        # And one that may be gone is not needed to give the lines up.
        ({"gpustack_node_environment_state": "absent", "gpustack_node_environment_template": "own.j2"}, {"content": ""}),
        ({"gpustack_node_environment_state": "{{ omit }}", "gpustack_node_environment_template": "own.j2"}, {"content": "# from own.j2\n"}),
        ({"gpustack_node_environment": "{{ none.here }}", "gpustack_node_environment_template": "own.j2"}, {"content": "# from own.j2\n"}),
    ],
)
def test_lines_of_the_environment(given: t.Mapping[str, t.Any], lines: t.Mapping[str, t.Any]) -> None:
    found = options(given)["environment"]
    assert {name: found[name] for name in ("content", "variables") if name in found} == lines


def test_a_template_to_start_from_says_the_same() -> None:
    assert COMMENT in (ROLE / "templates/gpustack.env.j2").read_text()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"gpustack_node_llama_box_version": "{{ omit }}"}, None),
        (
            {"gpustack_node_llama_box_version": "v0.0.139", "gpustack_node_llama_box_state": "{{ omit }}"},
            (None, "v0.0.139", "llama_box.lock.yml"),
        ),
        ({"gpustack_node_llama_box_version": "v0.0.139"}, ("present", "v0.0.139", "llama_box.lock.yml")),
        ({"gpustack_node_llama_box_version": "{{ of_fleet }}", "of_fleet": "v0.0.144"}, ("present", "v0.0.144", "llama_box.lock.yml")),
        (
            {"gpustack_node_llama_box_version": "v0.0.139", "gpustack_node_llama_box_lock": "{{ 'own' + '.yml' }}"},
            ("present", "v0.0.139", "own.yml"),
        ),
        # The lock may be gone as well as the release.
        ({"gpustack_node_llama_box_state": "absent"}, ("absent", None, None)),
        ({"gpustack_node_llama_box_state": "absent", "gpustack_node_llama_box_version": "v0.0.139"}, ("absent", "v0.0.139", None)),
    ],
)
def test_which_llama_box_is_asked_for(given: t.Mapping[str, t.Any], wanted: tuple[str | None, ...] | None) -> None:
    found = options(given).get("llama_box")
    assert wanted == (found and (found.get("state"), found.get("version"), found.get("lock", {}).get("path")))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"gpustack_node_wired_limit_state": "{{ omit }}"}, None),
        ({"gpustack_node_wired_limit_state": "present"}, {"state": "present", "limit_mib": "auto"}),
        ({"gpustack_node_wired_limit_state": "absent"}, {"state": "absent", "limit_mib": "auto"}),
        (
            {"gpustack_node_wired_limit_state": "present", "gpustack_node_disable_wired_collector": True},
            {"state": "present", "limit_mib": "auto", "disable_wired_collector": True},
        ),
    ],
)
def test_which_wired_limit_is_asked_for(given: t.Mapping[str, t.Any], wanted: dict[str, t.Any] | None) -> None:
    assert options(given).get("wired_limit") == wanted


def test_the_old_mark_of_what_is_omitted() -> None:
    """ansible-core 2.18 leaves it in what it resolves, also within lists and dictionaries. Nothing is one where there is no such mark."""
    mark = "__omit_place_holder__1f2e"
    given = {
        "gpustack_node_service_name": mark,
        "gpustack_node_environment": {"A": mark, "B": "1"},
        "gpustack_node_llama_box_slots": [mark, "pinned"],
        "gpustack_node_llama_box_version": "v0.0.139",
        "gpustack_node_llama_box_folder": None,
    }
    found = options({**given, "omit": mark})
    assert "service_name" not in found
    assert found["environment"]["variables"] == {"B": "1"}
    assert (found["llama_box"]["slots"], found["llama_box"]["folder"]) == (["pinned"], None)
    assert options(given)["llama_box"]["folder"] is None


def test_what_is_not_asked_for_is_not_resolved() -> None:
    """Ansible's check of a role's arguments resolves them all, where a play has not turned it off (rolespec_validate)."""
    closed = {"gpustack_node_llama_box_url_password": "{{ of_vault }}"}
    assert "llama_box" not in options(closed)
    with pytest.raises(AnsibleError, match="'of_vault' is undefined"):
        options({**closed, "gpustack_node_llama_box_version": "v0.0.139"})


@pytest.mark.parametrize("missing", sorted(name for name in DEFAULTS if name.endswith("_state")))
def test_half_of_a_role_is_none(missing: str) -> None:
    """Or what is not said of the other half would be what the module takes for granted, and not the role."""
    variables = {name: value for name, value in DEFAULTS.items() if name != missing}
    with pytest.raises(AnsibleActionFail, match=f"role_variables is for the role .*: there is no {missing}"):
        role_variables.RoleVariables(variables, lambda value: value, lambda path: {}).options()
