"""`troth show`: figures of a system or of a model folder, on paper and for programs."""

import json
import subprocess
import sys
from functools import partial

import pytest

from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.system import load_system


@pytest.fixture
def show(run_here):
    return partial(run_here, "show")


def test_a_program_reads_every_figure():
    code = "from troth.cli.main import main; main()"
    command = [sys.executable, "-c", code, "show", "--system", "flagship", "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    parts = figures["parts"].values()
    assert figures["parameters"]["total"] == sum(part["total"] for part in parts) > 1e12
    assert figures["parameters"]["active"] == sum(part["active"] for part in parts) <= 40e9
    assert figures["length"] == 133_120
    flops = figures["flops_per_token"]
    assert flops["forward"] == pytest.approx(sum(flops["forward_by_part"].values()))
    assert flops["backward"] == 2 * flops["forward"]
    assert figures["weight_bytes"]["bfloat16"] == 2 * figures["parameters"]["total"]
    cache = figures["kv_cache_bytes"]
    assert cache["sequence"] == cache["per_token"] * 133_120
    # Sixteen full layers go on growing, 8 heads of 128 numbers for keys and values of two bytes each.
    assert cache["per_token_at_the_end"] == 16 * 2 * 8 * 128 * 2


def test_people_see_a_table(show):
    shown = show("--system", "mini", "--length", "1024").stdout
    assert "routed experts" in shown
    assert "1,024 tokens" in shown


def test_a_longer_sequence_costs_more_in_attention_alone(show):
    short, long = (
        json.loads(show("--system", "mini", "--length", length, "--json").stdout)["flops_per_token"]["forward_by_part"]
        for length in ("1024", "32768")
    )
    assert {part for part in short if long[part] != short[part]} == {"attention products"}
    assert long["attention products"] > 3 * short["attention products"]


def test_a_model_folder_is_shown_as_it_is(show, tmp_path):
    config = load_system("nano").model
    model = initialise(Decoder(config), 0)
    save_weights(model, to_hf_config(config, "float32", 0), tmp_path)
    figures = json.loads(show("--model", str(tmp_path), "--json").stdout)
    assert figures["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--length", "2049"], "--length 2049: the network has 2048 positions"),
        (["--model", "nowhere"], "nowhere: no such folder"),
        (["--set", "model.num_experts=1"], "num_experts_per_tok=2 exceeds num_experts=1"),
    ],
)
def test_a_mistake_is_one_line(show, arguments, told):
    done = show(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
