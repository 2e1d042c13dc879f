# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Carrying out what was planned for the models of a server: change, restart what runs with old parameters, wait, undo."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import marked
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_plan import (
    CREATE,
    DELETE,
    NOTHING,
    START_FIELDS,
    UPDATE,
    cures,
    plan_model,
    previous_fields,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import (
    ANALYZING,
    INITIALIZING,
    PENDING,
    RUNNING,
    SCHEDULED,
    STARTING,
    Instance,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model, put_differences
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import ServerError, UnreachableError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_survey import Survey, Task
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_wait import NotRunningError, Waiter

ONE_BY_ONE = "one_by_one"
TOGETHER = "together"
NEVER = "never"

# Soon to run, as far as can be seen. What fetches its files may take hours.
_ARRIVING = (ANALYZING, SCHEDULED, INITIALIZING, STARTING)


@dataclasses.dataclass(frozen=True)
class Options:
    """restart: one_by_one, together or never. wait: whether to wait until instances run."""

    restart: str = ONE_BY_ONE
    wait: bool = True


@dataclasses.dataclass
class Job:
    """A model on its way. model: as it is now. stale: instances to be ended, of which restarted are. before: how many ran.

    arriving: how many others were on their way to run. sent: the fields of an update, and previous what they were just before it.
    """

    task: Task
    model: Model
    before: int
    stale: t.List[Instance] = dataclasses.field(default_factory=list)
    restarted: t.List[str] = dataclasses.field(default_factory=list)
    changed: bool = False
    arriving: int = 0
    sent: t.Dict[str, t.Any] = dataclasses.field(default_factory=dict, repr=False)
    previous: t.Dict[str, t.Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def pending(self) -> t.List[str]:
        """The instances that go on with old parameters."""
        return sorted(str(instance.name) for instance in self.stale if instance.name not in self.restarted)

    @property
    def restarts(self) -> bool:
        """Whether what was sent reaches instances only when they start."""
        return bool(START_FIELDS & set(self.sent))


def has_work(task: Task) -> bool:
    """Whether something is to be done about a model."""
    return task.plan.action != NOTHING or bool(task.old)


def _is_running(instance: Instance) -> bool:
    return instance.state == RUNNING


def _is_arriving(instance: Instance) -> bool:
    return instance.state in _ARRIVING or (instance.state == PENDING and not instance.state_message)


class Run:
    """One run over the models of a server. jobs: those that were begun, in order."""

    def __init__(self, client: Client, survey: Survey, options: Options, waiter: Waiter, say: t.Callable[[str], None]) -> None:
        self._client = client
        self._survey = survey
        self._options = options
        self._waiter = waiter
        self._say = say
        self.jobs: t.List[Job] = []

    def carry_out(self) -> None:
        """Do everything. Raises GpustackError at the first model that does not work afterwards; that model is as it was then.

        With restart one_by_one the models after it are not touched; with together those that were begun are finished.
        """
        tasks = [task for task in self._survey.tasks if has_work(task)]
        if self._options.restart == TOGETHER or not self._options.wait:
            self._together(tasks)
            return
        for task in tasks:
            job = self._begin(task)
            self._one_by_one(job)
            self._finish(job)

    def _together(self, tasks: t.Sequence[Task]) -> None:
        jobs: t.List[Job] = []
        failures: t.List[GpustackError] = []
        try:
            for task in tasks:
                jobs.append(self._begin(task))
        except GpustackError as exc:
            failures.append(exc)
        for do in (lambda job: self._end(job, job.stale), self._finish):
            for job in list(jobs):
                if any(isinstance(exc, UnreachableError) for exc in failures):
                    break
                try:
                    do(job)
                except GpustackError as exc:
                    failures.append(exc)
                    jobs.remove(job)
        if len(failures) > 1:
            raise ServerError("; ".join(map(str, failures))) from failures[0]
        if failures:
            raise failures[0]

    def _begin(self, task: Task) -> Job:
        """Write what is wanted to the server."""
        job = Job(task, task.model or Model(name=task.plan.name), before=sum(map(_is_running, task.instances)))
        self.jobs.append(job)
        try:
            self._write(job)
        except GpustackError as exc:
            job.changed = isinstance(exc, ServerError) and exc.unsure
            if not job.changed:
                job.stale = list(task.old)
            raise
        job.stale = job.stale or list(task.old)
        job.arriving = sum(_is_arriving(one) for one in task.instances if one.name not in {old.name for old in job.stale})
        return job

    def _write(self, job: Job) -> None:
        plan, task = job.task.plan, job.task
        if plan.action == CREATE:
            job.model = api.create_model(self._client, plan.fields)
            job.changed = True
            self._say(f"{plan.name}: created")
        elif plan.action == DELETE:
            api.delete_model(self._client, job.model)
            job.changed = True
            self._say(f"{plan.name}: deleted, with its instances ({len(task.instances)})")
        elif plan.action == UPDATE:
            present = self._instances(job)
            job.model = api.change_model(self._client, _id_of(task.model), lambda now: self._changes(job, now, present))
            job.changed = bool(job.sent)
            if job.sent:
                self._say(f"{plan.name}: " + "; ".join([f"changed ({', '.join(sorted(job.sent))})", *cures(job.previous, job.sent)]))

    def _instances(self, job: Job) -> t.List[Instance]:
        # They keep the name that their model had when they were made (server/controllers.py, sync_replicas).
        return list(api.read_instances(self._client, (), _id_of(job.model)))

    def _changes(self, job: Job, now: Model, present: t.List[Instance]) -> t.Dict[str, t.Any]:
        """The changes of a model as it is at this moment, with the mark of the instances that will be too old for it."""
        if now.name != job.task.plan.name:
            raise ServerError(
                f"the model {job.task.plan.name} was deleted or renamed since the server was read; find out by whom, then run again"
            )
        plan = plan_model(now, job.task.wanted, job.task.instances, self._survey.rules)
        fields = dict(plan.fields)
        if plan.restarts:
            job.stale = present
            env = marked(fields.get("env", now.env) or {}, present)
            if env != dict(now.env or {}):
                fields["env"] = env
        job.sent, job.previous = fields, previous_fields(now, fields)
        return fields

    def _end(self, job: Job, instances: t.Iterable[Instance]) -> None:
        """End instances, for each of which the server makes another one."""
        if self._options.restart == NEVER:
            return
        for instance in list(instances):
            self._say(f"{job.task.plan.name}: restarting {instance.name}, which stops it")
            if not api.delete_instance(self._client, instance):
                job.stale.remove(instance)
                continue
            job.restarted.append(str(instance.name))
            job.changed = True
            self._waiter.until_replaced(job.model, str(instance.name))

    def _one_by_one(self, job: Job) -> None:
        """End one instance after the other, each when all that were ended before are running again; what does not run comes last."""
        if self._options.restart == NEVER:
            return
        stale = {instance.name for instance in job.stale}
        others = job.arriving + sum(_is_running(one) for one in job.task.instances if one.name not in stale)
        for instance in sorted(job.stale, key=_is_running, reverse=True):
            # With fewer replicas than before, some have no successor.
            expected = min(len(job.restarted) + others, (job.model.replicas or 0) - len(job.pending))
            if _is_running(instance) and expected > 0:
                self._wait(job, expected)
            self._end(job, [instance])

    def _finish(self, job: Job) -> None:
        """Wait until the model is as it should be."""
        if not self._options.wait:
            return
        if job.task.plan.action == DELETE:
            self._waiter.until_gone(job.model)
            return
        # Others may have ended an instance before us.
        ended = job.restarts and self._options.restart != NEVER
        if (job.task.plan.action == CREATE or "replicas" in job.sent or job.restarted or ended) and self._expected(job):
            self._wait(job, self._expected(job))

    def _expected(self, job: Job) -> int:
        """How many new instances have to run: as many as ran before, all where that was none or their number was changed.

        What is not restarted goes on, and is none of the new ones.
        """
        replicas = job.model.replicas or 0
        if job.before and job.task.plan.action != CREATE and "replicas" not in job.sent:
            replicas = min(job.before + job.arriving, replicas)
        return max(0, replicas - len(job.pending))

    def _wait(self, job: Job, expected: int) -> None:
        old = {str(instance.name) for instance in job.stale}
        try:
            self._waiter.until_running(job.model, expected, old)
        except NotRunningError as exc:
            problem = f"the model {job.model.name} does not run: {exc}"
            try:
                done = self._undo(job, exc)
            except ServerError as second:
                raise NotRunningError(f"{problem}; and to put back what it was failed: {second}", answer=second.answer) from second
            raise NotRunningError(f"{problem}; {done}") from exc

    def _undo(self, job: Job, problem: NotRunningError) -> str:
        """Put back what the server had, if it was better; says what was done."""
        plan = job.task.plan
        if plan.action == CREATE:
            if problem.downloading:
                return (
                    "it was left as it is, since its files are still being fetched: run again later, or with a longer wait_timeout_seconds"
                )
            api.delete_model(self._client, job.model)
            return "it was deleted again, so that the server is as before"
        if not job.restarts and "replicas" not in job.sent:
            return "its parameters were not changed in this run"
        if not job.before:
            return "it did not run before either, so its new parameters were left"
        self._say(f"{plan.name}: its parameters are put back")
        young = [one for one in self._instances(job) if one.name not in job.pending] if job.restarts else []
        job.model = api.change_model(self._client, _id_of(job.model), lambda now: _previous(job, now, young))
        for instance in young:
            if api.delete_instance(self._client, instance):
                self._waiter.until_replaced(job.model, str(instance.name))
        try:
            self._waiter.until_running(job.model, max(0, job.before - len(job.pending)), job.pending)
        except NotRunningError as exc:
            return f"its parameters were put back, and it does not run with them either: {exc}"
        return "its parameters were put back, and it runs with them again"


def _previous(job: Job, now: Model, young: t.Sequence[Instance]) -> t.Dict[str, t.Any]:
    """What the fields that were sent had before, but for those that somebody has changed since; with the mark of the young instances."""
    kept = put_differences(job.sent, now.raw)
    fields = {field: value for field, value in job.previous.items() if field not in kept}
    if job.restarts:
        fields["env"] = marked(fields.get("env", now.env) or {}, young)
    return fields


def _id_of(model: t.Optional[Model]) -> int:
    if model is None or model.id is None:
        raise ServerError(f"GPUStack gave the model {model.name if model else ''} without an id; look for a proxy in between")
    return model.id
