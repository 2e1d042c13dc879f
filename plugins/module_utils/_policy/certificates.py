# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What to say of a server's certificate that is not accepted."""

from __future__ import annotations

_WRONG_NAME = "use the name that the certificate is for, or correct the server's certificate"
# By OpenSSL's numbers (x509_vfy.h). A CA of one's own mends none of these.
_ADVICE = {
    # X509_V_ERR_CERT_NOT_YET_VALID
    9: "look at the clock of the host that asked",
    # X509_V_ERR_CERT_HAS_EXPIRED
    10: "renew the server's certificate, or look at the clock of the host that asked",
    # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
    62: _WRONG_NAME,
    64: _WRONG_NAME,
}


def refusal(code: int, words: str) -> str:
    """Why it is not accepted, and what to do. code, words: what OpenSSL says of it."""
    advice = _ADVICE.get(code, "name the certificate of its CA in ca_path")
    return f"the server's certificate is not accepted ({words.rstrip('.')}); {advice}"
