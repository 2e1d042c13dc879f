# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options that model and models share; their specification is RUN_OPTIONS in _server/model_options.py."""

    DOCUMENTATION = r"""
options:
  strict:
    description:
      - Whether an override that is a risk is an error.
    type: bool
    default: false
  can_upgrade_llama_box:
    description:
      - Whether the fleet may get a newer llama-box than it has. Where it may not, a large model on llama-box v0.0.135 or older gets mmap
        and mlock as a workaround, and is reported as a risk.
    type: bool
    default: true
  spread_on_060:
    description:
      - Whether a model that fits on no single Mac gets a C(gpu_selector) over enough of them, on a server of GPUStack 0.6.0, which by
        itself puts it on one (gpustack#1907). A model that has a selector keeps it.
      - The estimator of 0.6.0 cannot be told that a model is not mapped. What the main worker claims stays too small, which is reported.
    type: bool
    default: false
  lock:
    description:
      - The content of the lock file that the playbook C(metalfleet.gpustack.lock) writes. With it, a model may ask for no
        C(backend_version) that is not in it.
    type: dict
  restart:
    description:
      - What happens to running instances whose model has new parameters. GPUStack reads them when an instance starts, so that each such
        instance has to be ended and started anew. B(That stops it.)
      - With V(one_by_one) an instance is ended when the one before is running again, and a model is begun when the one before is done.
        With V(together) all of them are at once.
      - With V(never) the parameters are written and the instances go on as they are. They are reported as RV(models[].restart_pending)
        until a run restarts them.
    type: str
    choices: [one_by_one, together, never]
    default: one_by_one
  wait:
    description:
      - Whether to wait until the instances run. If they do not, the previous parameters are put back and their instances started anew,
        provided that the model ran before.
      - Without it, O(restart=one_by_one) is the same as V(together).
    type: bool
    default: true
  wait_timeout_seconds:
    description:
      - How long one wait may take, in seconds. Loading a large model takes minutes, fetching it hours.
    type: int
    default: 1800
"""
