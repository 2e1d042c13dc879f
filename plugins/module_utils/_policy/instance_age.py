# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which instances run with parameters that their model no longer has: GPUStack reads them once, when an instance starts.

Nothing in the server's lists says what an instance was started with, and times alone prove nothing: the server writes to a model
also when an instance begins to run (ready_replicas, meta), and to an instance also when its worker was away for a moment. So
* the change of a model carries a mark, in the same PUT: the names of the instances that were there, each with its process. A name
  is random and never comes back (server/controllers.py, sync_replicas), and a worker that starts an instance of this name again does
  so as another process (worker/serve_manager.py). So the mark proves what is old after whatever happened since, the death of the
  run that made the change among it, also where no command line shows the change: env, selectors. It is a variable in the model's
  env, which nobody else reads;
* a change that somebody else made shows as a time of the model that no instance of its own explains. That is a suspicion, and the
  proof is the command line that llama-box writes to its log when it starts. It is asked for of suspects only.
"""

from __future__ import annotations

import datetime
import pathlib
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model

MARK = "METALFLEET_INSTANCES_BEFORE"

# The server follows an instance with its model within a second or two: it asks the instance for its meta first.
_FOLLOWS_SECONDS = 10.0
# llama-box's own line (main.cpp), and the one of GPUStack's debug log (worker/backends/llama_box.py). Either path may have spaces,
# and none is longer than Linux lets it be.
_COMMAND_LINE = re.compile(r"(?:\barguments +: .*?|\bRun llama-box: .{1,4096}? with arguments:)((?: --.*)?)$", re.MULTILINE)
# What GPUStack itself writes before a model's parameters, the same in 0.6.0 to 0.7.1 (worker/backends/llama_box.py).
_BEFORE_PARAMETERS = (
    r"(?:(?! --no-warmup).)* --no-warmup(?: --rerank)?(?: --images --image-vae-tiling --tensor-split 1)?"
    r"(?: --mmproj (?:(?! --).)+\.gguf(?: --max-projected-cache 10)?)?(?: --rpc \S+)?(?: --tensor-split [\d,]+)?"
)
# Differs between workers (worker/backends/base.py, get_model).
_DATA_DIR = "{data_dir}"
_ANY_PATH = r"(?:(?! --).)*"
_MMPROJ = "--mmproj"


def marked(env: t.Mapping[str, str], instances: t.Iterable[Instance]) -> t.Dict[str, str]:
    """An env with the mark of these instances, in place of a mark that it has. One that no process runs yet will read it anyhow."""
    names = sorted(_process(instance) for instance in instances if instance.pid is not None)
    others = unmarked(env)
    return {**others, MARK: " ".join(names)} if names else others


def unmarked(env: t.Mapping[str, str]) -> t.Dict[str, str]:
    """An env without the mark."""
    return {name: value for name, value in env.items() if name != MARK}


def _process(instance: Instance) -> str:
    """The random end of an instance's name, which has no space, unlike that of a model, and the process that serves it."""
    return f"{str(instance.name).rpartition('-')[2]}:{instance.pid}"


def is_marked(model: Model, instance: Instance) -> bool:
    """Whether an instance runs since before the collection changed the parameters of its model last."""
    mark = (model.env or {}).get(MARK)
    return mark is not None and _process(instance) in mark.split()


def suspects(model: Model, instances: t.Sequence[Instance]) -> t.List[Instance]:
    """The instances that may run with other parameters than the model has now."""
    # No other backend tells what it was started with.
    unexplained = model.uses_llama_box and _changed_since(model, instances)
    return [instance for instance in instances if instance.worker_id is not None and (unexplained or is_marked(model, instance))]


def _changed_since(model: Model, instances: t.Sequence[Instance]) -> bool:
    """Whether the model was written to at a time that no event of its instances explains."""
    changed = _seconds(model.updated_at)
    events = [_seconds(text) for instance in instances for text in (instance.updated_at, instance.created_at)]
    known = [event for event in events if event is not None]
    if changed is None or not known:
        return False
    return changed > max(known) + _FOLLOWS_SECONDS


def _seconds(text: t.Optional[str]) -> t.Optional[float]:
    """A time of the API, 2026-11-22T11:25:14Z, in seconds."""
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def command_line(log: str) -> t.Optional[t.List[str]]:
    """The arguments that llama-box was started with, from the beginning of its log; None where it does not say (yet).

    GPUStack makes the log anew at each start (worker/serve_manager.py), so that it is the first such line.
    """
    found = _COMMAND_LINE.search(log)
    return found.group(1).split() if found else None


def runs_with(arguments: t.Sequence[str], model: Model) -> bool:
    """Whether these are the arguments that the model's parameters give now, all of them and no others."""
    line = "".join(f" {argument}" for argument in arguments)
    return re.fullmatch(_BEFORE_PARAMETERS + _pattern(model.backend_parameters or ()), line) is not None


def _pattern(parameters: t.Iterable[str]) -> str:
    """What GPUStack makes of parameters: each is cut at its first "=" (worker/backends/llama_box.py)."""
    cuts = [parameter.partition("=") for parameter in parameters]
    arguments = [argument for name, equals, value in cuts for argument in ((name, value) if equals else (name,))]
    pattern = ""
    for index, argument in enumerate(arguments):
        text = argument
        if arguments[:index][-1:] == [_MMPROJ] and not argument.startswith("/"):
            # It is put behind the folder of the model's file, which differs between workers, too (normalize_mmproj_path).
            text = f"{_DATA_DIR}/{pathlib.PurePosixPath(argument)}"
        # In a log, a value with spaces looks like several.
        pattern += "".join(" " + _ANY_PATH.join(map(re.escape, word.split(_DATA_DIR))) for word in text.split())
    return pattern
