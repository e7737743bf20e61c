"""The names that a misspelled or shortened name may mean."""

from __future__ import annotations

from budget_sync.domain.nearest import nearest

NAMES = (
    "engineering",
    "marketing",
    "marketing emea",
    "sales",
    "human resources",
    "r&d",
    "it&security",
    "data platform",
    "legal",
)


def test_near_names_come_first_and_others_are_left_out() -> None:
    for name, expected in (
        ("enginering", ["engineering"]),
        ("eng", ["engineering"]),
        ("marketting", ["marketing"]),
        ("emea", ["marketing emea"]),
        ("mktg", ["marketing"]),
        ("hr", ["human resources"]),
        ("rd", ["r&d"]),
        ("security", ["it&security"]),
        ("dp", ["data platform"]),
        ("platform", ["data platform"]),
        ("zzz", []),
        ("l", []),
    ):
        assert nearest(name, NAMES, 3)[: len(expected) or 1] == expected, name


def test_number_of_names_is_limited() -> None:
    assert nearest("team", [f"team {number}" for number in range(100)], 3) == [
        "team 0",
        "team 1",
        "team 10",
    ]


def test_short_form_may_be_in_the_budgets() -> None:
    assert nearest("human resources", ["hr", "sales"], 3) == ["hr"]
    assert nearest("engineering", ["eng"], 3) == ["eng"]
