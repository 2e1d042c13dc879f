# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that talks to GPUStack's server; their specification is OPTIONS in _server/connection.py."""

    DOCUMENTATION = r"""
options:
  server_url:
    description:
      - Where GPUStack's server is, without the path of an API. It has to be GPUStack 0.6 or 0.7.
      - If it is not given, the environment variable E(GPUSTACK_SERVER_URL) is used, of where the task runs.
      - No redirect is followed, so that credentials go to this address only.
    type: str
    required: true
  username:
    description:
      - User of GPUStack, with the rights of an admin. The server takes only ASCII here and in O(password).
    type: str
  password:
    description:
      - Password of O(username).
    type: str
  api_key:
    description:
      - API key of GPUStack, of a user with the rights of an admin, in place of O(username) and O(password).
      - If it is not given, the environment variable E(GPUSTACK_API_KEY) is used, of where the task runs. O(username) outranks
        the variable.
    type: str
  ca_path:
    description:
      - A file with the certificates, in PEM, to trust instead of the system's, on the host where the task runs.
    type: path
  validate_certs:
    description:
      - Whether the server's certificate has to be valid. Without that, whoever is in between gets the password.
    type: bool
    default: true
  use_proxy:
    description:
      - Whether the proxy of the environment (C(https_proxy), C(no_proxy)) is used.
    type: bool
    default: true
  timeout_seconds:
    description:
      - How long the server may take for one answer, in seconds.
    type: int
    default: 30
  retries:
    description:
      - How often a request that only reads is repeated if the server does not answer, or a proxy says that it does not
        (status 502, 503, 504). The pauses are 1, 2, 4, 8 and 16 seconds, then 30, or up to 30 if the server asks for it.
      - A request that changes something is never repeated.
    type: int
    default: 5
notes:
  - Run it where the server can be reached, for instance once on the controller with C(delegate_to=localhost).
  - If the server refuses something, its exact answer is returned as RV(ignore:api_answer) from C(-vvv) on, without secrets.
"""
