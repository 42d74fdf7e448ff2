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

# How each dialect signs. Give a dialect of the operator's own as such a dict, with the words that the configuration has for
# it: form (hex, which is the default, base64, timed or standard-webhooks), header, prefix, and key, the form of its keys (hex,
# base64 or whsec). In the forms hex and base64 no time is signed: somebody who has such a request can send it again for
# ever, so remember the X-Webhook-Ids that you have stored.
DIALECTS = {
    "smarterbot": {"form": "timed", "header": "X-Webhook-Signature"},
    "smartlook": {"header": "Smartlook-Signature-256"},
    "smarterlaunch": {"header": "X-Signature"},
    "smartsurvey": {"header": "X-SmartSurvey-Signature"},
    "standard-webhooks": {"form": "standard-webhooks"},
}


def verify(dialect, headers, body, keys, tolerance=300, now=None):
    """Says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect signs
    the time, at most tolerance seconds ago or ahead. body is the bytes that came, not what a parser made of them. Raises
    ValueError where a key is empty: anybody can sign with that."""
    signature = _signature(dialect)
    secrets = _secrets(signature, keys)
    named = {name.lower(): value for name, value in headers.items()}
    now = int(time.time() if now is None else now)

    def fresh(t):
        return re.fullmatch("[0-9]{1,12}", t) is not None and abs(now - int(t)) <= tolerance

    if signature["form"] == "standard-webhooks":
        id, t = named.get("webhook-id", ""), named.get("webhook-timestamp", "")
        given = [one[3:] for one in named.get("webhook-signature", "").split(" ") if one.startswith("v1,")]
        if not id or not fresh(t):
            return False
        before = id + "." + t + "."
        return _matches(given, secrets, lambda secret: base64.b64encode(_hmac(secret, before, body)).decode())

    value = named.get(signature["header"].lower(), "")
    if signature["form"] == "timed":
        parts = [part.strip() for part in value.split(",")]
        times = [part[2:] for part in parts if part.startswith("t=")]
        given = [part[3:].lower() for part in parts if part.startswith("v1=")]
        if len(times) != 1 or not fresh(times[0]):
            return False
        return _matches(given, secrets, lambda secret: _hmac(secret, times[0] + ".", body).hex())

    prefix = signature.get("prefix", "")
    if not value.startswith(prefix):
        return False
    if signature["form"] == "base64":
        return _matches([value[len(prefix):]], secrets, lambda secret: base64.b64encode(_hmac(secret, "", body)).decode())
    return _matches([value[len(prefix):].lower()], secrets, lambda secret: _hmac(secret, "", body).hex())


def _signature(dialect):
    """How a dialect signs."""
    known = DIALECTS.get(dialect, {}) if isinstance(dialect, str) else dialect
    signature = {"form": "hex", **known}
    signature.setdefault("key", "whsec" if signature["form"] == "standard-webhooks" else "hex")
    if signature["form"] not in ("hex", "base64", "timed", "standard-webhooks"):
        raise ValueError("%s is no form of signatures" % signature["form"])
    if signature["form"] != "standard-webhooks" and not signature.get("header"):
        raise ValueError("%s is no signed dialect: give its form and header" % dialect)
    return signature


def _secrets(signature, keys):
    """The keys' bytes. An environment variable that is not set here is an empty key: it must not verify what anybody
    signed with an empty key, so it is an error."""
    if not keys:
        raise ValueError("no sign key is given")
    secrets = []
    for key in keys:
        if not isinstance(key, str) or not key.strip():
            raise ValueError("a sign key is empty")
        secret = key.encode()
        if signature["key"] == "whsec":
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
