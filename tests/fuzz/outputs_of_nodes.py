# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What programs of a node print: hardware, service managers, processes, versions."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check, system_bus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    chips,
    dbus_value,
    hardware,
    instance_age,
    launchctl,
    llama_box_layout,
    processes,
    sockets,
    systemd_show,
    versions,
    wired_limit,
    working_set,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import parse_model
from shapes import Target, files, text_of

_PS = b"    1     0 /sbin/launchd\n 7123     1 /opt/gpustack/bin/python gpustack start\n 7130  7123 llama-box --port 40001 A=1\n"


def _probe(data: bytes) -> t.Any:
    # What is not a part of its own is empty.
    sysctl, profiler, sw_vers, log = (*text_of(data).split("\x1e"), "", "", "")[:4]
    raw = hardware.RawProbe("Darwin", "arm64", sysctl, profiler, sw_vers, working_set.LogText("/x.log", 0.0, log))
    found = hardware.parse_hardware(raw)
    for size in (found.memory_bytes, found.working_set_bytes, found.gpu_cores, found.wired_limit_mib):
        assert size is None or size >= 0
    wired_limit.parse_live(sysctl)
    hardware.parse_is_virtual(sysctl)
    return found.as_dict()


def _launchctl(data: bytes) -> t.Any:
    text = text_of(data)
    job = launchctl.parse_job(text)
    # The fast path keeps less of the text, and must not lose what decides.
    kept = launchctl.parse_job(text_of(receipt_check.job(data)))
    assert (kept.state, kept.pid, kept.path, kept.environment) == (job.state, job.pid, job.path, job.environment)
    return job, launchctl.parse_disabled(text)


def _systemctl(data: bytes) -> t.Any:
    text = text_of(data)
    shown = systemd_show.parse_show(text)
    return shown.environment_files(), shown.words("Environment"), shown.number("MainPID"), systemd_show.parse_environment(text)


def _bus(data: bytes) -> t.Any:
    pieces = iter([data[:100], data[100:]])
    try:
        replies = system_bus._replies(lambda _most: next(pieces, b""), 2)
    except OSError as exc:
        return str(exc)
    assert replies.keys() == {1, 2}
    try:
        return replies, dbus_value.parse_variant(replies[2])
    except ValueError:
        return replies


def _processes(data: bytes) -> t.Any:
    text = text_of(data)
    table = processes.parse_ps(text)
    for process in table:
        found = processes.with_descendants(table, process.pid)
        assert process in found
        assert len(found) <= len(table)
        sockets.rpc_port(process.command)
    processes.has_variable(text, text[:20], "GGML_METAL_NO_RESIDENCY")
    return (
        *(table, processes.parse_ps_commands(text), processes.parse_stat_ppid(text), processes.parse_age(text, "12.5 3")),
        *(
            processes.parse_age("1 (x) S 1", text),
            processes.parse_etime(text),
            processes.parse_cmdline(data),
            processes.parse_environ(data),
        ),
        *(sorted(sockets.netstat_ports(text)), sorted(sockets.proc_ports(text))),
    )


def _names(data: bytes) -> t.Any:
    text = text_of(data)
    other = text[len(text) // 2 :]
    version = versions.parse(text)
    if version is not None and versions.parse(other) is not None:
        assert versions.compare(text, other) == -versions.compare(other, text)
    chips.identify_chip((text,), other)
    layout = [function(text) for function in (llama_box_layout.uses_folders, llama_box_layout.builtin_version)]
    return version, versions.series(text), versions.support(text), chips.parse_chip(text), layout


def _log(data: bytes) -> t.Any:
    text = text_of(data)
    first, _separator, parameters = text.partition("\x1e")
    model = parse_model({"name": "m", "backend_parameters": parameters.split("\n")})
    arguments = instance_age.command_line(first)
    runs = None if arguments is None else instance_age.runs_with(arguments, model)
    size = working_set.parse_log(text)
    assert size is None or size >= 0
    return size, arguments, runs, llama_box_layout.parse_version_output(text, first), llama_box_layout.parse_versions_file(data)


def _recorded_bus() -> t.Tuple[bytes, ...]:
    return tuple(bytes.fromhex("".join(json.loads(one)["received"])) for one in files("system_bus/*.json"))


def _probes() -> t.Tuple[bytes, ...]:
    names = ("sysctl.txt", "system_profiler.json", "sw_vers.txt")
    found = zip(*(files(f"hardware/*/{name}") for name in names))
    return tuple(b"\x1e".join(parts) for parts in found) + tuple(b"\x1e" + one for one in files("apple/*.json"))


_ARGUMENTS = b"arguments  : ./llama-box --host 0.0.0.0 --no-warmup --no-mmap --x /d/y\x1e--no-mmap\n--x={data_dir}/y"
TARGETS = (
    Target("hardware_probe", _probe, _probes(), largest_bytes=4096),
    Target("launchctl", _launchctl, files("services/*print*.txt", "launchctl/launchctl_print*.txt")),
    Target("systemctl", _systemctl, files("services/synthetic_systemctl*.txt")),
    Target("system_bus", _bus, _recorded_bus(), largest_bytes=4096),
    Target("processes", _processes, (_PS, b"7 (a) b) S 1 7 7 0 -1 4194560 0 0 0 0 1 1 0 0 20 0 1 0 4000 0", b"1-02:03:04", b"A=1\0B=2\0")),
    Target(
        "versions_and_chips",
        _names,
        (b"v0.0.139", b"0.7.1rc1", b"0.6.0-3-gdeadbeef-dirty", b"Apple M3 Ultra", b"Mac15,14"),
        largest_bytes=128,
    ),
    Target("logs", _log, (_ARGUMENTS, b'{"llama-box": "v0.0.139"}', *files("installation/*version*.txt", "logs/*.log"))),
)
