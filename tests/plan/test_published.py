"""Published runs: what a row says, in whatever convention, becomes a run and its seconds a step."""

import csv
from pathlib import Path

import pytest

from troth.plan.published import NEEDED, Published, read_published
from troth.plan.run import CHEAP, Run


def read(folder: Path, **cells: str) -> Published:
    """One row, of an 8-billion-parameter Llama on 64 H100s where `cells` say nothing else."""
    row = {"source": "somebody@v25.04.02", "model": "Llama 3.1 8B", "seq": "8192", "gpu": "H100-80GB-SXM",
           "n_gpus": "64", "tp": "1", "pp": "1", "cp": "2", "global_batch_sequences": "1024", "micro_batch": "1",
           "precision": "bf16", "notes": "", "step_time_s": "12.33"} | cells  # fmt: skip
    path = folder / "published.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({*NEEDED, *row}))
        writer.writeheader()
        writer.writerow(row)
    return read_published(path)[0]


def test_a_row_becomes_a_run(tmp_path: Path) -> None:
    row = read(tmp_path)
    assert row.run is not None
    assert (row.seconds, row.run.dp, row.run.cp, row.run.micro_batches) == (12.33, 32, 2, 32)
    assert row.run.date == pytest.approx(2025.29, abs=0.01)
    assert not row.recompute_said


def test_tokens_a_second_and_tflops_say_the_same(tmp_path: Path) -> None:
    tokens = 1024 * 8192
    rate = read(tmp_path, step_time_s="", notes=f"tps_per_gpu={tokens / 64 / 12.33:,.3f}")
    assert rate.seconds == pytest.approx(12.33, rel=1e-4)
    # 8.03e9 parameters less the embedding; a full square of scores, as this source counts.
    operations = 6 * (7.504e9 + 32 * 32 * 256 * 8192)
    work = read(tmp_path, step_time_s="", tflops_per_gpu=f"{operations * tokens / 64 / 12.33 / 1e12}")
    assert work.seconds == pytest.approx(12.33, rel=1e-3)
    causal = read(tmp_path, step_time_s="", tflops_per_gpu="500", source="NVIDIA-NeMo/Megatron-Bridge")
    full = read(tmp_path, step_time_s="", tflops_per_gpu="500")
    assert causal.seconds < full.seconds
    assert read(tmp_path, step_time_s="", tflops_per_gpu="500", source="arXiv 2407.21783").seconds == causal.seconds
    again = {"recompute": "full", "tflops_per_gpu": "500", "step_time_s": ""}
    hardware = read(tmp_path, **again, notes="TFLOP/s on HARDWARE flops")
    assert hardware.seconds == pytest.approx(4 / 3 * read(tmp_path, **again).seconds)


def test_a_table_is_read_however_a_program_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    plain = read(tmp_path)
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_published(path) == [plain]
    assert read(tmp_path, vpp="-", ep="NaN", micro_batch=" 1 ").run == plain.run
    assert read(tmp_path, gpu="NVIDIA H100 80GB HBM3", model="meta-llama/Llama-3.1-8B-Instruct").run == plain.run
    for gpu in ("H100 SXM", "DGX-H100", "H100-SXM5-80GB", "h100_80gb"):
        assert read(tmp_path, gpu=gpu).run == plain.run
    speed = {"step_time_s": "", "tflops_per_gpu": ""}
    assert read(tmp_path, **speed, mfu="0.4").seconds == pytest.approx(read(tmp_path, **speed, mfu="40").seconds)
    assert read(tmp_path, **speed, mfu="40%").seconds == read(tmp_path, **speed, mfu="40").seconds


@pytest.mark.parametrize(
    ("text", "precision"),
    [("fp16", "bf16"), ("", "bf16"), ("amp_fp8", "float8"), ("float8", "float8"), ("mxfp8", "float8"),
     ("fp8-cs (fp8-mx)", "float8"), ("nvfp4", "float4"), ("float4", "float4"), ("fp32", "float32")],
)  # fmt: skip
def test_precisions_by_their_names(tmp_path: Path, text: str, precision: str) -> None:
    run = read(tmp_path, precision=text).run
    assert run is not None
    assert run.precision == precision


def test_pipelines_that_a_report_says_little_of_are_interleaved(tmp_path: Path) -> None:
    cells = {"model": "GPT-3 175B", "n_gpus": "512", "tp": "4", "pp": "8", "cp": "1", "vpp": ""}

    def chunks(source: str, **more: str) -> int:
        run = read(tmp_path, **cells | more, source=source).run
        assert run is not None
        return run.vpp

    assert chunks("mlcommons/training_results_v4.1:NVIDIA/results/eos_n64_ngc24.09_nemo") == 6  # as its others say
    assert chunks("arXiv 2407.21783", model="Llama 3.1 405B", pp="16") == 4
    assert chunks("mlcommons/training_results_v4.1", vpp="4") == 4
    assert chunks("mlcommons/training_results_v4.1", vpp="4", pp="1") == 1
    assert chunks("NVIDIA-NeMo/Megatron-Bridge:docs/performance-summary.md") == 1  # whose tables have a column for it
    assert chunks("pytorch/torchtitan:benchmarks/llama3_h100_202412_torchtitan.md", pp="4") == 1


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"gpu": "TPUv4"}, "GPU TPUv4 is unknown"),
        ({"gpu": "H100 NVL"}, "GPU H100 NVL is unknown"),
        ({"global_batch_sequences": ""}, "global_batch_sequences not said"),
        ({"step_time_s": ""}, "no speed said"),
        ({"step_time_s": "", "notes": "tps_per_gpu=0"}, "no speed said"),
        ({"step_time_s": "", "notes": "tps_per_gpu=, see below"}, "no speed said"),
        ({"model": "A hybrid 9B"}, "layers that are no attention are not modelled"),
        ({"model": "Something new"}, "the network's sizes are not said"),
        ({"model": "Llama 3.1 8B [LoRA]"}, "adapters are trained, not the weights"),
        ({"notes": "from memory, verify"}, "a lead, given from memory"),
        ({"cp": "3"}, "tp, pp and cp do not make up the GPUs"),
        ({"pp": "2", "vpp": "1e30"}, "a pipeline of more parts than layers"),
        ({"global_batch_sequences": "8", "micro_batch": ""}, "the micro-batch does not divide a rank's share"),
        ({"global_batch_sequences": "100"}, "the micro-batch does not divide a rank's share"),
        ({"n_gpus": "many"}, "n_gpus='many' is no number"),
        ({"n_gpus": "-64"}, "n_gpus='-64': expected a number above 0, or nothing"),
        ({"step_time_s": "inf"}, "step_time_s='inf': expected a number above 0, or nothing"),
        ({"n_gpus": "64.5"}, "n_gpus='64.5': expected a whole number"),
        ({"micro_batch": "0.5"}, "micro_batch='0.5': expected a whole number"),
    ],
)
def test_what_a_row_leaves_open_is_its_reason(tmp_path: Path, cells: dict[str, str], reason: str) -> None:
    row = read(tmp_path, **cells)
    assert row.run is None
    assert row.reason == reason


def test_a_network_is_read_off_its_row_where_nobody_knows_its_name(tmp_path: Path) -> None:
    sizes = {"layers": "40", "hidden": "5120", "heads": "40", "ffn": "13824", "vocab": "32000"}
    row = read(tmp_path, model="Something new", params_total="13015864320", **sizes)
    assert row.run is not None
    assert (row.run.dimensions.matrices, row.run.dimensions.tied) == (3, False)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text("source,model\nx,y\n")
    with pytest.raises(ValueError, match="no column seq, gpu, n_gpus"):
        read_published(path)


def test_what_software_did_is_read_from_its_release_and_notes(tmp_path: Path) -> None:
    moe = {"model": "DeepSeekV3", "source": "NVIDIA-NeMo/Megatron-Bridge", "gpu": "GB200-186GB", "n_gpus": "256",
           "pp": "4", "vpp": "4", "cp": "1", "ep": "64", "precision": "mxfp8"}  # fmt: skip

    def run(notes: str, **cells: str) -> Run:
        row = read(tmp_path, **moe | cells, notes=notes)
        assert row.run is not None
        return row.run

    spring, summer = run("container 26.04 NeMo"), run("container 26.06 NeMo")
    assert (spring.graphs, spring.overlap, spring.sends_once) == ("attention", False, True)
    assert (summer.graphs, summer.overlap) == ("step", True)
    assert (summer.ahead, summer.recompute) == (1, 0.0)
    gpt = {"model": "GPT OSS 120B", "n_gpus": "64", "pp": "1", "vpp": "1"}
    assert run("container 26.06 NeMo", **gpt).graphs == "step"
    assert run("container 26.06.01 NeMo", **gpt).graphs == "attention"  # it had lost what is fused
    assert run("container 26.04 NeMo", **gpt | {"precision": "bf16"}).recompute == CHEAP
    nodes = {"gpu": "H100-80GB-SXM", "n_gpus": "1024", "pp": "8"}
    assert run("container 25.09 NeMo", **nodes).overlap
    assert not run("container 26.02 NeMo", **nodes).overlap  # its recipes had taken HybridEP instead
    qwen = {"model": "Qwen3-235B-A22B", "source": "somebody", "vpp": "1"} | nodes
    plain = run("dispatcher A2A", **qwen)
    assert (plain.sends_once, plain.overlap, plain.imbalance) == (False, False, 1.0)
    assert run("dispatcher DeepEP", **qwen).sends_once
    assert run("dispatcher DeepEP +1f1b overlap", **qwen).overlap
    assert run("dropless real routing", **qwen).imbalance > 1
    assert run("HybridEP; CUDA graphs: attn moe_router", **qwen).graphs == "attention"
    zoo = {"source": "yanring/Megatron-MoE-ModelZoo:best_practice/qwen3/readme.md"}
    racks = run("", **qwen | zoo | {"gpu": "GB200"})
    assert (racks.sends_once, racks.graphs) == (True, "attention")
    assert not run("", **qwen | zoo).sends_once


def test_how_experts_are_spread_where_a_row_says_nothing(tmp_path: Path) -> None:
    def run(**cells: str) -> Run:
        row = read(tmp_path, **{"tp": "4", "cp": "1", "ep": "8"} | cells)
        assert row.run is not None
        return row.run

    winter, spring = "dgxc-benchmarking@v25.02.02:grok1", "dgxc-benchmarking@v25.05.05:grok1"
    grok = {"model": "Grok-1 314B", "n_gpus": "512", "pp": "8", "vpp": "8", "cp": "2"}
    assert run(**grok, source=winter).etp == 4  # as Megatron did by then
    assert run(**grok, source=spring).etp == 1
    rack = {"model": "Grok-1 314B", "gpu": "GB200 NVL72", "n_gpus": "128", "source": spring}
    assert run(**rack, notes="ETP=4").etp == 4
    assert run(**rack).etp == 4  # whole experts do not fit
    assert run(**rack, pp="8", vpp="8").etp == 1
    gpt = {"model": "GPT-OSS 120B", "tp": "1", "ep": "", "source": "NVIDIA-NeMo/Automodel"}
    assert run(**gpt, notes="kernels TE + DeepEP").ep == 64  # DeepEP has no work with all experts on every rank
    assert run(**gpt).ep == 1
    assert not run(**gpt).dimensions.clamped  # its gates are compiled to one kernel
    assert run(**gpt | {"source": "somebody"}).dimensions.clamped


def test_torchtitans_pipelines_have_as_many_micro_batches_as_stages(tmp_path: Path) -> None:
    cells = {"pp": "8", "tp": "8", "cp": "1", "n_gpus": "512", "global_batch_sequences": "256", "micro_batch": ""}
    titan = read(tmp_path, **cells, source="pytorch/torchtitan:benchmarks/llama3_h100_202412_torchtitan.md")
    assert titan.run is not None
    assert (titan.run.micro_batch, titan.run.micro_batches) == (4, 8)
    told = {"global_batch_sequences": "", "notes": "tps_per_gpu=100; local_batch=32"}
    assert read(tmp_path, **cells | told, source=titan.source).run == titan.run
    assert titan.run.date == pytest.approx(2024.96, abs=0.01)
