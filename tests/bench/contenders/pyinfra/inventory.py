# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of the bench, as pyinfra reads them. BENCH_REACH names the file that says how they are reached, BENCH_POLICY what is wanted."""

from __future__ import annotations

import json
import os
import pathlib

_reach = json.loads(pathlib.Path(os.environ["BENCH_REACH"]).read_text())["all"]
_shared = {
    "ssh_user": os.environ["BENCH_USER"],
    "ssh_key": _reach["vars"]["ansible_ssh_private_key_file"],
    "ssh_strict_host_key_checking": "off",
    "ssh_known_hosts_file": "/dev/null",
    "ssh_allow_agent": False,
    "ssh_look_for_keys": False,
    "_sudo": True,
    **json.loads(pathlib.Path(os.environ["BENCH_POLICY"]).read_text()),
}
gpustack = [(name, {"ssh_hostname": own["ansible_host"], **_shared}) for name, own in _reach["children"]["linux"]["hosts"].items()]
