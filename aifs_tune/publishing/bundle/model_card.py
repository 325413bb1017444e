"""The page that a bundle is opened by: a model card, with the head in YAML that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aifs_tune._util.scalars import show
from aifs_tune.publishing.bundle.citation import Citation
from aifs_tune.publishing.bundle.files import KERAS, ONNX, WEIGHTS, ModelFiles

_TASKS = {
    "images": "image-classification",
    "table": "tabular-classification",
    "series": "time-series-classification",
    "frames": "image-classification",
}


def card_text(results: Mapping[str, Any], citation: Citation, model: ModelFiles, about: Mapping[str, Any]) -> str:
    """Markdown with a YAML head; ``results`` are those of ``results.json``, ``about`` names and descriptions of the
    files."""
    parts = [_head(results, citation, model), f"# {citation.title}\n", _found(results)]
    parts += [_configuration(results), _scores(results), _model(model, results), _data(results), _again(results)]
    parts += [_limits(results), _files(about), _citation(citation)]
    return "\n".join(part for part in parts if part)


def _head(results: Mapping[str, Any], citation: Citation, model: ModelFiles) -> str:
    best, objective = results["best"], results["objective"]
    kind = results["data"]["kind"]
    task = _TASKS.get(kind or "", "other")
    if model.outputs.startswith("numbers"):
        task = task.replace("classification", "regression")
    metric = {"type": objective["metric"], "name": objective["metric"], "value": best["value"]}
    result = {"task": {"type": task}, "dataset": {"name": _dataset(results), "type": kind or "other"}}
    head: dict[str, Any] = {} if citation.licence is None else {"license": citation.licence.lower()}
    if KERAS in model.about:
        head["library_name"] = "keras"
    head |= {"pipeline_tag": task} if task.startswith("image-class") else {}
    head["tags"] = ["aifs-tune", "hyperparameter-optimization", "ro-crate"]
    head["model-index"] = [{"name": results["study"], "results": [{**result, "metrics": [metric]}]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _dataset(results: Mapping[str, Any]) -> str:
    return str(results["data"]["name"] or "what the trainer itself reads")


def _found(results: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{n} {state}" for state, n in results["n_trials"].items() if n)
    objective, best = results["objective"], results["best"]
    text = (
        f"The best configuration of the study `{results['study']}`, which searched for the "
        f"{'highest' if objective['mode'] == 'max' else 'lowest'} `{objective['metric']}`: trial {best['trial']} "
        f"with {best['value']:.6g}. Trials: {counts}."
    )
    if results["description"]:
        text += f"\n\n{results['description']}"
    return text + "\n"


def _configuration(results: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {show(value)} |" for name, value in results["best"]["params"].items()]
    return "\n".join(["## Configuration\n", "| parameter | value |", "|---|---|", *rows, ""])


def _scores(results: Mapping[str, Any]) -> str:
    best = results["best"]
    lines = ["## Scores\n", "| metric | value |", "|---|---|"]
    metrics = best["metrics"] or {results["objective"]["metric"]: best["value"]}
    lines += [f"| `{name}` | {'' if value is None else f'{value:.6g}'} |" for name, value in metrics.items()]
    at = "" if best["epoch"] is None else f" of epoch {best['epoch']}"
    lines += [
        "",
        f"These are{at} on the data that chose the configuration, and so look better than they are: it was the best of "
        f"{sum(results['n_trials'].values())} trials.",
    ]
    for confirmation in results["confirmations"]:
        lines += [f"\nTrained again, on fresh seeds and folds (`{confirmation['confirmation']}`):\n"]
        lines += [f"- {verdict}" for verdict in confirmation["verdicts"]]
        lines += [
            f"- {each['name']}: mean {each['mean']:.4g}" + (f" +- {each['sd']:.2g}" if each["sd"] is not None else "")
            for each in confirmation["candidates"]
            if each["mean"] is not None
        ]
    if not results["confirmations"]:
        lines.append("No confirmation on fresh seeds and folds was made.")
    lines += _test_lines(results["test"])
    return "\n".join([*lines, ""])


def _test_lines(test: Mapping[str, Any] | None) -> list[str]:
    if test is None:
        return ["\nThe test part has not been answered."]
    lines = [f"\nOn the test part, answered once, by {test['candidate']}:\n"]
    for each in [test["classes"]] if "classes" in test else test["targets"]:
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


def _model(model: ModelFiles, results: Mapping[str, Any]) -> str:
    lines = ["## Model\n"]
    if model.inputs:
        lines += [f"Takes {model.inputs}, prepared as in training; gives {model.outputs}.\n"]
    if f"{WEIGHTS}/weights.npz" in model.about and model.inputs:
        lines += ["```text", "from pathlib import Path"]
        lines += ["from aifs_tune.trainers.load import load_network", ""]
        lines += [f'load_network(Path("{WEIGHTS}")).predict(inputs)', "```", ""]
    for path, what in ((ONNX, "onnxruntime.InferenceSession"), (KERAS, "keras.models.load_model")):
        if path in model.about:
            lines.append(f'- `{path}`: `{what}("{path}")`, computed in float32')
    lines += [f"- no {kind} file: {why}" for kind, why in model.missing.items()]
    if results["precision"] == "mixed_bfloat16":
        lines.append("- it was measured in mixed bfloat16; in float32 its answers differ slightly")
    return "\n".join([*lines, ""])


def _data(results: Mapping[str, Any]) -> str:
    data = results["data"]
    apart = "; they are not part of this folder" if data["local"] else ""
    lines = ["## Data\n", f"Learnt from: {_dataset(results)}{apart}."]
    if data["fingerprint"]:
        lines.append(f"Fingerprint of content, labels and split: `{data['fingerprint']}`.")
    if data["examples"]:
        counts = ", ".join(f"{part} {n}" for part, n in data["examples"].items())
        lines.append(f"Which example is in which part is in `split.csv`, with the SHA-256 of its file: {counts}.")
    elif data["missing"]:
        lines.append(f"No split: {data['missing']}.")
    return "\n".join([*lines, ""])


def _again(results: Mapping[str, Any]) -> str:
    data = " --data DATA" if results["data"]["local"] else ""
    return (
        "## Run it again\n\n```text\n"
        f"aifs-tune reproduce .{data}   # with the same seed and fresh ones: is the score within the noise?\n"
        f"aifs-tune run best.yaml{data}   # the best configuration alone\n"
        f"aifs-tune import .{data}   # all trials into a storage of your own, to go on from\n```\n"
    )


def _limits(results: Mapping[str, Any]) -> str:
    lines = ["## Limits\n", "- What was measured holds for data like these."]
    if results["noise"] is None:
        lines.append("- How much the score scatters over seeds was not measured.")
    else:
        noise = results["noise"]
        lines.append(
            f"- The score scatters by {noise['sd']:.2g} (standard deviation, {noise['n']} trainings of {noise['of']})."
        )
    if results["environment_of"] == "export":
        lines.append("- The environment is that of the export; that of the search was not recorded.")
    return "\n".join([*lines, ""])


def _files(about: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {description} |" for name, (_, description) in sorted(about.items())]
    return "\n".join(["## Files\n", "| file | what |", "|---|---|", *rows, ""])


def _citation(citation: Citation) -> str:
    people: Sequence[str] = [each.name for each in citation.authors]
    licence = f"Licence: [{citation.licence}]({citation.licence_url})." if citation.licence else ""
    told = f"By {', '.join(people)}; see `CITATION.cff`." if people else "No author was stated."
    return f"## Citation\n\n{told} {licence or 'No licence was stated: ask the authors before you use it.'}\n"
