# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.doc_fragments.server import ModuleDocFragment
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import (
    OPTIONS,
    REQUIRED_TOGETHER,
    Connection,
    connection,
)
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import make_certificates

URL = "https://gpustack.example.com"
KEY = "gpustack_0123_4567"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("GPUSTACK_SERVER_URL", "GPUSTACK_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def validated(**options: t.Any) -> t.Any:
    return ArgumentSpecValidator(OPTIONS, required_together=REQUIRED_TOGETHER).validate(options)


def params(**options: t.Any) -> dict[str, t.Any]:
    """Options as a module gets them."""
    result = validated(**{"server_url": URL, **options})
    assert result.error_messages == []
    return dict(result.validated_parameters)


def refusal(**options: t.Any) -> str:
    with pytest.raises(BadInputError) as caught:
        connection(params(**options))
    return str(caught.value)


def test_defaults():
    assert connection(params()) == Connection(
        server_url=URL,
        username=None,
        password=None,
        api_key=None,
        ca_path=None,
        validate_certs=True,
        use_proxy=True,
        timeout_seconds=30,
        retries=5,
    )
    assert Connection(URL) == connection(params())


def test_options():
    made = connection(params(username="admin", password="pw", validate_certs=False, use_proxy=False, timeout_seconds=1, retries=0))
    assert (made.username, made.password, made.validate_certs, made.use_proxy) == ("admin", "pw", False, False)
    assert (made.timeout_seconds, made.retries) == (1, 0)
    assert connection(params(api_key=KEY)).api_key == KEY


def test_the_documentation_says_what_the_specification_says():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert list(documented) == list(OPTIONS)
    for name, option in OPTIONS.items():
        assert {key: documented[name].get(key) for key in ("type", "default", "required")} == {
            key: option.get(key) for key in ("type", "default", "required")
        }


def test_secrets_are_not_logged():
    assert {name for name, option in OPTIONS.items() if option.get("no_log")} == {"password", "api_key"}


def test_the_environment(monkeypatch):
    assert "missing required arguments: server_url" in validated().error_messages
    monkeypatch.setenv("GPUSTACK_SERVER_URL", "http://other")
    monkeypatch.setenv("GPUSTACK_API_KEY", KEY)
    result = validated()
    assert result.error_messages == []
    made = connection(result.validated_parameters)
    assert (made.server_url, made.api_key) == ("http://other", KEY)
    assert connection(params(server_url=URL, api_key="other")).api_key == "other"


def test_a_user_outranks_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("GPUSTACK_API_KEY", KEY)
    made = connection(params(username="admin", password="pw"))
    assert (made.username, made.api_key, made.authorization()) == ("admin", None, "Basic YWRtaW46cHc=")


@pytest.mark.parametrize("environment", [None, "another"])
def test_a_user_and_a_key_are_one_too_many(monkeypatch, environment):
    if environment is not None:
        monkeypatch.setenv("GPUSTACK_API_KEY", environment)
    message = "username and api_key are both given, and the server takes one of them; leave the other out"
    assert refusal(username="admin", password="pw", api_key=KEY) == message


@pytest.mark.parametrize("options", [{"username": "admin"}, {"password": "pw"}])
def test_a_user_has_a_password(options):
    assert validated(server_url=URL, **options).error_messages == [
        "parameters are required together: username, password",
    ]


def test_empty_options_are_none():
    made = connection(params(username="", password="", api_key=""))
    assert (made.username, made.password, made.api_key, made.authorization(), made.secrets()) == (None, None, None, None, ())


@pytest.mark.parametrize(("name", "least"), [("timeout_seconds", 1), ("retries", 0)])
def test_the_least(name, least):
    assert getattr(connection(params(**{name: least})), name) == least
    assert refusal(**{name: least - 1}) == f"{name}: {least - 1} is too small; the least is {least}"


@pytest.mark.parametrize("options", [{"username": "ü", "password": "pw"}, {"username": "admin", "password": "gehäim"}])
def test_basic_authentication_is_ascii(options):
    message = refusal(**options)
    assert message == (
        "username, password: GPUStack takes only ASCII in Basic authentication; change the password, or make an API key and use api_key"
    )


def test_a_user_without_colon():
    message = refusal(username="a:b", password="pw")
    assert message == "username: a colon cannot be in it, since Basic authentication ends it there; use api_key"
    assert connection(params(username="a", password="b:c")).authorization() == "Basic YTpiOmM="


@pytest.mark.parametrize("key", ["geheim\n", "ge heim", "gehäim", "geheim\x7f"])
def test_a_key_that_is_none(key):
    message = refusal(api_key=key)
    assert message == "api_key: a character is in it that no API key has, perhaps a line feed at its end; copy the key again"


@pytest.mark.parametrize(
    ("url", "made"), [("http://h:80", "http://h:80"), ("https://h/gpustack//", "https://h/gpustack"), ("https://h/v12", "https://h/v12")]
)
def test_urls(url, made):
    assert connection(params(server_url=url)).server_url == made


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gpustack.example.com", "gpustack.example.com does not begin with https:// or http://"),
        ("https://u:geheim@h", "https://h holds a user or a password, which have options of their own"),
        ("https://h?a=geheim", "https://h holds a query or a fragment, after which no path can follow"),
        ("https://h#a", "https://h holds a query or a fragment, after which no path can follow"),
        ("https://h/v1", "https://h/v1 ends in the path of one API; leave that out"),
        ("https://h/x/v1-openai/", "https://h/x/v1-openai/ ends in the path of one API; leave that out"),
        ("https://h\n", "https://h holds a character that no URL may have"),
    ],
)
def test_what_is_no_url(url, message):
    assert refusal(server_url=url) == f"server_url: {message}; write it like https://gpustack.example.com"


def test_certificates(tmp_path):
    make_certificates(tmp_path)
    assert connection(params(ca_path=str(tmp_path / "ca.pem"))).ca_path == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates(tmp_path, content):
    path = tmp_path / "ca.pem"
    path.write_text(content)
    assert refusal(ca_path=str(path)) == f"ca_path: {path} is no file of certificates in PEM; put one there"


def test_no_file(tmp_path):
    message = refusal(ca_path=str(tmp_path / "none"))
    assert (
        message == f"ca_path: {tmp_path}/none cannot be read where this task runs (No such file or directory); put the certificates there"
    )


def test_what_authorizes_and_what_is_secret():
    user = Connection(URL, username="admin", password="pw")
    assert (user.authorization(), user.secrets()) == ("Basic YWRtaW46cHc=", ("pw", "YWRtaW46cHc="))
    key = Connection(URL, api_key=KEY)
    assert (key.authorization(), key.secrets()) == (f"Bearer {KEY}", (KEY,))
    assert Connection(URL, username="a").authorization() == "Basic YTo="
    for made in (user, key):
        assert not any(secret in repr(made) for secret in made.secrets())
