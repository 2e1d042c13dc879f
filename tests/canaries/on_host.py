# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a disposable host, by `python3 - ACTION`. What it is given stands in its text: it must be in no command line.

plant  Put secrets of others where a node has them: see plant().
user   Let the user fleet need a password for sudo.
state  Print path, mode and owner of what the collection keeps.
dump   Print what the journal holds.
"""

from __future__ import annotations

import json
import os
import pathlib
import plistlib
import re
import stat
import subprocess
import sys

FILE = pathlib.Path("/etc/default/gpustack")
PLIST = pathlib.Path("/Library/LaunchDaemons/ai.gpustack.plist")
UNIT = pathlib.Path("/etc/systemd/system/gpustack.service")
CONFIG = pathlib.Path("/etc/gpustack-config.yaml")
VARIABLE = "GGML_METAL_NO_RESIDENCY"
# JSON in hex, put in by who sends this.
GIVEN = "@GIVEN@"
STATE = (pathlib.Path("/var/db/metalfleet"), pathlib.Path("/var/lib/metalfleet"))


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=60)


def plant(value: dict[str, str]) -> None:
    """The environment file in several spellings, property list or unit, configuration, and the service manager."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(
        f"# the password was {value['file_comment']}\n"
        f'PLAIN={value["file_plain"]}\nexport EXPORTED={value["file_export"]}\nQUOTED="{value["file_quoted"]} x"\n'
        f"SINGLE='{value['file_single']}'\n{VARIABLE}=1\n"
    )
    FILE.chmod(0o644)
    CONFIG.write_text(f"token: {value['config']}\ndebug: false\n")
    CONFIG.chmod(0o600)
    if PLIST.exists():
        content = plistlib.loads(PLIST.read_bytes())
        content["EnvironmentVariables"] = {"FOREIGN": value["plist"], VARIABLE: "1"}
        content["ProgramArguments"] += ["--token", value["argument"], f"--config-file={CONFIG}"]
        PLIST.write_bytes(plistlib.dumps(content))
        run("launchctl", "setenv", "OTHER", value["manager"])
        run("launchctl", "setenv", VARIABLE, value["residency"])
        subprocess.run(["launchctl", "bootout", "system/ai.gpustack"], check=False, timeout=60, capture_output=True)
        while subprocess.run(["launchctl", "bootstrap", "system", str(PLIST)], check=False, timeout=60, capture_output=True).returncode:
            continue
        # What we have told launchctl ourselves is no finding.
        pathlib.Path("/.sim/calls.jsonl").write_text("")
    else:
        text = UNIT.read_text()
        text = re.sub(r"^(ExecStart=.*)$", rf"\1 --token {value['argument']} --config-file={CONFIG}", text, flags=re.MULTILINE)
        UNIT.write_text(text.replace("[Service]\n", f"[Service]\nEnvironment=FOREIGN={value['unit']}\n"))
        drop_in = UNIT.with_name("gpustack.service.d") / "ours.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(f'[Service]\nEnvironment="FOREIGN_TOO={value["drop_in"]}" {VARIABLE}=1\n')
        run("systemctl", "set-environment", f"OTHER={value['manager']}", f"{VARIABLE}={value['residency']}")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "gpustack")


def user(value: dict[str, str]) -> None:
    """sudo with a password. value: hash."""
    shadow = pathlib.Path("/etc/shadow")
    shadow.write_text(re.sub(r"^fleet:[^:]*:", lambda _match: f"fleet:{value['hash']}:", shadow.read_text(), flags=re.MULTILINE))
    pathlib.Path("/etc/sudoers.d/fleet").write_text("fleet ALL=(ALL) ALL\n")


def state(_value: dict[str, str]) -> None:
    """Everything below our folder."""
    found = {}
    for top in STATE:
        for path in [top, *top.rglob("*")] if top.exists() else []:
            status = path.lstat()
            found[str(path)] = [stat.S_IMODE(status.st_mode), status.st_uid]
    found[str(FILE)] = [stat.S_IMODE(FILE.lstat().st_mode), FILE.lstat().st_uid]
    print(json.dumps(found))


def dump(_value: dict[str, str]) -> None:
    """The journal, uncompressed; a Mac has none."""
    if os.path.exists("/usr/bin/journalctl"):
        run("journalctl", "--no-pager", "-o", "export")


if __name__ == "__main__":
    {"plant": plant, "user": user, "state": state, "dump": dump}[sys.argv[1]](json.loads(bytes.fromhex(GIVEN)))
