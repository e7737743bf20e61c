"""The table of promises, in the order in which `make prove` tries them."""

from __future__ import annotations

from stress import api_page, backup, bad_input, clock, conservation, damage, disk, kills, locks, mutation, pages, power, slow, soak, suites, tenants, texts
from stress.outcome import Row

BOTH = ("sqlite", "postgresql")

#: The tests that are about who may be where: in the calls, on the pages, and by its forms.
ACCESS = ("permissions", "authentication", "safety", "requesters", "people", "tenants", "console_pages", "console_actions")

ROWS = (
    Row(
        "model",
        "Reserved is what open reservations add up to, nothing is negative, the audit log replays",
        conservation.stress_by_model,
        8_000,
        1_000_000,
        BOTH,
    ),
    Row("conservation", "The same, for many callers at once and group commits", conservation.stress, 1_500, 1_000_000, BOTH),
    Row("kills", "No acknowledged movement is lost and none is half done, whatever is killed; ready again in 5 s", kills.stress, 10, 500, BOTH),
    Row("power", "After a power cut, everything acknowledged is there", power.stress, 20, 1_000),
    Row("disk", "A disk that fails, is full or read-only: never a false 200, no half movement, no restart needed", disk.stress, 6, 10_000),
    Row("damage", "A damaged file is refused, or what is served was true once; no figure is invented", damage.stress, 50, 20_000),
    Row("locks", "With the database locked from outside for 1 to 30 s: 503 with Retry-After in time, no traceback", locks.stress, None, 60),
    Row("slow", "Beside 500 slow or greedy connections, the p99 of others stays under 2 s", slow.stress, 160, 40_000),
    Row("bad-input", "Whatever is sent to a call: never a 5xx, and what is refused moves nothing", bad_input.stress, 2_000, 100_000, BOTH),
    Row("api-page", "Whatever is sent to a call, by whomever, the answer is as the API page says, and no mistake of ours", api_page.stress, 24, 10_000, BOTH),
    Row(
        "pages",
        "Whatever is sent to a page or its form: never a 5xx or a script of theirs; what is refused writes nothing",
        pages.stress,
        15,
        2_000,
        BOTH,
    ),
    Row("access", "Nobody is where they do not belong", suites.of(*ACCESS), None, 1, BOTH),
    Row("tenants", "One customer's replies are the same to the byte, whatever another does", tenants.stress, 500, 10_000, BOTH),
    Row("clock", "When the clock jumps an hour or a year, order, durations, sessions and locks stay right", clock.stress, 2, 200),
    Row("texts", "Hostile text is harmless in logs, on terminals, in replies, on pages and in CSV files", texts.stress, 5, 1_000),
    Row("full", "A small disk that fills up, files that cannot grow or are gone: 503 until there is room", suites.of("faults"), None, 1),
    Row("backup", "What was backed up under load is restored elsewhere and verifies; a damaged backup is refused", backup.stress, 3, 50, BOTH),
    Row("upgrades", "A database of any earlier schema version is upgraded whole, or left whole", suites.of("upgrade", "schema"), None, 1),
    Row("soak", "Through minutes of load and faults, memory stays within 5 % and the write-ahead log bounded", soak.stress, None, 20),
    Row("mutation", "The tests notice at least 95 % of small mistakes in what decides about money", mutation.stress, None, 10_000),
)
