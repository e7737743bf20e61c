"""The texts of messages: short, with the figures and a link to the page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from budget_sync.alerts.conditions import Condition, Kind
from budget_sync.domain.balance import Balance

#: Longer titles and causes are cut off. Names have up to 200 characters.
_MAX_TITLE = 150
_MAX_CAUSE = 500


class Text(NamedTuple):
    """The title and the body of a message."""

    title: str
    body: str


class Pages:
    """The links to the console's pages. Without the address of the service, there are none."""

    def __init__(self, public_url: str | None) -> None:
        self._url = public_url

    def budget(self, budget_id: str) -> str:
        """The page of a budget."""
        return self._link(f"/budget?id={quote(budget_id, safe='')}")

    def request(self, request_id: str) -> str:
        """The page of a request."""
        return self._link(f"/request?id={quote(request_id, safe='')}")

    def sync_run(self, sync_id: str) -> str:
        """The page of a sync run."""
        return self._link(f"/sync/pass?id={quote(sync_id, safe='')}")

    def held(self, source_id: str) -> str:
        """The page where the held changes of a source are answered."""
        return self._link(f"/sync/held?source={quote(source_id, safe='')}")

    def webhook(self, webhook_id: str) -> str:
        """The page of a webhook."""
        return self._link(f"/webhooks/show?id={quote(webhook_id, safe='')}")

    def alerts(self) -> str:
        """The page of alerts."""
        return self._link("/alerts")

    def _link(self, path: str) -> str:
        return f"{self._url}{path}" if self._url else ""


def budget_reached(
    name: str, after: Balance, reached: Sequence[Condition], cause: str, link: str
) -> Text:
    """A budget that has crossed thresholds or is overdrawn. `cause` is what changed, by whom."""
    if any(condition.kind is Kind.OVERDRAWN for condition in reached):
        state = f"overdrawn by {after.money(-after.available_minor)}"
    else:
        state = f"{percent_used(after)}% used"
    limits = [f"{each.number}%" for each in reached if each.kind is Kind.THRESHOLD]
    crossed = f"Reached: {', '.join(limits)}." if limits else ""
    return _text(f"{name}: {state}", figures(after), crossed, cause, link)


def figures(balance: Balance) -> str:
    """The figures of a budget in one sentence."""
    return (
        f"{balance.money(balance.used_minor)} of {balance.money(balance.budgeted_minor)} used "
        f"({balance.money(balance.reserved_minor)} reserved, "
        f"{balance.money(balance.committed_minor)} committed), "
        f"{balance.money(balance.available_minor)} available."
    )


def percent_used(balance: Balance) -> str:
    """The used share with one decimal, rounded down: 79.96 percent is not 80."""
    if balance.budgeted_minor == 0:
        return "100"
    tenths = balance.used_minor * 1000 // balance.budgeted_minor
    return f"{tenths // 10:,}" + (f".{tenths % 10}" if tenths % 10 else "")


def sync_failed(source: str, message: str, link: str) -> Text:
    """A source whose sync runs have begun to fail."""
    rest = "Budgets stay as they are. You get another message only after a run has worked."
    return _text(f"Sync failed: {source}", message, rest, link)


def held(source: str, count: int, link: str) -> Text:
    """A sync run that holds changes until a person answers."""
    changes = "1 change waits" if count == 1 else f"{count:,} changes wait"
    return _text(f"{changes} for your answer: {source}", "They look like a mistake.", link)


def stale_hold(
    request_id: str, name: str, held_money: str, opened: datetime, days: int, link: str
) -> Text:
    """A reservation that is open for longer than a number of days."""
    return _text(
        f"Reservation {request_id} open for more than {days} day{'s' * (days != 1)}",
        f"{held_money} of {name}, reserved on {opened:%Y-%m-%d}.",
        link,
    )


def webhook_paused(host: str, reason: str, link: str) -> Text:
    """A webhook that gets no more events until it is resumed."""
    return _text(f"Webhook paused: {host}", reason, "It gets no events until it is resumed.", link)


def test_message(customer: str, link: str) -> Text:
    """What `flask test-alert` sends."""
    return _text("Test of an alert", f"Alerts of {customer} arrive here.", link)


def joined(customer: str, texts: Sequence[Text], digest_day: str | None) -> Text:
    """Several messages as one. `digest_day` is the local date of a digest."""
    count = f"{len(texts):,} alert{'s' * (len(texts) != 1)}"
    title = f"{customer}: {count}" + (f" until {digest_day}" if digest_day else "")
    return Text(title[:_MAX_TITLE], "\n\n".join(f"{each.title}\n{each.body}" for each in texts))


def length(text: Text) -> int:
    """The characters that a text takes in a joined message."""
    return len(text.title) + len(text.body) + 3


def _text(title: str, *lines: str) -> Text:
    return Text(_one_line(title, _MAX_TITLE), "\n".join(_lines(lines)))


def _lines(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if line:
            yield line if "://" in line.split(" ", maxsplit=1)[0] else _one_line(line, _MAX_CAUSE)


def _one_line(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
