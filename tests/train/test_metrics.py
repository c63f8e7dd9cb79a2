"""What a report says, where it is written, and that it fits a terminal."""

import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from troth.model.counts import count_parts
from troth.train.metrics import Metrics, MetricsLog, model_flops_utilisation
from troth.train.progress import Progress, duration, line

REPORT = Metrics(
    step=10, steps=450_000, loss=2.5, grad_norm=1.0, lr_share=1.0, tokens_per_second=12345.6, load_entropy=0.97,
    dead_experts=0, seconds_per_step=2.0, mfu=0.4123, tokens=1000, seconds=20.0,
)  # fmt: skip


def test_utilisation_is_six_operations_a_weight_and_token_and_attention_besides(tiny):
    parts = count_parts(tiny)
    weights = sum(part.active for name, part in parts.items() if name not in ("embedding", "norms"))
    weights += tiny.vocab_size * tiny.hidden_size  # the head, tied to the embedding
    scores = 2 * (2 * 2 * tiny.num_attention_heads * tiny.head_dim) * (8 + 1) / 2  # two layers, 4.5 tokens seen
    per_token = 6 * weights + 3 * scores
    assert model_flops_utilisation(tiny, 8, 1000, peak=1e9, ranks=4) == pytest.approx(per_token * 1000 / 4e9)


def test_reports_are_dropped_after_the_step_that_a_run_goes_on_from(tmp_path):
    log = MetricsLog(tmp_path, 0)
    assert log.seconds == 0
    for step in (10, 20, 30):
        log.write(replace(REPORT, step=step, seconds=2.0 * step, mfu=None))
    log.close()
    log = MetricsLog(tmp_path, 20)
    assert log.seconds == 40
    log.close()
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["mfu"]) for row in lines] == [(10, None), (20, None)]


def test_the_largest_report_fits_120_columns(monkeypatch):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    report = replace(
        REPORT, step=449_999, steps=999_999, loss=12.345, tokens_per_second=123_456_789.0, dead_experts=24_576,
        seconds_per_step=20.0,
    )  # fmt: skip
    assert line(report) == (
        "step 449999/999999  loss 12.345  123.5M tokens/s  MFU 41.2%  load 0.97, 24576 dead  127 d 07 h left"
    )
    told = line(replace(report, figures={"mtp_loss": 12.345}))
    assert told == line(report).replace("load 0.97, 24576 dead", "mtp 12.35  24576 dead")
    with Progress("generation 0") as show:
        show(report)
    assert "127 d 07 h left" in console.file.getvalue()


def test_the_loss_of_multi_token_prediction_is_shown_and_written(tmp_path):
    report = replace(REPORT, figures={"mtp_loss": 3.5})
    assert "  mtp 3.50  load 0.97  " in line(report)
    log = MetricsLog(tmp_path, 0)
    log.write(report)
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["mtp_loss"] == 3.5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_named_with_the_file_to_the_last(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.file.close()
    log.file = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(OSError, match=r"/dev/full: step \d+ could not be reported: .*No space left"):
        log.write(REPORT)
    with pytest.raises(OSError, match=r"/dev/full: the last report could not be written: .*No space left"):
        log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_for_tensorboard_alone_is_told_as_well(tmp_path):
    """Its file may need room where the other has some left; no thread fails besides and prints a traceback."""
    threads = threading.active_count()
    log = MetricsLog(tmp_path, 0)
    assert threading.active_count() == threads
    log.events.file.close()
    log.events.file = open("/dev/full", "ab")  # noqa: SIM115
    with pytest.raises(OSError, match=r"metrics\.jsonl: step \d+ could not be reported: .*No space left"):
        log.write(REPORT)
    with pytest.raises(OSError, match=r"metrics\.jsonl: the last report could not be written: .*No space left"):
        log.close()


def test_tensorboard_reads_what_was_reported_and_forgets_what_a_run_went_back_behind(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = []
    for first, steps in ((0, (10, 20, 30)), (20, (30,))):
        logs.append(MetricsLog(tmp_path, first))
        for step in steps:
            logs[-1].write(replace(REPORT, step=step, loss=step + first, mfu=None, figures={"mtp_loss": 1.5}))
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(10, 10), (20, 20), (30, 50)]
    assert "mtp_loss" in board.Tags()["scalars"]
    assert not {"mfu", "step", "steps"} & set(board.Tags()["scalars"])
    for log in logs:
        log.close()


@pytest.mark.parametrize(("seconds", "told"), [(5, "0:05"), (185.7, "3:05"), (7_380, "2 h 03"), (439_200, "5 d 02 h")])
def test_duration(seconds, told):
    assert duration(seconds) == told
