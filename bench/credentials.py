"""Processor time of calls with the token of an identity provider against calls with an API key."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from bench.machine import cpu_s
from bench.places import Place
from bench.report import Demand
from bench.servers import free_port, product_command, running, wrk
from bench.stock import CUSTOMER

VERBS = ("check", "reserve")

#: The most that a call with a token may cost, as a multiple of the same call with a key.
MAX_RATIO = 1.25

_ISSUER = "https://login.bench.example"
_FILE = f"""
[[provider]]
name = "Bench"
issuer = "{_ISSUER}"
audience = ["budget-sync"]
jwks_file = "keys.json"
customer = {{ fixed = "{CUSTOMER}" }}

[[provider.service]]
subject = "bench"
name = "bench"
scopes = ["check", "reserve", "commit", "release", "read"]
"""


def token_against_key(place: Place, rounds: int, seconds: int) -> dict[str, tuple[float, float]]:
    """The processor milliseconds of a call by verb: with a key, and with a token.

    One server; the two are loaded in turn, and the median of the rounds counts.
    """
    token = _token(place.folder)
    environment = place.environment() | {"IDENTITY_FILE": str(place.folder / "identity.toml")}
    port = free_port()
    samples: dict[tuple[str, str], list[float]] = {}
    with running(product_command(port), port, environment, place.folder / "server.log") as server:
        for number in range(rounds + 1):
            for verb in VERBS:
                for name, credential in (("key", place.key), ("token", token)):
                    before = cpu_s(server.pid)
                    tag = f"{name}-{number}-{time.monotonic_ns()}"
                    load = wrk(port, verb, credential, clients=16, seconds=seconds, tag=tag)
                    if load.rejected or not load.acknowledged:
                        raise RuntimeError(f"{verb} with a {name}: {load.first_rejection}")
                    cost_ms = (cpu_s(server.pid) - before) * 1000 / load.acknowledged
                    # The first round warms up.
                    if number:
                        samples.setdefault((verb, name), []).append(cost_ms)
    return {verb: (median(samples[verb, "key"]), median(samples[verb, "token"])) for verb in VERBS}


def _token(folder: Path) -> str:
    """Write the identity file and its keys into the folder; returns a token of the service."""
    key = RSAKey.generate_key(2048, {"kid": "bench", "use": "sig"}, private=True)
    keys = json.dumps(KeySet([key]).as_dict(private=False))
    (folder / "keys.json").write_text(keys, encoding="utf-8")
    (folder / "identity.toml").write_text(_FILE, encoding="utf-8")
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": "budget-sync", "sub": "bench", "iat": now, "exp": now + 86_400}
    return str(jwt.encode({"alg": "RS256", "kid": "bench"}, claims, key))


def demands(costs: dict[str, tuple[float, float]]) -> list[Demand]:
    """A line for each verb in the table of ratios."""
    return [
        Demand(
            f"{verb} with a token, CPU against an API key ({token_ms:.2f} and {key_ms:.2f} ms)",
            token_ms / key_ms,
            MAX_RATIO,
            at_most=True,
        )
        for verb, (key_ms, token_ms) in costs.items()
    ]
