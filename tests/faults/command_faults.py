# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands that never end, and launchctl with each of the exit codes with which it refuses."""

from __future__ import annotations

import hashlib
import json
import typing as t

import archives
from fault import Act, Fault, borne, refused, require, require_cure, require_sentence, require_unchanged
from faulty_node import RELEASE, FaultyNode

_PUT_BACK = r"; everything that was changed was put back"
_CODES = (5, 36, 37, 119)
# A job that launchd does not start by itself, so that kickstart is needed.
_DESKTOP = ("--kind", "desktop")
# Of systemctl in /usr/bin; what is asked with one of the words never ends.
_HANGING_SYSTEMCTL = """mv /usr/bin/systemctl /usr/bin/systemctl.real
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
case " $* " in *" {word} "*) exec sleep 1000;; esac
exec /usr/bin/systemctl.real "$@"
END
chmod 755 /usr/bin/systemctl"""


def _knobs(node: FaultyNode, name: str, **content: t.Any) -> None:
    node.write(f"/.sim/{name}.json", json.dumps(content))


def _hang(program: str, *words: str) -> Act:
    return lambda node: _knobs(node, "hang", **{program: list(words)})


def _go_on(node: FaultyNode) -> None:
    node.sh("rm -f /.sim/hang.json")


def _hang_systemctl(word: str) -> Act:
    return lambda node: t.cast(None, node.sh(_HANGING_SYSTEMCTL.format(word=word)))


def _systemctl_again(node: FaultyNode) -> None:
    node.sh("mv /usr/bin/systemctl.real /usr/bin/systemctl")


def _return(command: str, *codes: int) -> Act:
    """Desktop's service starts at a kickstart only; what the others do with these knobs makes no difference."""
    return lambda node: _knobs(node, "launchd", return_codes={command: list(codes)}, keep_alive_starts_at_load=False)


def _return_as_ever(node: FaultyNode) -> None:
    _knobs(node, "launchd", keep_alive_starts_at_load=False)


def _hanging_program(node: FaultyNode) -> None:
    """The archive is what the lock says, and its program does not answer."""
    content = archives.pack({archives.PROGRAM: b"#!/bin/sh\nexec sleep 1000\n"})
    (build,) = node.lock["releases"][RELEASE]
    name = archives.archive_name(build)
    node.sh(f"mkdir -p /tmp/hanging/{RELEASE} && cat >/tmp/hanging/{RELEASE}/{name}", content)
    files = {archives.PROGRAM: hashlib.sha256(b"#!/bin/sh\nexec sleep 1000\n").hexdigest()}
    bad = {**node.release, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content), "files": files}
    lock = {"format": 1, "releases": {RELEASE: {build: bad}}}
    before = node.look()
    run = node.run(llama_box={"folder": "/tmp/hanging", "lock": lock})
    require(run.failed, f"the run did not fail: {run.result}")
    require_sentence(run, ("llama-box --version did not end within 30 seconds and was killed; check the version",))
    require_unchanged(node.look(), before)
    require_cure(node)


def _codes() -> t.Iterator[Fault]:
    """What a run has to make of each code, once, of each command."""
    said = r"launchctl {} system\S*( \S+)? failed: rc {}: "
    for code in _CODES:
        # 36: launchd is at it, and comes to an end. The others have not taken the job away, so it still runs.
        gone_on = borne(_return("bootout", code), _return_as_ever)
        kept = refused(
            _return("bootout", code), _return_as_ever, "the service was not restarted: " + said.format("bootout", code), _PUT_BACK
        )
        yield Fault(f"bootout_{code}", "mac", gone_on if code == 36 else kept, some=code == 5)
        # 5 and 37: the old job is still there, which passes. 119: somebody has disabled it meanwhile.
        disabled = refused(
            _return("bootstrap", code), _return_as_ever, "is disabled, .* run `launchctl enable system/ai.gpustack` first", _PUT_BACK
        )
        yield Fault(f"bootstrap_{code}", "mac", disabled if code == 119 else borne(_return("bootstrap", code), _return_as_ever))
        sealed = {"llama_box": {"sealed": True}}
        failed = refused(_return("kickstart", code), _return_as_ever, said.format("kickstart", code), _PUT_BACK, options=sealed)
        started = borne(_return("kickstart", code), _return_as_ever, options=sealed)
        yield Fault(f"kickstart_{code}", "mac", started if code == 36 else failed, _DESKTOP)


FAULTS = (
    *_codes(),
    Fault("bootstrap_5_37_5", "mac", borne(_return("bootstrap", 5, 37, 5), _return_as_ever)),
    # For as long as it is tried, and when everything was put back as well: the service is down, and the next run brings it up.
    Fault(
        "bootstrap_37_for_ever",
        "mac",
        refused(
            _return("bootstrap", *[37] * 1000),
            _return_as_ever,
            "launchctl bootstrap system .* failed: rc 37: ",
            "but the service did not come back",
            limit_seconds=400,
            is_down=True,
        ),
    ),
    Fault(
        "launchctl_hangs",
        "mac",
        refused(
            _hang("launchctl"),
            _go_on,
            "launchctl .* did not end within 20 seconds and was killed",
            "nothing was changed",
            limit_seconds=400,
        ),
    ),
    Fault(
        "bootout_hangs",
        "mac",
        refused(_hang("launchctl", "bootout"), _go_on, "launchctl bootout .* did not end within 65 seconds", _PUT_BACK, limit_seconds=300),
    ),
    Fault(
        "bootstrap_hangs",
        "mac",
        refused(
            _hang("launchctl", "bootstrap"),
            _go_on,
            "launchctl bootstrap .* did not end within 20 seconds",
            "but the service did not come back",
            limit_seconds=300,
            is_down=True,
        ),
    ),
    Fault("llama_box_hangs", "linux", _hanging_program),
    Fault("system_profiler_hangs", "mac", borne(_hang("system_profiler"), _go_on, limit_seconds=300)),
    Fault("sysctl_hangs", "mac", refused(_hang("sysctl"), _go_on, "sysctl .* did not end within .* seconds", limit_seconds=400)),
    # What only ps tells (ages, RPC servers) is unknown then, and nothing depends on it alone.
    Fault("ps_hangs", "mac", borne(_hang("ps"), _go_on, limit_seconds=900)),
    Fault(
        "systemctl_hangs",
        "linux",
        refused(
            _hang_systemctl("show"),
            _systemctl_again,
            "systemctl .*show .* did not end within 30 seconds",
            "nothing was changed",
            limit_seconds=400,
        ),
    ),
    Fault(
        "daemon_reload_hangs",
        "linux",
        refused(
            _hang_systemctl("daemon-reload"), _systemctl_again, "daemon-reload did not end within 120 seconds", _PUT_BACK, limit_seconds=400
        ),
    ),
)
