"""The files in deploy/: their commands, settings and metrics exist, and nginx.conf works."""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from support.installation import Installation
from support.machine import ENGINE, PROJECT, free_port, needs, wait_until
from support.world import check_body, reserve_body

import cli
from budget_sync.accounts import authentication, passwords
from budget_sync.queries import inbox
from budget_sync.web import auth, metric_definitions, payloads

pytestmark = pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine")

DEPLOY = PROJECT / "deploy"
DOCS = PROJECT / "docs"
FILES = sorted(DEPLOY.iterdir())
UNITS = [path for path in FILES if path.suffix in (".service", ".timer")]
HOST = "budgets.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


# The files against the code.


def pins(path: Path) -> set[str]:
    """The name==version pairs of a requirements file, with normalized names."""
    found = re.findall(
        r"^([A-Za-z][\w.-]*)(?:\[\w+\])?==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in found}


def test_lock_has_hashes_of_all_requirements_and_no_host() -> None:
    assert pins(DEPLOY / "requirements.lock") == pins(PROJECT / "requirements.txt")
    for entry in re.split(r"^(?=[a-z])", text("requirements.lock"), flags=re.MULTILINE)[1:]:
        start = entry[:80]
        assert re.fullmatch(r"\S+==\S+ (\\\n    --hash=sha256:[0-9a-f]{64} ?)+\n?", entry), start
    assert "://" not in text("requirements.lock")
    assert "--require-hashes -r deploy/requirements.lock" in (PROJECT / "Makefile").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    "path",
    [*FILES, PROJECT / "README.md", *sorted(DOCS.glob("*.md"))],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_commands_in_files_exist_and_have_those_options(path: Path) -> None:
    commands = {str(command.name): command for command in cli.COMMANDS}
    flask = r"(?:bin/flask(?: --app [\w/.-]+)?|`flask|^flask|&& flask)"
    named = re.findall(
        rf"{flask} ([a-z][a-z-]+)((?: (?:--[\w-]+|[\w/.]+))*)",
        path.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for name, rest in named:
        assert name in commands, name
        options = {
            option
            for parameter in commands[name].params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        } | {"--help"}
        assert {word for word in shlex.split(rest) if word.startswith("--")} <= options, (
            name,
            rest,
        )
    has_commands = path.name in {
        "budget-sync.cron",
        "budget-sync.service",
        "budget-sync-sheets.service",
        "budget-sync-expiry.service",
        "budget-sync-deliver.service",
        "webhooks.md",
        "install.md",
        "operate.md",
        "sheets.md",
        "security.md",
    }
    assert named or not has_commands


def test_env_example_has_exactly_the_settings_that_are_read() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", text("env.example"), re.MULTILINE)
    read = set(
        re.findall(
            r'values(?:,\s+|\.get\(\s*)"([A-Z_]+)"',
            (PROJECT / "budget_sync" / "settings.py").read_text(encoding="utf-8"),
        )
    )
    assert sorted(named) == sorted(read)


def test_page_lists_every_file() -> None:
    assert [
        path.name
        for path in FILES
        if f"`{path.name}`" not in text("README.md") and path.name != "README.md"
    ] == []


def test_security_page_has_the_numbers_of_the_code() -> None:
    page = " ".join((DOCS / "security.md").read_text(encoding="utf-8").split())
    assert f"{passwords.MIN_LENGTH} characters at least" in page
    words = {5: "five", 50: "fifty"}
    account, address = (
        words[authentication.MAX_FAILURES_ACCOUNT],
        words[authentication.MAX_FAILURES_ADDRESS],
    )
    minutes = authentication.WINDOW_S // 60
    assert (
        f"{account} failures per account and address, {address} per address, in {minutes} minutes"
        in page
    )
    assert f"{authentication.SESSION_LIFETIME // dt.timedelta(hours=1)} hours at most" in page
    assert f"{payloads.MAX_BODY_BYTES // 1024} KiB per body" in page
    assert "`get_user_from_request()` in `budget_sync/web/auth.py`" in page
    assert callable(auth.get_user_from_request)


def test_alerts_use_existing_metrics() -> None:
    there = {definition.name for definition in metric_definitions.DEFINITIONS}
    there |= {
        f"{definition.name}_{part}"
        for definition in metric_definitions.DEFINITIONS
        for part in ("bucket", "sum", "count")
        if "Histogram" in definition.meaning
    }
    named = set(re.findall(r"budget_sync_\w+", text("alerts.yml")))
    assert named
    assert named <= there
    if shutil.which("promtool"):
        subprocess.run(
            ["promtool", "check", "rules", DEPLOY / "alerts.yml"], check=True, capture_output=True
        )


#: One budget of many is overdrawn: the customer's sum is still well above zero.
ONE_OVERDRAWN = """
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'budget_sync_overdrawn_budgets{customer="acme"}', values: "0 1"}
      - series: 'budget_sync_available_amount{customer="acme", currency="USD"}'
        values: "95000 95000"
    alert_rule_test:
      - {eval_time: 0m, alertname: BudgetsOverdrawn}
      - eval_time: 1m
        alertname: BudgetsOverdrawn
        exp_alerts:
          - exp_labels: {severity: ticket, customer: acme}
            exp_annotations:
              summary: "Overdrawn budgets of acme: 1"
              description: The console lists them under Budgets, "Overdrawn".
"""


#: One budget of the current period is used up, and one nearly: the sum is still almost untouched.
ONE_USED_UP = """
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'budget_sync_budgets_over_threshold{customer="acme", threshold="80"}'
        values: "0 4x61"
      - series: 'budget_sync_budgets_over_threshold{customer="acme", threshold="90"}'
        values: "0 2x61"
      - series: 'budget_sync_budgets_over_threshold{customer="acme", threshold="100"}'
        values: "0 1x61"
      - series: 'budget_sync_budgeted_amount{customer="acme", currency="USD"}'
        values: "1000000x62"
      - series: 'budget_sync_reserved_amount{customer="acme", currency="USD"}'
        values: "0 1800x61"
      - series: 'budget_sync_committed_amount{customer="acme", currency="USD"}'
        values: "0x62"
    alert_rule_test:
      - {eval_time: 0m, alertname: BudgetsUsedUp}
      - eval_time: 61m
        alertname: BudgetsUsedUp
        exp_alerts:
          - exp_labels: {severity: ticket, customer: acme, threshold: "100"}
            exp_annotations:
              summary: "Used-up budgets of acme in the current period: 1"
              description: The console's overview lists the most used departments first.
      - eval_time: 61m
        alertname: BudgetsNearlyUsedUp
        exp_alerts:
          - exp_labels: {severity: ticket, customer: acme}
            exp_annotations:
              summary: >-
                Budgets of acme in the current period that are used to 90% or more,
                and not used up: 1
      - eval_time: 61m
        alertname: BudgetsOver80Percent
        exp_alerts:
          - exp_labels: {severity: info, customer: acme}
            exp_annotations:
              summary: >-
                Budgets of acme in the current period that are used to 80% or more,
                and to less than 90%: 2
"""

#: For a week, each sync run had a rejected row.
ALWAYS_PARTIAL = """
rule_files: [alerts.yml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - series: 'budget_sync_sync_last_result{customer="a", source="s", result="success"}'
        values: "0x170"
      - series: 'budget_sync_sync_last_result{customer="a", source="s", result="partial"}'
        values: "1x170"
      - series: 'budget_sync_sync_last_result{customer="a", source="s", result="failed"}'
        values: "0x170"
    alert_rule_test:
      - {eval_time: 169h, alertname: SheetSyncSuccessRateLow}
      - eval_time: 169h
        alertname: SheetSyncPartial
        exp_alerts:
          - exp_labels: {severity: ticket, customer: a, source: s, result: partial}
            exp_annotations:
              summary: >-
                For a day, s of a has had rejected rows, or held changes that wait for an
                answer
"""


def test_alerts_on_used_up_budgets_do_not_use_sums() -> None:
    alerts = dict(
        re.findall(r"- alert: (\w+)\n(.*?)(?=\n +- alert:|\Z)", text("alerts.yml"), re.DOTALL)
    )
    for name, threshold in (
        ("BudgetsUsedUp", 100),
        ("BudgetsNearlyUsedUp", 90),
        ("BudgetsOver80Percent", 80),
    ):
        assert f'budget_sync_budgets_over_threshold{{threshold="{threshold}"}}' in alerts[name]
        assert "_amount" not in alerts[name]
    assert 'result=~"success|partial"' in alerts["SheetSyncSuccessRateLow"]


@pytest.mark.parametrize(
    "series",
    [ONE_OVERDRAWN, ONE_USED_UP, ALWAYS_PARTIAL],
    ids=["overdrawn", "used up", "partial"],
)
def test_alerts_fire_when_they_should(tmp_path: Path, series: str) -> None:
    needs(shutil.which("promtool"), "promtool")
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    (tmp_path / "tests.yml").write_text(series, encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "tests.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_and_docs_agree_when_a_sync_is_late() -> None:
    hours = inbox.STALE_AFTER // dt.timedelta(hours=1)
    for page in (text("alerts.yml"), (DOCS / "operate.md").read_text(encoding="utf-8")):
        assert re.findall(r"budget_sync_sync_age_seconds > (.*)", page) == [f"{hours} * 3600"]


def test_audit_without_answer_of_a_service_fails(tmp_path: Path) -> None:
    unreachable = tmp_path / "pip-audit"
    unreachable.write_text(
        "#!/bin/sh\necho 'cannot resolve the name' >&2\nexit 1\n", encoding="utf-8"
    )
    unreachable.chmod(0o755)
    result = subprocess.run(
        [DEPLOY / "audit", unreachable], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "audit: no advisory service answered, so vulnerabilities are unknown"
    )
    assert result.stderr.count("\n") == 1
    unreachable.write_text(
        "#!/bin/sh\necho 'Found 1 known vulnerability in 1 package'\nexit 1\n", encoding="utf-8"
    )
    result = subprocess.run(
        [DEPLOY / "audit", unreachable], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "Found 1 known vulnerability in 1 package\n")


# systemd and cron.


def test_units_have_the_same_sandbox() -> None:
    sandboxes = [
        re.findall(
            r"^(?:Protect|Private|Restrict|System|Capab|NoNew|Lock|Memory|UMask|User|Group).*",
            text(f"{name}.service"),
            re.MULTILINE,
        )
        for name in NAMES
    ]
    assert len(sandboxes[0]) > 20
    assert sorted(sandboxes[0]) == sorted(sandboxes[1])
    # These start no processes, and need no call to lower their priority.
    priority = "SystemCallFilter=setpriority"
    for sandbox in sandboxes[2:]:
        assert sorted(sandbox) == sorted(set(sandboxes[0]) - {priority})


NAMES = ("budget-sync", "budget-sync-sheets", "budget-sync-expiry", "budget-sync-deliver")


def test_timers_and_cron_lines_run_the_same_commands() -> None:
    hourly = r"^(\d+) \* \* \* \* .* ([a-z-]+) >/dev/null$"
    lines = dict(re.findall(hourly, text("budget-sync.cron"), re.MULTILINE))
    assert lines == {"0": "sync-sheets", "15": "expire-holds"}
    for name, hour, verb in (
        ("budget-sync-sheets", "hourly", "sync-sheets"),
        ("budget-sync-expiry", "*:15", "expire-holds"),
    ):
        assert f"OnCalendar={hour}\n" in text(f"{name}.timer")
        assert f"/flask {verb}\n" in text(f"{name}.service")


def test_units_and_cron_keep_flask_from_loading_env_files() -> None:
    for name in NAMES:
        assert "Environment=FLASK_SKIP_DOTENV=1\n" in text(f"{name}.service")
    before, _ = text("budget-sync.cron").split("0 * * * *")
    assert "\nFLASK_SKIP_DOTENV=1\n" in before
    install = (DOCS / "install.md").read_text(encoding="utf-8")
    (function,) = re.findall(r"^flask\(\) {\n(.*?)^}", install, re.MULTILINE | re.DOTALL)
    assert " env FLASK_SKIP_DOTENV=1 " in function


def test_systemd_accepts_the_units_and_rates_them_safe(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is missing")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(
            re.sub(
                r"/srv/budget-sync/\.venv/bin/flask", "/bin/true", unit.read_text(encoding="utf-8")
            ),
            encoding="utf-8",
        )
    units = [str(tmp_path / unit.name) for unit in UNITS]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for name in NAMES:
        rated = subprocess.run(
            [
                "systemd-analyze",
                "security",
                "--offline=yes",
                "--threshold=20",
                str(tmp_path / f"{name}.service"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert rated.returncode == 0, rated.stdout[-500:]


def test_nightly_line_backs_up_and_deletes_only_old_backups(
    app: Flask, environment: dict[str, str], tmp_path: Path
) -> None:
    (line,) = [line for line in text("budget-sync.cron").splitlines() if " backup " in line]
    command = (
        line.split(None, 6)[6]
        .replace("/srv/budget-sync/.venv/bin/", "")
        .replace("/srv/budget-sync", str(PROJECT))
        .replace("/var/backups/budget-sync", str(tmp_path / "b"))
    )
    (tmp_path / "b").mkdir()
    for name, age_days in (
        ("budget-sync-old.db", 32),
        (".budget-sync-old.db.1a2b3c4d.part", 32),
        ("budget-sync-young.db", 29),
        ("notes.txt", 99),
    ):
        (tmp_path / "b" / name).touch()
        then = dt.datetime.now(tz=dt.UTC).timestamp() - age_days * 86400
        os.utime(tmp_path / "b" / name, (then, then))
    subprocess.run(
        ["bash", "-euc", command],
        env=Installation(environment).full_environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    left = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"budget-sync-young.db", "notes.txt"} < left
    assert len(left) == 3
    assert not any("old" in name for name in left)


# nginx.


class Site:
    """The site of nginx.conf on free ports, in front of a server."""

    def __init__(self, port: int, plain_port: int, certificate: Path) -> None:
        self.url = f"https://localhost:{port}"
        self.port = port
        self.plain_url = f"http://localhost:{plain_port}"
        self.certificate = certificate

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        """Send a request to its public host name."""
        given: Any = options.pop("headers", {})
        headers = {"Host": HOST} | given
        return requests.request(
            method,
            f"{self.url}{path}",
            headers=headers,
            verify=str(self.certificate),
            timeout=30,
            allow_redirects=False,
            **options,  # type: ignore[arg-type]  # options of requests
        )


def make_certificate(folder: Path) -> Path:
    """Create a self-signed certificate for localhost, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(tz=dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(
        now + dt.timedelta(days=1)
    )
    certificate = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
    ).sign(key, hashes.SHA256())
    (folder / "site.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "site.key").write_bytes(secret)
    return folder / "site.pem"


@pytest.fixture
def site(installation: Installation, tmp_path: Path) -> Iterator[Site]:
    """The site of nginx.conf with local paths and ports, and a server set up as in env.example."""
    needs(shutil.which("nginx"), "nginx")
    example = dict(
        re.findall(r"^(TRUSTED_\w+|SESSION_\w+|BUDGET_\w+)=(.*)", text("env.example"), re.MULTILINE)
    )
    assert example["TRUSTED_HOSTS"].startswith(f"{HOST},")
    installation.environment |= example | {"METRICS_TOKEN": TOKEN, "CRON_SECRET": TOKEN}
    start_as_systemd_does(installation, tmp_path)
    port, plain_port, certificate = free_port(), free_port(), make_certificate(tmp_path)
    conf = re.sub(r"    listen \[::\].*\n", "", text("nginx.conf"))
    conf = conf.replace("listen 80;", f"listen 127.0.0.1:{plain_port};").replace(
        "listen 443", f"listen 127.0.0.1:{port}"
    )
    conf = conf.replace("127.0.0.1:8000", f"127.0.0.1:{installation.port}").replace(
        "/var/log/nginx", str(tmp_path)
    )
    conf = re.sub(r"ssl_certificate .*;", f"ssl_certificate {certificate};", conf)
    conf = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {tmp_path}/site.key;", conf)
    # Shorter, so that the test is fast.
    conf = conf.replace("client_header_timeout 10s", "client_header_timeout 1s")
    user = "user root;" if os.geteuid() == 0 else ""
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        # The default logs, as in the nginx.conf of a distribution.
        f"{user} daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;"
        f" events {{}} http {{ access_log {tmp_path}/access.log; {folders}\n{conf}\n}}\n",
        encoding="utf-8",
    )
    line = ["nginx", "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run([*line, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    nginx = subprocess.Popen(line)
    try:
        site = Site(port, plain_port, certificate)
        wait_until(lambda: answers(site), "nginx does not answer")
        yield site
    finally:
        nginx.terminate()
        nginx.wait(timeout=30)


def start_as_systemd_does(installation: Installation, folder: Path) -> None:
    """Start the server, which notifies systemd when it listens."""
    assert "Type=notify" in text("budget-sync.service")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(30)
        installation.environment["NOTIFY_SOCKET"] = str(folder / "notify")
        installation.start()
        assert systemd.recv(1000).startswith(b"READY=1\n")


def answers(site: Site) -> bool:
    try:
        return site.call("GET", "/readyz").ok
    except requests.ConnectionError:
        return False


def test_service_works_behind_nginx(site: Site, installation: Installation, tmp_path: Path) -> None:
    """Everything in one test, because nginx and the server take time to start."""
    # A caller through the proxy is never a local caller, whatever headers it sends.
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        assert (
            site.call("POST", "/api/budget/check", json=check_body(), headers=headers).status_code
            == 401
        )
    key = installation.key()
    assert site.call("POST", "/api/budget/check", json=check_body(), headers=key).json()[
        "available"
    ]
    reserved = site.call(
        "POST", "/api/budget/reserve?key=bsk_in_the_address", json=reserve_body(), headers=key
    )
    assert reserved.json()["newAvailable"] == 90000
    # Monitoring on this machine, as in the files, not through nginx.
    targets = {
        target
        for page in (text("alerts.yml"), (DOCS / "operate.md").read_text(encoding="utf-8"))
        for target in re.findall(r'targets: \["(.+?)"', page)
    }
    assert targets == {"127.0.0.1:8000"}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/metrics", "/healthz", "/readyz", "/api/cron/sync-google-sheets"):
        assert (
            requests.get(
                f"http://127.0.0.1:{installation.port}{path}", headers=bearer, timeout=30
            ).status_code
            == 200
        ), path
    # The session cookie of a browser is sent only over TLS.
    login = (installation.folder / "demo" / "fiona.json").read_text(encoding="utf-8")
    signed_in = site.call(
        "POST",
        "/api/auth/login",
        data=login,
        headers={"Content-Type": "application/json", "Origin": f"https://{HOST}"},
    )
    assert signed_in.status_code == 200
    assert "; Secure;" in signed_in.headers["Set-Cookie"]
    # Failed logins are counted by the address that nginx sees, not by a forged one.
    guesses = [
        site.call(
            "POST",
            "/api/auth/login",
            json={"email": "jane@acme.com", "password": "wrong"},
            headers={"X-Forwarded-For": f"198.51.100.{number}"},
        ).status_code
        for number in range(6)
    ]
    assert guesses == [401] * 5 + [429]
    too_many = site.call(
        "POST", "/api/auth/login", json={"email": "jane@acme.com", "password": "wrong"}
    )
    assert (too_many.status_code, too_many.json()["code"]) == (429, "TOO_MANY_ATTEMPTS")
    # Too large a body: the service rejects the first one, nginx the second one.
    for length in (70_000, 300_000):
        large = site.call(
            "POST",
            "/api/budget/check",
            data="x" * length,
            headers=key | {"Content-Type": "application/json"},
        )
        assert (large.status_code, large.json()["code"]) == (413, "BODY_TOO_LARGE"), length
    for method, path, status, code in (
        ("GET", "/metrics", 404, "NOT_FOUND"),
        ("TRACE", "/readyz", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/readyz", 405, "METHOD_NOT_ALLOWED"),
    ):
        rejected = site.call(method, path)
        assert (rejected.status_code, rejected.json()["code"]) == (status, code), (method, path)
    assert site.call("GET", "/readyz", headers={"Host": "other.example.com"}).status_code == 400
    # nginx closes the connection of a client that never completes its request.
    context = ssl.create_default_context(cafile=site.certificate)
    with (
        socket.create_connection(("127.0.0.1", site.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as slow,
    ):
        slow.settimeout(30)
        slow.sendall(b"POST /api/budget/check HTTP/1.1\r\nHost: budgets")
        try:
            assert slow.recv(1000) == b""
        except ConnectionResetError:
            pass
    # The log has no query string and no header, which could contain a secret.
    logged = (tmp_path / "budget-sync.log").read_text(encoding="utf-8")
    assert '"POST /api/budget/reserve" 200' in logged
    assert reserved.headers["X-Request-Id"] in logged
    assert "bsk_" not in logged
    # The service does not run.
    installation.stop()
    away = site.call(
        "POST", "/api/budget/reserve", json=reserve_body(requestId="later"), headers=key
    )
    assert (away.status_code, away.headers["Retry-After"], away.json()["code"]) == (
        503,
        "5",
        "OUTCOME_UNKNOWN",
    )


def test_too_many_requests_in_progress_from_one_address(site: Site) -> None:
    (most,) = re.findall(r"limit_conn budget_sync_callers (\d+);", text("nginx.conf"))
    context = ssl.create_default_context(cafile=site.certificate)
    with ExitStack() as waiting:
        for _ in range(int(most)):
            plain = waiting.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            client = waiting.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            # A request without its body.
            head = f"POST /api/budget/check HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n"
            client.sendall(head.encode())
        wait_until(lambda: not answers(site), "no request is rejected")
        rejected = site.call("GET", "/readyz")
    assert (
        rejected.status_code,
        rejected.headers["Content-Type"],
        rejected.headers["Retry-After"],
    ) == (429, "application/json", "1")
    body = rejected.json()
    assert (body["success"], body["code"], body["retryAfter"]) == (False, "HTTP_ERROR", 1)
    assert "too many requests in progress" in body["error"]
    wait_until(lambda: answers(site), "all requests are rejected")


def test_no_log_of_nginx_has_a_secret(
    site: Site, installation: Installation, tmp_path: Path
) -> None:
    leaky = "/api/budget/check?key=bsk_in_the_address"
    headers = {"Host": HOST, "Referer": "https://elsewhere.example/?key=bsk_in_the_referer"}
    assert site.call("POST", leaky, data="x" * 300_000, headers=headers).status_code == 413
    assert (
        requests.get(
            f"{site.plain_url}{leaky}", headers=headers, timeout=30, allow_redirects=False
        ).status_code
        == 308
    )
    installation.stop()
    assert site.call("POST", leaky, json=check_body(), headers=headers).status_code == 503
    # A line is written when its connection is closed, so the order varies.
    wait_until(
        lambda: sorted(logged_statuses(tmp_path)[-3:]) == ["308", "413", "503"],
        "a request is not logged",
    )
    logs = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log")}
    assert {name: content for name, content in logs.items() if "bsk_" in content} == {}


def logged_statuses(folder: Path) -> list[str]:
    """The statuses in the site's access log."""
    return re.findall(r'"\w+ \S+" (\d+)', (folder / "budget-sync.log").read_text(encoding="utf-8"))
