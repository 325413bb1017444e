"""Tests of the order, the filters and the pages of the list of trials."""

from __future__ import annotations

import httpx
import pytest
from services import Service, storage_in

from aifs_tune import Client

SPACE = {
    "heat": {"type": "float", "low": 0.0, "high": 10.0},
    "gas": {"type": "choice", "choices": ["argon", "air", None]},
}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    with Service(storage_in(tmp_path_factory.mktemp("trials"))) as running, Client(running.url) as client:
        study = client.open_study("furnace", space=SPACE, metric="yield", sampler="random")
        for heat, gas, value, cost in (
            (5, "argon", 0.5, 1),
            (1, "air", 0.9, 2),
            (5, "argon", 0.7, 3),
            (3, None, 0.1, 4),
        ):
            study.attach({"heat": float(heat), "gas": gas}, {"yield": value, "cost": float(cost)})
        study.tell(study.ask(), state="failed", reason="the Crucible cracked")
        study.ask(label="A-17", owner="furnace-2", lease_s=3600)
        study.set_note("the lid was open", 1)
        with httpx.Client(base_url=f"{running.url}/v1/studies/furnace") as http:
            yield http


def numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [trial["trial"] for trial in answer.json()["trials"]]


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("value", [3, 0, 2, 1]),
        ("-value", [1, 2, 0, 3]),
        ("-trial", [5, 4, 3, 2]),
        ("-metrics.cost", [3, 2, 1, 0]),
        ("label", [5, 0, 1, 2]),
        ("state", [0, 1, 2, 3]),
    ],
)
def test_trials_are_sorted_and_those_without_a_value_come_last(trials, sort, first):
    assert numbers(trials.get("/trials", params={"sort": sort}))[:4] == first


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"where": "params.heat >= 5", "state": "complete"}, [0, 2]),
        ({"where": ["value>0.4", "metrics.cost<3"]}, [0, 1]),
        ({"where": "params.gas = air", "state": "complete"}, [1]),
        ({"where": "params.gas != argon", "state": "complete"}, [1, 3]),
        ({"where": "value = 0.9"}, [1]),
        ({"search": "crucible"}, [4]),
        ({"search": "LID"}, [1]),
        ({"search": "a-17"}, [5]),
        ({"same_as": 0}, [0, 2]),
        ({"owner": "furnace-2"}, [5]),
    ],
)
def test_trials_are_filtered(trials, query, found):
    answer = trials.get("/trials", params=query)
    assert (numbers(answer), answer.json()["n_trials"]) == (found, len(found))


@pytest.mark.parametrize(("sort", "expected"), [("trial", [0, 1, 2, 3, 4, 5]), ("-value", [1, 2, 0, 3, 4, 5])])
def test_the_links_lead_through_all_pages(trials, sort, expected):
    answer, seen = trials.get("/trials", params={"sort": sort, "limit": 2}), []
    while True:
        seen += numbers(answer)
        if answer.json()["next"] is None:
            break
        answer = trials.get(answer.links["next"]["url"])
    assert (seen, answer.json()["n_trials"]) == (expected, 6)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"sort": "colour"}, "'colour' is not a column; allowed: trial, state, value"),
        ({"where": "value"}, "is not a condition"),
        ({"where": "params.heat < much"}, "'much' is not a number"),
        ({"where": "heat < 1"}, "'heat' is not a column"),
        ({"sort": "value", "after": 1}, "allowed here: offset"),
        ({"limit": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_sorted_or_filtered_is_refused(trials, query, said):
    answer = trials.get("/trials", params=query)
    assert (answer.status_code, said in answer.text) == (422, True), answer.text


def test_a_trial_that_is_not_there_has_no_repeats(trials):
    assert trials.get("/trials", params={"same_as": 99}).status_code == 404
