"""An identity provider for tests: keys, tokens, and an HTTP server for the keys on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, RSAKey

from support.machine import free_port, wait_until

AUDIENCE = "budget-sync"

#: One pair of keys for all tests: generating them takes long.
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"}, private=True)
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"}, private=True)
EC = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"}, private=True)

_FILE = """
[[provider]]
name = "Acme"
issuer = "{issuer}"
audience = ["budget-sync"]
{keys}
customer = {{ claim = "org_id", map = {{ "acme" = "org-456", "rival" = "org-999" }} }}
roles = {{ claim = "groups", map = {{ "admins" = "admin", "fpa-admins" = "fpa_admin", \
"fpa" = "fpa_user", "managers" = "manager", "staff" = "business_user" }} }}
{more}

[[provider.service]]
subject = "orchestrator@clients"
name = "orchestrator"
scopes = ["check", "reserve", "commit", "release", "spend", "read"]
"""


def key_set(*keys: RSAKey | ECKey) -> str:
    """The public keys as JSON."""
    return json.dumps(KeySet(list(keys)).as_dict(private=False))


def write_identity_file(
    folder: Path,
    *,
    issuer: str = "https://login.acme.example",
    keys: str = 'jwks_file = "keys.json"',
    more: str = "",
) -> Path:
    """An identity file with the provider Acme, whose keys are in a file unless others are named."""
    (folder / "keys.json").write_text(key_set(RSA, EC), encoding="utf-8")
    path = folder / "identity.toml"
    path.write_text(_FILE.format(issuer=issuer, keys=keys, more=more), encoding="utf-8")
    return path


def claims(**changes: object) -> dict[str, Any]:
    """The claims of a valid token of a manager of org-456; None removes a claim."""
    now = int(time.time())
    found = {
        "iss": "https://login.acme.example",
        "aud": AUDIENCE,
        "sub": "mia",
        "org_id": "acme",
        "email": "mia@acme.example",
        "name": "Mia Meyer",
        "groups": ["managers"],
        "iat": now,
        "nbf": now,
        # Longer than the tests take: some tokens are made when the tests are collected.
        "exp": now + 24 * 3600,
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def sign(
    payload: dict[str, Any] | str,
    key: RSAKey | ECKey = RSA,
    algorithm: str = "RS256",
    **header: object,
) -> str:
    """A signed token."""
    text = payload if isinstance(payload, str) else json.dumps(payload)
    full = {"alg": algorithm, "typ": "JWT", "kid": key.kid} | header
    protected = {name: value for name, value in full.items() if value is not None}
    return jws.serialize_compact(protected, text.encode(), key, algorithms=[algorithm])


def bearer(token: str) -> dict[str, str]:
    """The Authorization header of a token."""
    return {"Authorization": f"Bearer {token}"}


class KeyServer:
    """Serves keys over HTTP. `body`, `status` and `delay_s` may be changed; `calls` are counted."""

    def __init__(self) -> None:
        self.body = key_set(RSA, EC)
        self.status = 200
        self.delay_s = 0.0
        self.calls = 0
        self.url = ""


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """A running key server on loopback."""
    state = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.calls += 1
            time.sleep(state.delay_s)
            body = state.body.encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


#: The person that the provider of `openid_provider` knows.
MIA = {
    "sub": "mia",
    "org_id": "acme",
    "email": "mia@acme.example",
    "name": "Mia Meyer",
    "groups": ["fpa-admins"],
}

#: The part of the identity file for the sign-in at that provider. The secret is in ACME_SECRET.
SIGN_IN = """[provider.sign_in]
client_id = "budget-sync"
client_secret_env = "ACME_SECRET"
scopes = ["openid", "email", "profile"]
"""


@contextmanager
def openid_provider() -> Iterator[str]:
    """The address of a running OpenID provider on loopback that knows MIA."""
    port = free_port()
    program = Path(sys.executable).with_name("oidc-provider-mock")
    command = [str(program), "--port", str(port), "--user-claims", json.dumps(MIA)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), "the OpenID provider does not start", 30)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        requests.get(f"{url}/.well-known/openid-configuration", timeout=1)
    except requests.RequestException:
        return False
    return True
