# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GPUStack in memory, as it is to those who ask: over HTTP by FakeServer.answer, or without by MemoryTransport."""

from __future__ import annotations

import json
import typing as t
import urllib.parse

from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Answer, Clock
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import MemoryWorld
from ansible_collections.metalfleet.gpustack.tests.unit.model_bodies import InvalidError, fields_of
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import Reply, Seen
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json

PASSWORD = "Canary-Passw0rd"
API_KEY = "gpustack_0123456789abcdef_0123456789abcdef0123456789abcdef"


class MemoryGpustack(MemoryWorld):
    """before, after: called with each request before and after it is carried out; what they return is the answer in place of the real
    one, and what they raise the client gets. evaluation: what the scheduler says of a model to come. calls: all requests.
    """

    def __init__(self, version: str = "0.6.2", workers: t.Optional[t.Sequence[Json]] = None) -> None:
        super().__init__(version, workers)
        self.evaluation: t.Callable[[Json], Json] = lambda _spec: {"compatible": True, "resource_claim": {"ram": 1 << 26, "vram": 1 << 30}}
        self.before: t.Callable[[Seen], t.Any] = lambda _seen: None
        self.after: t.Callable[[Seen], t.Any] = lambda _seen: None
        self.calls: t.List[Seen] = []

    @property
    def writes(self) -> t.List[str]:
        """The requests that change something."""
        return [f"{seen.method} {seen.path}" for seen in self.calls if seen.method != "GET" and seen.path != "/v1/model-evaluations"]

    @property
    def asked(self) -> t.List[str]:
        return [f"{seen.method} {seen.path}" for seen in self.calls]

    def transport(self, connection: Connection, _clock: Clock) -> MemoryTransport:
        """In place of the class Transport of a client."""
        return MemoryTransport(self, connection)

    def answer(self, seen: Seen) -> Reply:
        """The answer to one request, as FakeServer wants it."""
        self.calls.append(seen)
        try:
            reply = self.before(seen) or self._route(seen)
        except InvalidError as exc:
            reply = Reply({"code": exc.status, "reason": exc.reason, "message": str(exc)}, exc.status)
        return self.after(seen) or reply

    def _route(self, seen: Seen) -> Reply:
        if seen.path == "/version":
            return Reply({"version": f"v{self.version}", "git_commit": "0123456"})
        self._authorize(seen.headers)
        kind, _slash, rest = seen.path[len("/v1/") :].partition("/")
        if kind == "model-evaluations":
            return Reply({"results": [self.evaluation(spec) for spec in seen.body["model_specs"]]})
        rows = {"workers": self.workers, "models": self.models, "model-instances": self.instances}.get(kind)
        if rows is None:
            return Reply({"detail": "Not Found"}, 404)
        if seen.method == "POST" and kind == "models":
            return Reply(self._create(seen.body))
        if not rest:
            return self._page(kind, rows, seen.query)
        return self._one(seen, kind, rows, *rest.split("/"))

    def _authorize(self, headers: t.Mapping[str, str]) -> None:
        allowed = (Connection("", username="admin", password=PASSWORD), Connection("", api_key=API_KEY))
        if headers.get("Authorization") not in [one.authorization() for one in allowed]:
            raise InvalidError(401, "Unauthorized", "Invalid authentication credentials")

    def _page(self, kind: str, rows: t.Dict[int, Json], query: t.Mapping[str, str]) -> Reply:
        if kind == "model-instances":
            self._tick()
        number, size = int(query["page"]), int(query["perPage"])
        if not (number >= 1 and 1 <= size <= 100):
            raise InvalidError(
                422, "Invalid", "1 validation errors:\n  {'type': 'less_than_equal', 'loc': ('query', 'perPage'), 'msg': 'no'}\n"
            )
        wanted = {key: int(value) for key, value in query.items() if key in ("model_id", "worker_id")}
        # paginated_by_query sorts by created_at, the newest first.
        items = [one for one in reversed(list(rows.values())) if all(one[key] == value for key, value in wanted.items())]
        pagination = {"page": number, "perPage": size, "total": len(items), "totalPage": -(-len(items) // size)}
        return Reply({"items": items[(number - 1) * size : number * size], "pagination": pagination})

    def _one(self, seen: Seen, kind: str, rows: t.Dict[int, Json], number: str, what: str = "") -> Reply:
        row = rows.get(int(number))
        if row is None:
            raise InvalidError(404, "NotFound", "Model not found" if kind == "models" else "Model instance not found")
        if what == "logs":
            return self._log(row)
        if seen.method == "DELETE":
            if kind == "models":
                self._delete_model(row)
            else:
                self._delete_instance(row)
            return Reply(None)
        if seen.method == "PUT" and kind == "models":
            fields = fields_of(seen.body, self.version, [one["name"] for one in self.workers.values()])
            self._write(row, fields)
            if not self.lazy:
                self._sync_replicas(row)
        return Reply(row)

    def _log(self, instance: Json) -> Reply:
        if instance["worker_id"] is None:
            raise InvalidError(404, "NotFound", "Model instance not assigned to a worker")
        log = self.logs.get(instance["name"], "")
        return log if isinstance(log, Reply) else Reply(log.encode(), content_type="text/plain; charset=utf-8")


class MemoryTransport:
    """The way to a server in memory, in place of _server/transport.py's."""

    def __init__(self, server: MemoryGpustack, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    def exchange(self, method: str, path: str, body: t.Any, timeout_seconds: float) -> Answer:
        parts = urllib.parse.urlsplit(path)
        authorization = self._connection.authorization()
        headers = {} if authorization is None else {"Authorization": authorization}
        sent = None if body is None else json.loads(json.dumps(body))
        reply = self._server.answer(Seen(method, parts.path, dict(urllib.parse.parse_qsl(parts.query)), headers, sent))
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        return Answer(reply.status, reply.content_type, content)

    def beginning(self, path: str, timeout_seconds: float, most_bytes: int, enough: t.Callable[[str], bool]) -> Answer:
        return self.exchange("GET", path, None, timeout_seconds)
