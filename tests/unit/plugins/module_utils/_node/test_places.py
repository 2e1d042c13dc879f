# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.places import residency_places, residency_state
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.service import SeenEnvironment, SeenVariable, ServiceState
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE, Place
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import PLIST, SECRETS, UNIT, fixture

FILE = "/etc/default/gpustack"
RUNNING = ServiceState(True, True, pid=100, detail="state = running")
STOPPED = ServiceState(True, False, detail="state = not running")
PS = ("ps", "-axww", "-o", "pid=,ppid=,command=")
BOX = "/venv/lib/python3.11/site-packages/gpustack/third_party/bin/llama-box/llama-box"
TABLE = f"""\
    1     0 /sbin/launchd
  100     1 /venv/bin/python /venv/bin/gpustack start --token synthetic-secret-token
  101   100 gpustack_serving_process: model_instance_1
  102   101 {BOX} --host 127.0.0.1 --alias x
  103   100 /Library/Application Support/GPUStack/bin/llama-box/llama-box-rpc-server --rpc-server-port 50001
  200     1 /usr/libexec/other
"""
SEEN = " PATH=/usr/bin XPC_SERVICE_NAME=ai.gpustack"


class Service:
    """A service manager that only looks."""

    def __init__(self, name: str = "launchd", loaded: SeenEnvironment | None = None, manager: SeenVariable | None = None) -> None:
        self.name = name
        self.loaded = SeenEnvironment({"PATH": "/usr/bin"}) if loaded is None else loaded
        self.manager = SeenVariable(False) if manager is None else manager

    def loaded_environment(self) -> SeenEnvironment:
        return self.loaded

    def manager_variable(self, name: str) -> SeenVariable:
        assert name == RESIDENCY_VARIABLE
        return self.manager


def places_of(
    host: MemoryHost, installation: Installation, service: Service | None = None, state: ServiceState | None = None
) -> list[Place]:
    return residency_places(host, installation, service, state)


def only(places: list[Place], kind: str) -> list[Place]:
    return [place for place in places if place.kind == kind]


@pytest.mark.parametrize(
    ("data", "state", "lines"),
    [
        (b"A=1\n", "absent", ()),
        (b"# GGML_METAL_NO_RESIDENCY=1\n", "absent", ()),
        (b"GGML_METAL_NO_RESIDENCY=0\n", "present", (1,)),
        (b"A=1\nexport GGML_METAL_NO_RESIDENCY=1\nGGML_METAL_NO_RESIDENCY=\n", "present", (2, 3)),
        (b"X_GGML_METAL_NO_RESIDENCY=1\n", "absent", ()),
    ],
)
@pytest.mark.parametrize("system", ["Darwin", "Linux"])
def test_the_environment_file(system: str, data: bytes, state: str, lines: tuple[int, ...]) -> None:
    host = MemoryHost(system=system, files={FILE: data})
    assert places_of(host, Installation("none")) == [Place("environment_file", FILE, state, lines)]


def test_the_reader_is_the_one_of_the_system() -> None:
    # systemd joins the lines, so that the second one is a part of A's value; install.sh does not.
    data = b"A='1\nGGML_METAL_NO_RESIDENCY=1\n'\n"
    states = {
        system: places_of(MemoryHost(system=system, files={FILE: data}), Installation("none"))[0].state for system in ("Darwin", "Linux")
    }
    assert states == {"Darwin": "present", "Linux": "absent"}


def test_no_environment_file() -> None:
    assert places_of(MemoryHost(), Installation("none")) == [Place("environment_file", FILE, "absent", reason="there is no such file")]


def test_what_may_not_be_read_is_unknown() -> None:
    host = MemoryHost(files={FILE: b"", UNIT: b"", PLIST: b"", "/c.yaml": b""}, unreadable=[FILE, UNIT, PLIST, "/c.yaml"])
    places = places_of(host, Installation("script", plist_file=PLIST, unit_path=UNIT, config_file="/c.yaml"))
    assert [(place.kind, place.state) for place in places] == [
        ("environment_file", "unknown"),
        ("unit_file", "unknown"),
        ("plist", "unknown"),
        ("config_file", "unknown"),
    ]
    assert places[0].reason == f"{FILE} cannot be read: Permission denied"


def test_every_environment_file_of_the_unit_once() -> None:
    files = {FILE: b"", "/etc/gpu/a.env": b"GGML_METAL_NO_RESIDENCY=1\n", "/etc/gpu/b.env": b"", "/etc/gpu/c.txt": b""}
    host = MemoryHost(system="Linux", files=files)
    places = places_of(host, Installation("systemd", environment_files=(FILE, "/etc/gpu/*.env")))
    assert [(place.where, place.state) for place in places] == [
        (FILE, "absent"),
        ("/etc/gpu/a.env", "present"),
        ("/etc/gpu/b.env", "absent"),
    ]
    host.unreadable.add("/etc/gpu")
    assert places_of(host, Installation("systemd", environment_files=("/etc/gpu/*.env",)))[1].state == "unknown"


def test_another_environment_file() -> None:
    host = MemoryHost(files={"/etc/b": b"GGML_METAL_NO_RESIDENCY=1\n"})
    assert places_of(host, Installation("none", environment_file="/etc/b"))[0].state == "present"


def test_unit_and_drop_ins() -> None:
    drop_in, hidden = f"{UNIT}.d/a.conf", f"{UNIT}.d/b.conf"
    host = MemoryHost(system="Linux", files={UNIT: b"[Service]\n", drop_in: b"[Service]\nEnvironment=A=1 GGML_METAL_NO_RESIDENCY=1\n"})
    host.link(hidden, "/dev/null")
    places = only(places_of(host, Installation("systemd", unit_path=UNIT, drop_in_paths=(drop_in, hidden))), "unit_file")
    assert [(place.where, place.state, place.lines) for place in places] == [
        (UNIT, "absent", ()),
        (drop_in, "present", (2,)),
        (hidden, "absent", ()),
    ]


def test_the_plist_of_install_sh() -> None:
    host = MemoryHost(files={PLIST: fixture("synthetic_script.plist")})
    assert only(places_of(host, Installation("script", plist_file=PLIST)), "plist") == [Place("plist", PLIST, "present", (19,))]
    host.files[PLIST] = MemoryFile(fixture("synthetic_script.plist").replace(b"GGML_METAL_NO_RESIDENCY", b"OTHER"))
    assert only(places_of(host, Installation("script", plist_file=PLIST)), "plist") == [Place("plist", PLIST, "absent")]


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (fixture("synthetic_script_bare_ampersand.plist"), "present"),
        (fixture("synthetic_script_bare_ampersand.plist").replace(b"GGML_METAL_NO_RESIDENCY", b"OTHER"), "absent"),
        (fixture("synthetic_script.plist").replace(b"<key>GGML", b"<key>export GGML"), "present"),
        (fixture("synthetic_script.plist").replace(b"</dict>", b""), "present"),
        (b"garbage", "unknown"),
        (b"<plist><dict><key>EnvironmentVariables</key><array/></dict></plist>", "absent"),
        # An argument or a comment that names it is no variable.
        (b"<plist><dict><key>Label</key><string>GGML_METAL_NO_RESIDENCY</string></dict></plist>", "absent"),
    ],
)
def test_lists_that_are_odd(data: bytes, state: str) -> None:
    host = MemoryHost(files={PLIST: data})
    place = only(places_of(host, Installation("script", plist_file=PLIST)), "plist")[0]
    assert place.state == state
    assert bool(place.reason) == (state == "unknown" or data == fixture("synthetic_script.plist").replace(b"</dict>", b""))


def test_a_list_that_is_gone() -> None:
    assert only(places_of(MemoryHost(), Installation("script", plist_file=PLIST)), "plist")[0].reason == "there is no such file"


def test_the_config_file() -> None:
    host = MemoryHost(files={"/c.yaml": b"# GGML_METAL_NO_RESIDENCY\nenv:\n  GGML_METAL_NO_RESIDENCY: 1\n"})
    assert only(places_of(host, Installation("script", config_file="/c.yaml")), "config_file") == [
        Place("config_file", "/c.yaml", "present", (3,))
    ]


@pytest.mark.parametrize(
    ("loaded", "state", "expected"),
    [
        (SeenEnvironment({RESIDENCY_VARIABLE: "0"}), STOPPED, ("present", "")),
        (SeenEnvironment({"PATH": "x"}), STOPPED, ("absent", "")),
        (SeenEnvironment({"PATH": "x"}, "cut short", complete=False), STOPPED, ("unknown", "cut short")),
        (SeenEnvironment(None, "launchctl hung", complete=False), STOPPED, ("unknown", "launchctl hung")),
        (
            SeenEnvironment(None, "no", complete=False),
            ServiceState(False, False, detail="ai.gpustack is not loaded"),
            ("absent", "ai.gpustack is not loaded"),
        ),
        (SeenEnvironment(None, "no", complete=False), ServiceState(None, None, detail="launchctl hung"), ("unknown", "no")),
    ],
)
def test_the_loaded_job(loaded: SeenEnvironment, state: ServiceState, expected: tuple[str, str]) -> None:
    installation = Installation("script", "launchd", "ai.gpustack")
    place = only(places_of(MemoryHost(), installation, Service(loaded=loaded), state), "loaded_job")[0]
    assert (place.where, place.state, place.reason) == ("system/ai.gpustack", *expected)


@pytest.mark.parametrize(
    ("name", "kind", "where"),
    [("launchd", "launchd_environment", "launchctl getenv"), ("systemd", "manager_environment", "systemctl show-environment")],
)
@pytest.mark.parametrize(
    ("seen", "state"), [(SeenVariable(True), "present"), (SeenVariable(False), "absent"), (SeenVariable(None, "it hung"), "unknown")]
)
def test_the_managers_own_environment(name: str, kind: str, where: str, seen: SeenVariable, state: str) -> None:
    places = places_of(MemoryHost(), Installation("script"), Service(name, manager=seen), STOPPED)
    assert places[-1] == Place(kind, where, state, reason=seen.reason)
    assert bool(only(places, "loaded_job")) == (name == "launchd")


def mac(environments: dict[int, str], uid: int = 0) -> MemoryHost:
    """A Mac with the processes of TABLE; environments: pid -> what ps -E shows behind its command."""
    lines = {int(line.split()[0]): line.split(None, 2)[2] for line in TABLE.splitlines()}
    pids = "100,101,103,102"
    plain = "".join(f"{pid} {lines[pid]}\n" for pid in (100, 101, 102, 103))
    with_environment = "".join(f"{pid} {lines[pid]}{environments.get(pid, SEEN)}\n" for pid in (100, 101, 102, 103))
    return MemoryHost(
        uid=uid,
        commands={
            PS: CommandResult(0, TABLE, ""),
            ("ps", "-ww", "-o", "pid=,command=", "-p", pids): CommandResult(0, plain, ""),
            ("ps", "-E", "-ww", "-o", "pid=,command=", "-p", pids): CommandResult(0, with_environment, ""),
        },
    )


def processes_of(host: MemoryHost, state: ServiceState = RUNNING) -> list[tuple[str, str]]:
    return [(place.where, place.state) for place in only(places_of(host, Installation("script"), Service(), state), "process")]


def test_every_process_of_the_service() -> None:
    assert processes_of(mac({102: SEEN + " GGML_METAL_NO_RESIDENCY=1"})) == [
        ("pid 100 (python)", "absent"),
        ("pid 101 (gpustack_serving_process)", "absent"),
        ("pid 103 (llama-box-rpc-server)", "absent"),
        ("pid 102 (llama-box)", "present"),
    ]


def test_hidden_environments_matter_for_those_that_use_or_hand_on() -> None:
    assert processes_of(mac(dict.fromkeys((100, 101, 102, 103), ""), uid=501)) == [
        ("pid 100 (python)", "unknown"),
        ("pid 103 (llama-box-rpc-server)", "unknown"),
        ("pid 102 (llama-box)", "unknown"),
    ]
    place = only(places_of(mac({100: ""}, uid=501), Installation("script"), Service(), RUNNING), "process")[0]
    assert place.reason == "its environment cannot be seen without root's privileges"


def test_a_process_that_ends_while_it_is_looked_at_hides_nothing() -> None:
    host = mac({102: ""})
    tables = iter([TABLE, TABLE.replace(f"  102   101 {BOX}", "  999   998 /x")])
    host.commands[PS] = lambda: CommandResult(0, next(tables), "")
    assert [where for where, _state in processes_of(host)] == [
        "pid 100 (python)",
        "pid 101 (gpustack_serving_process)",
        "pid 103 (llama-box-rpc-server)",
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (STOPPED, []),
        (ServiceState(True, True), []),
        (ServiceState(None, None, detail="it hung"), [("the processes of the service", "unknown")]),
    ],
)
def test_no_processes(state: ServiceState, expected: list[tuple[str, str]]) -> None:
    assert processes_of(MemoryHost(), state) == expected


def test_a_process_table_that_cannot_be_read() -> None:
    host = MemoryHost(commands={PS: HostError("ps cannot be run")})
    assert processes_of(host) == [("pid 100 and its children", "unknown")]


MAIN = ("pid 100", "unknown")


@pytest.mark.parametrize("table", ["", "nonsense\n", "    1     0 /sbin/launchd\n  102   101 /x\n"])
def test_a_process_table_without_the_main_process(table: str) -> None:
    """Such as one of Linux mounted with hidepid=2, read without privileges."""
    host = MemoryHost(commands={PS: CommandResult(0, table, "")})
    assert processes_of(host) == [MAIN]
    place = only(places_of(host, Installation("script"), Service(), RUNNING), "process")[0]
    assert place.reason == "the table of processes does not show the main process: it is hidden, or it has just ended"
    assert processes_of(MemoryHost(system="Linux")) == [MAIN]


@pytest.mark.parametrize("second", ["", "    1     0 /sbin/launchd\n"])
def test_a_main_process_that_is_gone_at_the_second_look(second: str) -> None:
    host = mac({100: "", 102: SEEN + " GGML_METAL_NO_RESIDENCY=1"})
    tables = iter([TABLE, second])
    host.commands[PS] = lambda: CommandResult(0, next(tables), "")
    assert processes_of(host) == [
        MAIN,
        ("pid 101 (gpustack_serving_process)", "absent"),
        ("pid 103 (llama-box-rpc-server)", "absent"),
        ("pid 102 (llama-box)", "present"),
    ]


def test_a_process_without_a_command_line() -> None:
    host = MemoryHost(system="Linux", files={"/proc/100/stat": b"100 (x) Z 1 ", "/proc/100/cmdline": b""})
    assert processes_of(host) == [("pid 100 (without a command line)", "unknown")]


def test_nothing_secret_is_returned() -> None:
    host = mac({100: SEEN + " HF_TOKEN=synthetic-secret-value"})
    host._put(PLIST, MemoryFile(fixture("synthetic_script.plist")))
    text = repr(places_of(host, Installation("script", plist_file=PLIST), Service(), RUNNING))
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "absent"),
        (["absent", "absent"], "absent"),
        (["absent", "unknown"], "unknown"),
        (["unknown", "present", "absent"], "present"),
    ],
)
def test_residency_state(states: list[str], expected: str) -> None:
    assert residency_state([Place("plist", "x", state) for state in states]) == expected
