# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that ask a server, called as Ansible calls them, and their documents compared with what they do."""

from __future__ import annotations

import contextlib
import io
import json
import types
import typing as t

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.metalfleet.gpustack.plugins.doc_fragments import models, nodes, overrides, server
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json

_FRAGMENTS = {
    "metalfleet.gpustack.models": models,
    "metalfleet.gpustack.nodes": nodes,
    "metalfleet.gpustack.overrides": overrides,
    "metalfleet.gpustack.server": server,
}
_VARIABLES = ("GPUSTACK_SERVER_URL", "GPUSTACK_API_KEY", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def run_module(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType, **options: t.Any) -> Json:
    """The result of a module, with what it warned of as `warned`."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **options}}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
    # From ansible-core 2.19 on, arguments come with the name of their serialization.
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    # What ansible-core makes of warnings differs by version, and outlives the module in this process.
    warned: t.List[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, warning: warned.append(warning))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
        module.main()
    result = json.loads(output.getvalue())
    assert bool(ended.value.code) is bool(result.get("failed"))
    # ansible-core before 2.21 adds what it was called with.
    result.pop("invocation", None)
    return {**result, "warned": warned}


def documented_options(module: types.ModuleType) -> t.Dict[str, t.Any]:
    """The options of a module and its fragments, without words, as an argument specification."""
    document = yaml.safe_load(module.DOCUMENTATION)
    texts = [_FRAGMENTS[name].ModuleDocFragment.DOCUMENTATION for name in document["extends_documentation_fragment"] if name in _FRAGMENTS]
    options = {name: option for text in texts for name, option in yaml.safe_load(text)["options"].items()}
    return {name: _plain(option) for name, option in {**options, **document["options"]}.items()}


def _plain(option: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    found = {key: value for key, value in option.items() if key not in ("description", "suboptions")}
    if "suboptions" in option:
        found["options"] = {name: _plain(one) for name, one in option["suboptions"].items()}
    return found


def specified_options(module: types.ModuleType) -> t.Dict[str, t.Any]:
    """The argument specification of a module, without what documents do not hold."""
    return {name: _specified(option) for name, option in module.ARGUMENT_SPEC.items()}


def _specified(option: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    found = {key: value for key, value in option.items() if key not in ("no_log", "fallback")}
    if "options" in option:
        found["options"] = {name: _specified(one) for name, one in option["options"].items()}
    return found


def undocumented(module: types.ModuleType, result: Json) -> t.List[str]:
    """Where a result and the documented return values differ: in names, and in types where there is a value."""
    returned = {key: value for key, value in result.items() if key not in ("changed", "warned")}
    return list(_differences("", returned, yaml.safe_load(module.RETURN)))


_TYPES: t.Dict[str, t.Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}


def _differences(where: str, values: Json, documents: Json) -> t.Iterator[str]:
    yield from (f"{where}{name}" for name in sorted(set(values) ^ set(documents)))
    for name, document in documents.items():
        value = values.get(name)
        if value is None:
            continue
        is_bool = isinstance(value, bool)
        if not isinstance(value, _TYPES[document["type"]]) or is_bool is not (document["type"] == "bool"):
            yield f"{where}{name} is no {document['type']}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(value, list) and not isinstance(one, _TYPES[document["elements"]]):
                yield f"{where}{name}[] is no {document['elements']}"
            if "contains" in document:
                yield from _differences(f"{where}{name}.", one, document["contains"])
