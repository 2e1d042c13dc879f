# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is run: every module, role and playbook of the collection, in ways that succeed and in ways that fail."""

from __future__ import annotations

import typing as t

Task = t.Dict[str, t.Any]

RELEASE = "v0.0.139"
BUILDS = ("darwin-arm64-metal", "linux-amd64-avx2")
MIRROR_PORT = 8099
MIRROR = f"http://10.231.0.1:{MIRROR_PORT}"
NOWHERE = "http://127.0.0.1:9"
USER = "mirror"


def secret(name: str) -> str:
    """The template of a canary: what is typed into a task is shown by Ansible as it stands there."""
    return "{{ canary." + name + " }}"


def modules_play() -> t.List[t.Dict[str, t.Any]]:
    """Each module as a task, none of which ends the play."""
    return [
        # Not the strategy free, with which Ansible shows the options of a task as they are (display_args_to_stdout).
        {"hosts": "gpustack", "gather_facts": False, "become": True, "tasks": _ignoring(node_tasks())},
        {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": _ignoring(server_tasks())},
    ]


def leaking_play() -> t.List[t.Dict[str, t.Any]]:
    """Leaks one canary in every way that a run has, so that it is seen that each would be found."""
    shell = "echo '{{ canary.control }}' | base64 > /var/tmp/leak; rm /var/tmp/leak; echo {{ canary.control }} > /tmp/left"
    tasks = [
        {"ansible.builtin.debug": {"msg": secret("control")}},
        {"ansible.builtin.command": {"argv": ["/bin/echo", secret("control")]}, "environment": {"LEAK": secret("control")}},
        {"ansible.builtin.shell": shell},
        {"ansible.builtin.set_fact": {"leak": secret("control"), "cacheable": True}},
        {"ansible.builtin.command": {"argv": ["/bin/sh", "-c", "exit 0", secret("control")]}, "delegate_to": "localhost", "become": False},
    ]
    return [{"hosts": "gpustack", "gather_facts": False, "become": True, "tasks": tasks}]


def _ignoring(tasks: t.Iterable[Task]) -> t.List[Task]:
    return [{**task, "ignore_errors": True} for task in tasks]


def _tasks(module: str, *options: t.Dict[str, t.Any]) -> t.List[Task]:
    return [{f"metalfleet.gpustack.{module}": one} for one in options]


def node_tasks() -> t.List[Task]:
    """Of modules that run on nodes. The misspelled option is a failure that every module has."""
    misspelled = {"secret": {"HF_TOKEN": secret("misspelled")}}
    environment = {"secrets": {"HF_TOKEN": secret("secret")}, "variables": {"HF_ENDPOINT": "https://hub.example.com"}}
    llama_box = {"version": RELEASE, "lock": "{{ lock }}", "base_url": MIRROR, "url_username": USER, "retries": 0}
    quick = {"settle_seconds": 0}
    return [
        *_tasks("apple_silicon_facts", {}, misspelled),
        *_tasks("node_info", {}, misspelled),
        *_tasks("wired_limit", {"limit_mib": "auto"}, {"limit_mib": "lots"}, misspelled),
        *_tasks(
            "environment",
            {**environment, **quick},
            {"secrets": secret("text_as_json"), **quick},
            {"secrets": {"HF_TOKEN": secret("secret_refused")}, **quick},
            {"secrets": secret("text_of_no_kind"), **quick},
            {**environment, "mode": "0999", **quick},
            misspelled,
        ),
        *_tasks(
            "llama_box",
            {**llama_box, "url_password": secret("url_wrong"), **quick},
            {**llama_box, "base_url": MIRROR.replace("//", f"//{USER}:{secret('url_userinfo')}@"), **quick},
            {**llama_box, "base_url": MIRROR.replace("//", f"//{USER}:/{secret('url_slash')}@"), **quick},
            {**llama_box, "url_username": None, "url_token": secret("url_token"), **quick},
            {**llama_box, "url_password": secret("url_password"), **quick},
            misspelled,
        ),
        *_tasks(
            "node",
            {"environment": environment, "llama_box": {**llama_box, "url_password": secret("url_password")}, **quick},
            {"environment": {"secrets": {"HF_TOKEN": secret("secret_refused")}}, **quick},
            {"environment": misspelled, **quick},
            {"environment": [environment, "x"], **quick},
            {"environment": environment, "restart": "later"},
        ),
        *_tasks("rollback", quick, misspelled),
    ]


def server_tasks() -> t.List[Task]:
    """Of modules that talk to GPUStack's server."""
    misspelled = {"secret": {"HF_TOKEN": secret("misspelled")}}
    url = "{{ gpustack_server_url }}"
    by_password = {"server_url": url, "username": "admin", "password": secret("password")}
    by_key = {"server_url": url, "api_key": secret("api_key")}
    wrong = {"server_url": url, "username": "admin", "password": secret("password_wrong"), "retries": 0}
    unreachable = {"server_url": NOWHERE, "api_key": secret("api_key_wrong"), "retries": 0}
    in_url = {"server_url": f"http://admin:{secret('password_in_url')}@127.0.0.1:9", "retries": 0}
    new = {"source": "local_path", "local_path": "/models/new.gguf", "secret_env": {"HF_TOKEN": secret("model_env")}}
    found: t.List[Task] = []
    for module in ("model_info", "worker_info", "placement_info", "throughput"):
        found += _tasks(module, by_password, by_key, wrong, unreachable, in_url, {**by_key, **misspelled})
    found += _tasks(
        "model",
        {**by_key, "name": "new", **new},
        {**by_key, "name": "new", **new, "secret_env": {"HF_TOKEN": secret("model_env_other")}},
        {**by_key, "name": "refused", **new},
        {**by_key, "name": "text", **new, "secret_env": secret("text_as_json")},
        {**by_key, "name": "new", **new, "env": {"HF_TOKEN": "x"}},
        {**wrong, "name": "new", **new},
        {**unreachable, "name": "new", **new},
        {**by_key, "name": "new", **misspelled},
    )
    found += _tasks(
        "models",
        {**by_password, "models": [{"name": "new", **new}]},
        {**by_key, "models": ["new", {"name": "new", **new}]},
        {**by_key, "models": [{"name": "new", **new}, {"name": "refused", **new}]},
        {**by_key, "models": [{"name": "new", **misspelled}]},
        {**unreachable, "models": [{"name": "new", **new}]},
    )
    mirror = {"versions": [RELEASE], "builds": list(BUILDS), "base_url": MIRROR, "url_username": USER, "retries": 0}
    return found + _tasks(
        "llama_box_release_info",
        {**mirror, "url_password": secret("url_password")},
        {**mirror, "url_password": secret("url_wrong")},
        {**mirror, "base_url": MIRROR.replace("//", f"//{USER}:{secret('url_userinfo')}@")},
        misspelled,
    )
