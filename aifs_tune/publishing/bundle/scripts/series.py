"""Series, prepared as those that the model learnt from."""

import re

import numpy as np
from reading import UnreadableError
from texts import numbers, read_csv


def examples_in(file, settings):
    """Name of the series in a file, and the inputs of the model: values and number of steps."""
    if file.suffix.lower() not in (".csv", ".tsv", ".txt", ".tab", ".dat"):
        raise UnreadableError("is no CSV file; save it as CSV")
    columns, separator = read_csv(file, settings["columns"])
    values = np.stack([numbers(columns, separator, name, settings) for name in settings["columns"]], axis=1)
    times = times_in(columns, separator, settings)
    if len(values) < 2 or np.isnan(values).all():
        raise UnreadableError(f"has {len(values)} steps with a value; a series has at least 2")
    steps, made = settings["steps"], channels(values, times, settings)
    kept = made[:steps] if settings["keep"] == "first" else made[-steps:]
    if settings["is_forecast"] and len(kept) < steps:
        raise UnreadableError(f"has {len(kept)} steps; the model looks at {steps}")
    padded = np.zeros((1, steps, made.shape[1]), np.float32)
    padded[0, : len(kept)] = kept
    return [str(file)], (padded, np.array([len(kept)], np.int32))


def times_in(columns, separator, settings):
    """Times as numbers or seconds, which must not decrease; None if there is no column of times."""
    by_name = {name.lower(): name for name in reversed(list(columns)) if name not in settings["chosen"]}
    name = settings["time"] or next((by_name[known] for known in settings["time_names"] if known in by_name), None)
    if name is None:
        if any(channel["role"] == "step" for channel in settings["channels"]):
            raise UnreadableError("has no column of times, which the model needs")
        return None
    if name not in columns:
        raise UnreadableError(f"has no column {name}")
    if all(re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", entry) for entry in columns[name]):
        times = np.array(columns[name], "datetime64[s]").astype(np.float64)
    else:
        times = numbers(columns, separator, name, settings)
        if ((times >= 18000101) & (times <= 21001231)).all():
            raise UnreadableError(f"has times such as {times[0]:.0f} in the column {name}, which may be dates")
    if np.isnan(times).any() or (np.diff(times) < 0).any():
        raise UnreadableError(f"has missing or decreasing times in the column {name}")
    return times


def channels(values, times, settings):
    """Channels (steps, channels): scaled values with gaps filled, time steps, and where a value was measured."""
    known = ~np.isnan(values)
    if settings["scaling"] != "set":
        values = values - np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if settings["scaling"] == "series":
        values = values / (np.sqrt((values[known] ** 2).mean()) or 1.0)
    made = []
    for channel in settings["channels"]:
        if channel["role"] == "value":
            column = values[:, settings["columns"].index(channel["name"])]
            before = np.maximum.accumulate(np.where(np.isnan(column), 0, np.arange(len(column))))
            made.append(np.nan_to_num((column[before] - channel["centre"]) / channel["scale"]))
        elif channel["role"] == "step":
            since = np.concatenate([[channel["median"]], np.diff(times)]) / channel["median"]
            made.append((np.log1p(since) - channel["centre"]) / channel["scale"])
        else:
            made.append(known[:, settings["columns"].index(channel["name"])].astype(np.float64))
    return np.stack(made, axis=1).astype(np.float32)
