# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.certificates import refusal

WRONG_NAME = "use the name that the certificate is for, or correct the server's certificate"


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (9, "certificate is not yet valid", "look at the clock of the host that asked"),
        (10, "certificate has expired", "renew the server's certificate, or look at the clock of the host that asked"),
        (62, "Hostname mismatch, certificate is not valid for 'a'.", WRONG_NAME),
        (64, "IP address mismatch, certificate is not valid for '::1'.", WRONG_NAME),
        (19, "self-signed certificate in certificate chain", "name the certificate of its CA in ca_path"),
        (20, "unable to get local issuer certificate", "name the certificate of its CA in ca_path"),
    ],
)
def test_each_refusal_has_its_own_advice(code, words, says):
    assert refusal(code, words) == f"the server's certificate is not accepted ({words.rstrip('.')}); {says}"
