"""Model card of a bundle: ``README.md`` with the YAML head that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aifs_tune._util.scalars import show
from aifs_tune.publishing.bundle.citation import Citation
from aifs_tune.publishing.bundle.files import FINAL_MODEL, KERAS, MODEL, ONNX, WEIGHTS, ModelFiles
from aifs_tune.publishing.bundle.ro_crate import NO_LICENCE
from aifs_tune.publishing.bundle.script import SCRIPT
from aifs_tune.publishing.report.markdown import escaped

_TASKS = {
    "images": "image-classification",
    "table": "tabular-classification",
    "series": "time-series-classification",
    "frames": "image-classification",
    "bodies": "object-detection",
}


def card_text(results: Mapping[str, Any], citation: Citation, model: ModelFiles, about: Mapping[str, Any]) -> str:
    """Text of the model card; ``results`` is ``results.json``, ``about`` has the name and description of each file."""
    parts = [_head(results, citation, model), f"# {citation.title}\n", _summary(results)]
    parts += [
        _configuration(results),
        _scores(results),
        _model(model, results, about),
        _data(results),
        _commands(results),
    ]
    parts += [_limits(results), _files(about), _citation(citation)]
    return "\n".join(part for part in parts if part)


def _head(results: Mapping[str, Any], citation: Citation, model: ModelFiles) -> str:
    kind = results["data"]["kind"]
    task = _TASKS.get(kind or "", "other")
    if model.outputs.startswith("numbers"):
        task = task.replace("classification", "regression")
    result = {"task": {"type": task}, "dataset": {"name": _dataset(results), "type": kind or "other"}}
    head: dict[str, Any] = {} if citation.licence is None else {"license": citation.licence.lower()}
    if f"{MODEL}/{KERAS}" in model.about:
        head["library_name"] = "keras"
    head |= {"pipeline_tag": task} if task.startswith("image-class") else {}
    head["tags"] = ["aifs-tune", "hyperparameter-optimization", "ro-crate"]
    if metrics := _unbiased(results):
        head["model-index"] = [{"name": results["study"], "results": [{**result, "metrics": metrics}]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _unbiased(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of the best trial for the model index: those of the test set, else of the newest confirmation, else none.

    The value by which the trial was selected is too good, so it is not among them.
    """
    name, test, final = f"trial {results['best']['trial']}", results["test"], results["final_model"]
    if test is not None and test["candidate"] in (name, final and final["name"]):
        scores = {
            f"{each.get('name', '')} {score}".strip(): told["value"] if isinstance(told, Mapping) else told
            for each in _scored(test)
            for score, told in each["scores"].items()
        }
        return [
            {"type": score, "name": f"{score} on the test set", "value": value}
            for score, value in scores.items()
            if value is not None
        ]
    for confirmation in reversed(results["confirmations"]):
        for each in confirmation["candidates"]:
            if each["name"] == name and each["mean"] is not None:
                metric = results["objective"]["metric"]
                text = f"{metric}, mean of {confirmation['confirmation']} with fresh seeds and folds"
                return [{"type": metric, "name": text, "value": each["mean"]}]
    return []


def _dataset(results: Mapping[str, Any]) -> str:
    return str(results["data"]["name"] or "data that the trainer reads itself")


def _summary(results: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{n} {state}" for state, n in results["n_trials"].items() if n)
    objective, best = results["objective"], results["best"]
    text = (
        f"The study `{results['study']}` searched for the {'highest' if objective['mode'] == 'max' else 'lowest'} "
        f"`{objective['metric']}`. The best trial is trial {best['trial']} with {best['value']:.6g}. Trials: {counts}."
    )
    if results["description"]:
        text += f"\n\n{escaped(results['description'])}"
    return text + "\n"


def _configuration(results: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {show(value)} |" for name, value in results["best"]["params"].items()]
    return "\n".join(["## Configuration\n", "| parameter | value |", "|---|---|", *rows, ""])


def _scores(results: Mapping[str, Any]) -> str:
    best = results["best"]
    lines = ["## Scores\n", "| metric | value |", "|---|---|"]
    metrics = best["metrics"] or {results["objective"]["metric"]: best["value"]}
    lines += [f"| `{name}` | {'' if value is None else f'{value:.6g}'} |" for name, value in metrics.items()]
    origin = "The scores" if best["epoch"] is None else f"The scores are from epoch {best['epoch']}. They"
    lines += [
        "",
        f"{origin} are optimistic: the configuration was selected on the same data, as the best of "
        f"{sum(results['n_trials'].values())} trials.",
    ]
    for confirmation in results["confirmations"]:
        lines += [f"\nTrained again with fresh seeds and folds (`{confirmation['confirmation']}`):\n"]
        lines += [f"- {verdict}" for verdict in confirmation["verdicts"]]
        lines += [
            f"- {each['name']}: mean {each['mean']:.4g}" + (f" +- {each['sd']:.2g}" if each["sd"] is not None else "")
            for each in confirmation["candidates"]
            if each["mean"] is not None
        ]
    if not results["confirmations"]:
        lines.append("Not confirmed yet with fresh seeds and folds.")
    lines += _test_lines(results["test"])
    return "\n".join([*lines, ""])


def _scored(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of the classes, and of each target, on the test set."""
    return [*([test["classes"]] if "classes" in test else []), *test.get("targets", ())]


def _test_lines(test: Mapping[str, Any] | None) -> list[str]:
    if test is None:
        return ["\nThe test set has not been used yet."]
    at = "" if test["evaluated_at"] is None else f" on {test['evaluated_at'][:10]},"
    lines = [f"\nThe test set was used once,{at} to evaluate {test['candidate']}. It has no further use here.\n"]
    for each in _scored(test):
        for name, score in each["scores"].items():
            value, low, high = (
                score.get(key) if isinstance(score, Mapping) else None for key in ("value", "low", "high")
            )
            if isinstance(score, int | float):
                value = score
            if value is not None:
                interval = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
                lines.append(f"- {each.get('name', '')} {name}: {value:.4g}{interval}".replace("-  ", "- "))
    return lines


def _model(model: ModelFiles, results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    lines = ["## Model\n"]
    if SCRIPT in about:
        lines += [f"Predict new files without aifs-tune: `python {SCRIPT} FILES -o answers.csv`.\n"]
    if model.inputs:
        lines += [f"Input: {model.inputs}, prepared as in training. Output: {model.outputs}.\n"]
    if f"{WEIGHTS}/weights.npz" in model.about and model.inputs:
        lines += ["```text", "from pathlib import Path"]
        lines += ["from aifs_tune.trainers.load import load_network", ""]
        lines += [f'load_network(Path("{WEIGHTS}")).predict(inputs)', "```", ""]
    for name, loader in ((ONNX, "onnxruntime.InferenceSession"), (KERAS, "keras.models.load_model")):
        path = f"{MODEL}/{name}"
        if path in model.about:
            lines.append(f'- `{path}`: load it with `{loader}("{path}")`. It computes in float32.')
    lines += [f"- There is no {kind} file: {why}." for kind, why in model.missing.items()]
    if (final := results["final_model"]) is not None:
        lines.append(_final_text(final))
    if results["precision"] == "mixed_bfloat16":
        lines.append("- The scores were measured in mixed bfloat16. In float32 the predictions differ slightly.")
    return "\n".join([*lines, ""])


def _final_text(final: Mapping[str, Any]) -> str:
    n = len(final["members"])
    where = f"`{FINAL_MODEL}/0`" if n == 1 else f"`{FINAL_MODEL}/0` to `{FINAL_MODEL}/{n - 1}`"
    named = f"{final['name'][:1].upper()}{final['name'][1:]}"
    average = "" if n == 1 else " Its prediction is the mean of their outputs."
    epochs = " and ".join(sorted({str(each["epochs"]) for each in final["configurations"]}))
    text = (
        f"- {named} is in {where}, with the same files. It was trained on the training and validation sets "
        f"together, for {epochs} epochs.{average}"
    )
    if (expected := final["expected"]) is not None:
        text += f" The expected {expected['metric']} is {expected['mean']:.4g} (mean of {expected['confirmation']})."
    return text


def _data(results: Mapping[str, Any]) -> str:
    data = results["data"]
    outside = " The data are not part of this folder." if data["local"] else ""
    lines = ["## Data\n", f"Training data: {_dataset(results)}.{outside}"]
    if data["fingerprint"]:
        lines.append(f"Fingerprint of content, labels and split: `{data['fingerprint']}`.")
    if data["examples"]:
        counts = ", ".join(f"{part} {n}" for part, n in data["examples"].items())
        lines.append(f"`split.csv` lists the split of each example and the SHA-256 of its file: {counts}.")
    elif data["missing"]:
        lines.append(f"The split is not included: {data['missing']}.")
    return "\n".join([*lines, ""])


def _commands(results: Mapping[str, Any]) -> str:
    data = " --data DATA" if results["data"]["local"] else ""
    return (
        "## Run it again\n\n```text\n"
        f"aifs-tune reproduce .{data}   # train again with the same seed and fresh seeds, and compare the scores\n"
        f"aifs-tune run best.yaml{data}   # train the best configuration alone\n"
        f"aifs-tune import .{data}   # copy all trials into your storage, to continue the search\n```\n"
    )


def _limits(results: Mapping[str, Any]) -> str:
    lines = ["## Limits\n", "- The results hold for data like these."]
    if results["noise"] is None:
        lines.append("- The noise of the score was not measured.")
    else:
        noise = results["noise"]
        lines.append(
            f"- The noise of the score is {noise['sd']:.2g} "
            f"(standard deviation, {noise['n']} training runs: {noise['of']})."
        )
    if results["environment_of"] == "export":
        lines.append(
            "- `environment.json` describes the environment of the export. "
            "The environment of the search was not recorded."
        )
    return "\n".join([*lines, ""])


def _files(about: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {description} |" for name, (_, description) in sorted(about.items())]
    return "\n".join(["## Files\n", "| file | content |", "|---|---|", *rows, ""])


def _citation(citation: Citation) -> str:
    people: Sequence[str] = [each.name for each in citation.authors]
    licence = f"Licence: [{citation.licence}]({citation.licence_url})." if citation.licence else NO_LICENCE
    authors = f"Authors: {', '.join(people)}. See `CITATION.cff`." if people else "No author is given."
    return f"## Citation\n\n{authors} {licence}\n"
