# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What a launchd job or a systemd unit starts, and where GPUStack then keeps its things.

GPUStack takes a setting from its command line, else from GPUSTACK_* in its environment, else from the YAML file named
by --config-file, else its default (gpustack/cmd/start.py, config/config.py of 0.6 and 0.7).
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.unit_file import assignments, split_words

DEFAULT_DATA_DIR = "/var/lib/gpustack"

# argparse takes any beginning of an option that no other option of `gpustack start` shares.
_OPTIONS = {"data-dir": "data-d", "bin-dir": "bi", "config-file": "co", "port": "po", "worker-port": "worker-p"}
_ENVIRONMENT = {
    "data-dir": "GPUSTACK_DATA_DIR",
    "bin-dir": "GPUSTACK_BIN_DIR",
    "config-file": "GPUSTACK_CONFIG_FILE",
    "port": "GPUSTACK_PORT",
    "worker-port": "GPUSTACK_WORKER_PORT",
}
_CONFIG_KEYS = {"data-dir": "data_dir", "bin-dir": "bin_dir", "port": "port", "worker-port": "worker_port"}

_BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9A-Fa-f]+);)")
_YAML_LINE = re.compile(r"""(?P<quote>["']?)(?P<key>[A-Za-z_]\w*)(?P=quote)\s*:(?:\s+(?P<value>.*))?\Z""")


@dataclasses.dataclass(frozen=True)
class Command:
    """What a service manager starts. arguments: without the program. They can hold secrets (--token): never print them."""

    program: str
    arguments: t.Tuple[str, ...] = ()
    working_directory: str = "/"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What GPUStack makes of its settings.

    port: the server's, None where GPUStack's default (80, or 443 with TLS) holds. worker_port: None where its default holds.
    """

    data_dir: str
    bin_dir: str
    config_file: t.Optional[str]
    port: t.Optional[int]
    worker_port: t.Optional[int] = None


def escape_ampersands(data: bytes) -> bytes:
    """A property list with the escaping that install.sh left out, for reading what launchd itself cannot read."""
    return _BARE_AMPERSAND.sub(b"&amp;", data)


def bare_ampersand_lines(data: bytes) -> t.List[int]:
    """The 1-based lines of a property list that hold an `&` which XML does not allow."""
    return [number for number, line in enumerate(data.split(b"\n"), start=1) if _BARE_AMPERSAND.search(line)]


def plist_command(content: t.Mapping[str, t.Any]) -> t.Optional[Command]:
    """What a launchd job starts; None where it names no program."""
    arguments = content.get("ProgramArguments")
    words = [word for word in arguments if isinstance(word, str)] if isinstance(arguments, list) else []
    program = content.get("Program")
    if not isinstance(program, str):
        program = words[0] if words else None
    if not program:
        return None
    folder = content.get("WorkingDirectory")
    return Command(program, tuple(words[1:]), folder if isinstance(folder, str) else "/")


def plist_environment(content: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    """The environment that a launchd job is given by its property list."""
    value = content.get("EnvironmentVariables")
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): text for name, text in items if isinstance(text, str)}


def unit_values(texts: t.Iterable[str], key: str) -> t.List[str]:
    """The values of a key of [Service] in a unit and its drop-ins, in that order; an empty value forgets those before it."""
    values: t.List[str] = []
    for text in texts:
        for assignment in assignments(text, (key,)):
            if assignment.value:
                values.append(assignment.value)
            else:
                values.clear()
    return values


def unit_command(texts: t.Sequence[str], unit_name: str) -> t.Optional[Command]:
    """What a systemd service starts; None where its files name no program."""
    lines = unit_values(texts, "ExecStart")
    words = _words(lines[-1]) if lines else []
    if not words:
        return None
    prefix = words[0][: len(words[0]) - len(words[0].lstrip("@-:+!|"))]
    words[0] = words[0][len(prefix) :]
    if "@" in prefix:
        # The second word is only what the program sees as its own name.
        del words[1:2]
    words = [_expand(word, unit_name) for word in words]
    folders = [_expand(value.lstrip("-"), unit_name) for value in unit_values(texts, "WorkingDirectory")]
    folder = folders[-1] if folders and folders[-1].startswith("/") else "/"
    return Command(words[0], tuple(words[1:]), folder)


def unit_environment(texts: t.Sequence[str], unit_name: str) -> t.Dict[str, str]:
    """The variables that the Environment= lines of a unit set."""
    words = (_expand(word, unit_name) for line in unit_values(texts, "Environment") for word in _words(line))
    return dict(word.split("=", 1) for word in words if "=" in word)


def unit_environment_files(texts: t.Sequence[str], unit_name: str) -> t.List[str]:
    """The paths of EnvironmentFile= lines, without the `-` that makes a missing file no error. They may be patterns."""
    return [_expand(value.lstrip("-"), unit_name) for value in unit_values(texts, "EnvironmentFile")]


def option(arguments: t.Sequence[str], name: str) -> t.Optional[str]:
    """The value of a command line option of GPUStack (data-dir, bin-dir, config-file, port or worker-port); the last one wins."""
    value = None
    for position, argument in enumerate(arguments):
        given, equals, text = argument[2:].partition("=")
        if not argument.startswith("--") or not name.startswith(given) or len(given) < len(_OPTIONS[name]):
            continue
        if equals:
            value = text
        elif position + 1 < len(arguments):
            value = arguments[position + 1]
    return value


def config_values(text: str) -> t.Tuple[t.Dict[str, str], t.List[str]]:
    """The settings of interest in GPUStack's YAML file, and the keys among them whose values need a YAML parser.

    There is none in the standard library; plain and quoted one-line scalars at the top level are all that people write.
    """
    values: t.Dict[str, str] = {}
    unclear: t.List[str] = []
    for line in text.splitlines():
        match = _YAML_LINE.match(line)
        if match is None or match.group("key") not in _CONFIG_KEYS.values():
            continue
        key, value = match.group("key"), (match.group("value") or "").strip()
        if value[:1] in ('"', "'"):
            quoted, closing, _rest = value[1:].partition(value[0])
            if not closing or "\\" in value:
                unclear.append(key)
            else:
                values[key] = quoted
            continue
        value = re.split(r"(?:^|\s)#", value)[0].strip()
        if value[:1] in tuple("|>&*!{[%@`"):
            unclear.append(key)
        elif value not in ("", "~", "null"):
            values[key] = value
    return values, unclear


def config_lines(text: str, variable: str) -> t.List[int]:
    """The 1-based lines of a YAML file that name a variable outside of comments."""
    pattern = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(variable)}(?![A-Za-z0-9_])")
    lines = (re.split(r"(?:^|\s)#", line)[0] for line in text.splitlines())
    return [number for number, line in enumerate(lines, start=1) if pattern.search(line)]


def config_file_of(command: Command, environment: t.Mapping[str, str]) -> t.Optional[str]:
    """The absolute path of the YAML file that GPUStack reads; None where it reads none."""
    value = option(command.arguments, "config-file")
    value = environment.get(_ENVIRONMENT["config-file"]) if value is None else value
    return _absolute(command, value) if value else None


def settings(command: Command, environment: t.Mapping[str, str], config: t.Mapping[str, str]) -> Settings:
    """What GPUStack makes of its command line, its environment and its YAML file."""

    def setting(name: str) -> t.Optional[str]:
        for value in (option(command.arguments, name), environment.get(_ENVIRONMENT[name]), config.get(_CONFIG_KEYS[name])):
            if value is not None:
                return value
        return None

    def folder(name: str, default: str) -> str:
        value = setting(name)
        return _absolute(command, default if value is None else value)

    def port(name: str) -> t.Optional[int]:
        value = setting(name)
        return int(value) if value is not None and re.fullmatch(r"\d{1,5}", value) else None

    data_dir = folder("data-dir", DEFAULT_DATA_DIR)
    return Settings(
        data_dir=data_dir,
        bin_dir=folder("bin-dir", f"{data_dir}/bin"),
        config_file=config_file_of(command, environment),
        port=port("port"),
        worker_port=port("worker-port"),
    )


def _absolute(command: Command, path: str) -> str:
    """GPUStack uses os.path.abspath, so a relative path counts from the service's working directory."""
    return posixpath.normpath(posixpath.join(command.working_directory, path))


def _words(value: str) -> t.List[str]:
    return [word.text for word in split_words(value)[0]]


def _expand(word: str, unit_name: str) -> str:
    """The specifiers that name the unit itself; install.sh writes %N. The others would need the manager."""
    name = unit_name.rsplit(".", 1)[0]
    known = {"%%": "%", "%n": unit_name, "%N": name, "%p": name.partition("@")[0]}
    return re.sub(r"%[%nNp]", lambda match: known[match.group()], word)
