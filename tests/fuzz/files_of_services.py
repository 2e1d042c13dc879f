# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environment files, units and property lists: what people and installers write, and we write to."""

from __future__ import annotations

import plistlib
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    env_differences,
    env_readers,
    env_values,
    env_view,
    environment_file,
    property_list,
    service_files,
    unit_file,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE
from shapes import CANARY, Target, files, text_of

_BLOCK = ("MANAGED_A=1", 'MANAGED_B="x "')
_ENVIRONMENT_SEEDS = (
    b"GGML_METAL_NO_RESIDENCY=1\nexport OTHER='x y'\r\n# comment \\\nHF_TOKEN=\"c4n-4ry\"\n",
    b"# BEGIN managed by metalfleet.gpustack (new file)\nMANAGED_A=1\n# END managed by metalfleet.gpustack\n",
    b"declare -x 'GGML_METAL_NO_RESIDENCY'=0\nA=\"b\\\nc\" d\n\xef\xbb\xbfX=\xc3\xa9\xff\n; c\n",
)


def _read(data: bytes) -> t.Any:
    text = text_of(data)
    assert env_readers.encode(text) == data
    readings = [env_readers.read(text, reader) for reader in (env_readers.SYSTEMD, env_readers.INSTALL_SH)]
    for reading in readings:
        end = 0
        for entry in reading.entries:
            assert end <= entry.start < entry.end <= len(text)
            end = entry.end
    return readings


def _merge(data: bytes) -> t.Any:
    reader = env_readers.SYSTEMD if len(data) % 2 else env_readers.INSTALL_SH
    text = text_of(data)
    merged = environment_file.merge(text, _BLOCK, reader, [RESIDENCY_VARIABLE])
    after = env_readers.encode(merged.text or "")
    assert not environment_file.find_variable(after, RESIDENCY_VARIABLE, reader)
    again = environment_file.merge(merged.text, _BLOCK, reader, [RESIDENCY_VARIABLE])
    assert again.text == merged.text, "a second merge changes something"
    assert not again.changes
    if not environment_file.find_variable(data, RESIDENCY_VARIABLE, reader) and b"managed by" not in data and b"MANAGED" not in data:
        back = environment_file.merge(merged.text, (), reader, [])
        assert env_readers.encode(back.text or "") == data, "foreign lines are not as they were"
    return merged


def _view(data: bytes) -> t.Any:
    first, _blank, second = text_of(data).partition("|")
    shown = env_view.shown(first + CANARY + second, (), ())
    assert CANARY not in shown, "a value is shown"
    reasons = env_differences.find_differences(first + CANARY + second)
    assert CANARY not in "".join(difference.reason for difference in reasons)
    return shown, reasons


def _value(data: bytes) -> t.Any:
    value = CANARY + text_of(data)
    line = env_values.assignment_line("NAME", value, "secrets")
    for reader in (env_readers.SYSTEMD, env_readers.INSTALL_SH):
        assert env_readers.read(line + "\n", reader).variables() == {"NAME": value}
    return line


def _managed(data: bytes) -> t.Any:
    variables = env_values.read_managed_lines(text_of(data))
    assert env_readers.read_install_sh(text_of(data) + "\n").variables() == variables
    return variables


def _unit(data: bytes) -> t.Any:
    text = text_of(data)
    stripped, lines = unit_file.strip_variable(text, RESIDENCY_VARIABLE)
    assert bool(lines) == (stripped != text)
    assert unit_file.find_variable(stripped, RESIDENCY_VARIABLE) == ()
    kept = iter(text)
    assert all(char in kept for char in stripped), "something was put into a foreign unit"
    command = service_files.unit_command([text], "gpustack.service")
    environment = service_files.unit_environment([text], "gpustack.service")
    if command is not None:
        service_files.settings(command, environment, {})
    return stripped, command, environment, service_files.unit_environment_files([text], "gpustack.service")


def _config(data: bytes) -> t.Any:
    text = text_of(data)
    return service_files.config_values(text), service_files.config_lines(text, RESIDENCY_VARIABLE)


def _plist(data: bytes) -> t.Any:
    plist = property_list.parse(service_files.escape_ampersands(data), "/x.plist")
    again = property_list.parse(plist.encode(), "/x.plist")
    assert repr(again.content) == repr(plist.content), "what is written is not what was read"
    for name in plist.environment():
        environment_file.spelled_name(name)
    command = service_files.plist_command(plist.content)
    environment = service_files.plist_environment(plist.content)
    if command is not None:
        service_files.settings(command, environment, {})
    return plist.content


def _binary_plists() -> t.Tuple[bytes, ...]:
    found = files("installation/*.plist", "launchctl/*.xml")
    texts = tuple(service_files.escape_ampersands(data) for data in found)
    return found + tuple(plistlib.dumps(plistlib.loads(data), fmt=plistlib.FMT_BINARY) for data in texts)


_REFUSED = (BadInputError,)
TARGETS = (
    Target("environment_file_read", _read, _ENVIRONMENT_SEEDS),
    Target("environment_file_merge", _merge, _ENVIRONMENT_SEEDS, _REFUSED, largest_bytes=512),
    Target("environment_file_shown", _view, _ENVIRONMENT_SEEDS, largest_bytes=512),
    Target("environment_value", _value, (b"x y", b"'\"", b"\\", b"$x `y`"), _REFUSED, largest_bytes=256),
    Target("environment_managed_lines", _managed, _ENVIRONMENT_SEEDS, _REFUSED, largest_bytes=512),
    Target("unit_file", _unit, files("services/*.service", "installation/*.service")),
    Target("config_file", _config, files("installation/*.yaml")),
    Target("property_list", _plist, _binary_plists(), _REFUSED),
)
