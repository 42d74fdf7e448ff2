"""Verifies leadrelay's webhooks. Python 3.8 or newer, no packages. Copy this file and change it as you like.

Flask:   verify("smarterbot", request.headers, request.get_data(), [KEY]) or abort(401)
Django:  verify("smarterbot", request.headers, request.body, [KEY])
FastAPI: verify("smarterbot", request.headers, await request.body(), [KEY])
"""

import base64
import hashlib
import hmac
import re
import time

# Dialects that sign the body alone: their headers, in lower case. Who has such a request can send it again for ever, so
# remember the X-Webhook-Ids that you have stored.
PLAIN_HEADERS = {
    "smartlook": "smartlook-signature-256",
    "smarterlaunch": "x-signature",
    "smartsurvey": "x-smartsurvey-signature",
}


def verify(dialect, headers, body, keys, tolerance=300, now=None):
    """Says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect signs
    the time, at most tolerance seconds ago or ahead. body is the bytes that came, not what a parser made of them. Raises
    ValueError where a key is empty: anybody can sign with that."""
    secrets = _secrets(dialect, keys)
    named = {name.lower(): value for name, value in headers.items()}
    now = int(time.time() if now is None else now)

    def fresh(t):
        return re.fullmatch("[0-9]{1,12}", t) is not None and abs(now - int(t)) <= tolerance

    if dialect == "smarterbot":
        parts = [part.strip() for part in named.get("x-webhook-signature", "").split(",")]
        times = [part[2:] for part in parts if part.startswith("t=")]
        given = [part[3:].lower() for part in parts if part.startswith("v1=")]
        if len(times) != 1 or not fresh(times[0]):
            return False
        return _matches(given, secrets, lambda secret: _hmac(secret, times[0] + ".", body).hex())

    if dialect == "standard-webhooks":
        id, t = named.get("webhook-id", ""), named.get("webhook-timestamp", "")
        given = [one[3:] for one in named.get("webhook-signature", "").split(" ") if one.startswith("v1,")]
        if not id or not fresh(t):
            return False
        before = id + "." + t + "."
        return _matches(given, secrets, lambda secret: base64.b64encode(_hmac(secret, before, body)).decode())

    given = [named.get(PLAIN_HEADERS[dialect], "").lower()]
    return _matches(given, secrets, lambda secret: _hmac(secret, "", body).hex())


def _secrets(dialect, keys):
    """The keys' bytes. An environment variable that is not set here is an empty key: it must not verify what anybody
    signed with an empty key, so it is an error."""
    if not keys:
        raise ValueError("no sign key is given")
    secrets = []
    for key in keys:
        if not isinstance(key, str) or not key.strip():
            raise ValueError("a sign key is empty")
        secret = key.encode()
        if dialect == "standard-webhooks":
            secret = base64.b64decode(key[len("whsec_"):] if key.startswith("whsec_") else key)
            if len(secret) < 24:
                raise ValueError("a sign key is empty or too short: it must be whsec_ and 24 bytes or more in base64")
        secrets.append(secret)
    return secrets


def _hmac(secret, before, body):
    return hmac.new(secret, before.encode() + body, hashlib.sha256).digest()


def _matches(given, secrets, sign):
    """Compares every signature with every key's, in constant time."""
    found = False
    for secret in secrets:
        want = sign(secret).encode()
        for signature in given:
            if hmac.compare_digest(signature.encode(errors="replace"), want):
                found = True
    return found
