"""report.html: one self-contained page with a cycle's figures and plots."""

import html
import io
import json
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
td:not(:first-child), th:not(:first-child) { text-align: right; } svg { max-width: 100%; height: auto; }
del { background: #fdd; } ins { background: #dfd; text-decoration: none; } .small { color: #666; font-size: .85rem; }
"""
_COLOURS = "#b5533c", "#2f6f8f"
_NAMES = "generation 0 (raw)", "generation 1 (curated)"
_ABOUT = (
    "<p>Two generations of one network, trained with the same recipe and budget: generation 0 on the documents as "
    "collected, generation 1 on the same documents after curation. The questions are worded as no page is.</p>"
)


def write_report(out: Path, scores: dict[str, Any]) -> Path:
    """Draw `scores` (see `run_cycle`) and the runs' metrics under `out` into `out/report.html`."""
    from troth.curate.integrate.ledger import read_table

    corrections = read_table(out / "curated" / "ledger", "corrections")
    parts = [
        "<h1>What curation did to the model</h1>",
        _ABOUT,
        _generations(scores),
        _svg(_draw_truth(scores)),
        "<h2>Calibration</h2>",
        _svg(_draw_calibration(scores)),
        "<h2>Wrong statements caught</h2>",
        _curation(scores["curation"]),
        "<h2>Training</h2>",
        _svg(_draw_losses(out)),
        "<h2>Which expert works on what</h2><p class=small>Share of tokens, generation 1, by layer.</p>",
        _svg(_draw_experts(scores["generations"][1]["experts"])),
        "<h2>Corrections</h2><p class=small>The first 60; all stand in the ledger.</p>",
        _corrections(corrections[:60]),
    ]
    path = out / "report.html"
    page = f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Troth: report</title><style>{_STYLE}</style>"
    path.write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")
    return path


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    cells += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(cells)}</table>"


def _generations(scores: dict[str, Any]) -> str:
    pair = scores["generations"]
    labels = {
        f"true, {pair[0]['untouched_count']} untouched facts": ("untouched", "{:.1%}"),
        f"true, {pair[0]['corrupted_count']} corrupted facts": ("corrupted", "{:.1%}"),
        "wrong answers on corrupted facts": ("wrong_on_corrupted", "{}"),
        "calibration error": ("calibration_error", "{:.3f}"),
        "bits per byte, held-out prose": ("bits_per_byte", "{:.3f}"),
    }
    shown = {label: entry for label, entry in labels.items() if pair[0][entry[0]] is not None}
    rows = [[label, *(form.format(g[key]) for g in pair)] for label, (key, form) in shown.items()]
    return _table(["", *_NAMES], rows)


def _curation(score: dict[str, Any]) -> str:
    rows = [[kind.replace("_", " "), str(a), str(b), f"{a / b:.0%}"] for kind, (a, b) in score["by_kind"].items()]
    caught, wrong, alarms, right = score["caught"], score["wrong"], score["false_alarms"], score["right"]
    rows.append(["all wrong statements", str(caught), str(wrong), f"{caught / wrong:.0%}"])
    rows.append(["false alarms on right statements", str(alarms), str(right), f"{alarms / right:.1%}"])
    return _table(["", "caught", "of", "share"], rows)


def _corrections(rows: list[dict[str, Any]]) -> str:
    items = []
    for row in rows:
        new = f" <ins>{html.escape(row['new'])}</ins>" if row["new"] else ""
        items.append(
            f"<li><del>{html.escape(row['old'])}</del>{new} <span class=small>{row['kind']}, "
            f"p(stated)={row['p_stated']:.2f}, {html.escape(row['source_id'])}</span></li>"
        )
    return f"<ul>{''.join(items)}</ul>"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw_truth(scores: dict[str, Any]) -> Any:
    figure, (axis,) = _figure(7, 3)
    for i, (name, colour) in enumerate(zip(_NAMES, _COLOURS, strict=True)):
        values = [scores["generations"][i]["untouched"], scores["generations"][i]["corrupted"]]
        bars = axis.bar([x + (i - 0.5) * 0.35 for x in range(2)], values, 0.33, label=name, color=colour)
        axis.bar_label(bars, fmt="{:.0%}")
    axis.axhline(0.25, color="#999", linewidth=0.8, linestyle=":")
    axis.set_xticks(range(2), ["untouched facts", "corrupted facts"])
    axis.set_ylim(0, 1.12)
    axis.set_ylabel("share of true answers")
    axis.legend(loc="upper center", ncols=2, fontsize=8)
    return figure


def _draw_calibration(scores: dict[str, Any]) -> Any:
    figure, (axis,) = _figure(4.5, 3.4)
    axis.plot([0, 1], [0, 1], color="#999", linewidth=0.8, linestyle=":")
    for generation, name, colour in zip(scores["generations"], _NAMES, _COLOURS, strict=True):
        points = generation["reliability"]
        axis.plot([p[0] for p in points], [p[1] for p in points], marker="o", color=colour, label=name)
    axis.set_xlabel("confidence")
    axis.set_ylabel("share of true answers")
    axis.legend(fontsize=8)
    return figure


def _draw_losses(out: Path) -> Any:
    figure, (loss, load) = _figure(9, 3, columns=2)
    for generation, (name, colour) in enumerate(zip(_NAMES, _COLOURS, strict=True)):
        lines = (out / f"gen-{generation}" / "run" / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        loss.plot([r["step"] for r in rows], [r["loss"] for r in rows], color=colour, label=name, linewidth=1)
        load.plot([r["step"] for r in rows], [r["load_entropy"] for r in rows], color=colour, linewidth=1)
    loss.set_xlabel("step")
    loss.set_ylabel("loss, nats a token")
    loss.legend(fontsize=8)
    load.set_xlabel("step")
    load.set_ylabel("expert load, entropy")
    return figure


def _draw_experts(experts: dict[str, list[list[float]]]) -> Any:
    layers = len(next(iter(experts.values())))
    figure, axes = _figure(3 * layers + 1.5, 2.6, columns=layers)
    for layer, axis in enumerate(axes):
        picture = axis.imshow([rows[layer] for rows in experts.values()], cmap="viridis", vmin=0, aspect="auto")
        axis.set_title(f"MoE layer {layer + 1}", fontsize=9)
        axis.set_xlabel("expert")
        axis.set_yticks(range(len(experts)), list(experts) if layer == 0 else [""] * len(experts), fontsize=8)
        figure.colorbar(picture, ax=axis, shrink=0.8)
    return figure
