"""Folders in the formats of the releases: 8-bit blocks and 4-bit runs come out as transformers widens them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.model.config import Latent
from troth.model.families.configs import to_hf_config
from troth.model.families.quantised import from_fp8, from_mxfp4, to_mxfp4
from troth.model.families.weights import load_weights, save_weights


def test_four_bits_are_widened_as_in_transformers():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(256, (3, 8, 2, 16), generator=random, dtype=torch.uint8)
    scales = torch.randint(90, 160, (3, 8, 2), generator=random, dtype=torch.uint8)
    expected = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(from_mxfp4(blocks, scales).transpose(1, 2), expected)


def floats_of(codes: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
    """What codes of four bits stand for."""
    pairs = (codes[..., ::2] | codes[..., 1::2] << 4).unflatten(-1, (-1, 16))
    return from_mxfp4(pairs, (powers + 127).to(torch.uint8))


def test_what_was_in_four_bits_is_so_again():
    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(256, (64, 33, 16), generator=random, dtype=torch.uint8)
    weight = from_mxfp4(blocks, torch.randint(8, 240, (64, 33), generator=random, dtype=torch.uint8))
    assert torch.equal(floats_of(*to_mxfp4(weight.bfloat16())), weight)
    other = torch.randn(64, 96, generator=random)
    near = (floats_of(*to_mxfp4(other)) - other).unflatten(1, (-1, 32)).abs().amax(-1)
    assert (near <= other.unflatten(1, (-1, 32)).abs().amax(-1) / 4).all(), "8 goes to 6"
    assert not floats_of(*to_mxfp4(torch.zeros(2, 32))).any()
    codes, powers = to_mxfp4(torch.full((1, 32), 2.0**20), most=15)
    assert (codes == 7).all(), "beyond the largest scale: its largest number"
    assert powers.item() == 15


@pytest.mark.parametrize("shape", [(128, 256), (130, 40), (1, 300)])
def test_eight_bits_are_scaled_block_by_block(shape):
    weight = torch.randn(shape).to(torch.float8_e4m3fn)
    scale = torch.rand(-(-shape[0] // 128), -(-shape[1] // 128))
    widened = from_fp8(weight, scale)
    for row, column in ((0, 0), (shape[0] - 1, shape[1] - 1)):
        assert widened[row, column] == weight[row, column].float() * scale[row // 128, column // 128]


def test_a_folder_with_eight_bit_weights_and_a_further_layer_is_loaded(shape, random_network, tmp_path):
    config = shape(
        model_type="deepseek_v3", router_score="sigmoid", qk_norm="none", attention_gate=False, post_norms=False,
        rope_layers="all", mup_enabled=False, sliding_window=None, head_dim=12, num_key_value_heads=4,
        latent=Latent(kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8), hidden_size=160,
    )  # fmt: skip
    data = to_hf_config(config, "float32", eos_token_id=0)
    save_weights(random_network(config), data, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    expected = dict(tensors)
    for name, tensor in list(tensors.items()):
        if "_proj" in name:
            tensors[name] = tensor.to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.rand(-(-tensor.shape[0] // 128), -(-tensor.shape[1] // 128)) + 0.5
            expected[name] = from_fp8(tensors[name], tensors[f"{name}_scale_inv"])
    tensors["model.layers.4.eh_proj.weight"] = torch.zeros(160, 320)
    save_file(tensors, path)
    data["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    (tmp_path / "config.json").write_text(json.dumps(data))
    model, again = load_weights(tmp_path), tmp_path / "again"
    again.mkdir()
    save_weights(model, to_hf_config(config, "float32", eos_token_id=0), again)
    for name, tensor in load_file(again / "model.safetensors").items():
        assert torch.equal(tensor, expected[name]), name

    scale = next(name for name in tensors if name.endswith("_scale_inv"))
    save_file({name: tensor for name, tensor in tensors.items() if name != scale}, path)
    with pytest.raises(ValueError, match=f"tensor {scale} is missing"):
        load_weights(tmp_path)


def test_a_folder_with_four_bit_experts_is_loaded(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    theirs = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "gpt_oss", vocab_size=60, hidden_size=64, intermediate_size=32, num_hidden_layers=2, head_dim=8,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
            max_position_embeddings=64, sliding_window=8,
        ),
        dtype=torch.float32,
    ).eval()  # fmt: skip
    random = torch.Generator().manual_seed(1)
    packed = {}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(0, 0.3, generator=random)
            if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
                experts, inner, outer = parameter.shape
                blocks = torch.randint(256, (experts, outer, inner // 32, 16), generator=random, dtype=torch.uint8)
                scales = torch.randint(120, 126, (experts, outer, inner // 32), generator=random, dtype=torch.uint8)
                packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
                parameter.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if f"{name}_blocks" not in packed}
    save_file(kept | packed, path)
    data = json.loads((tmp_path / "config.json").read_text())
    data["quantization_config"] = {"quant_method": "mxfp4"}
    (tmp_path / "config.json").write_text(json.dumps(data))
    ours, tokens = load_weights(tmp_path), torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(tokens)), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def test_another_format_is_named(shape, random_network, tmp_path):
    config = shape()
    data = to_hf_config(config, "float32", eos_token_id=0)
    save_weights(random_network(config), data | {"quantization_config": {"quant_method": "gptq"}}, tmp_path)
    with pytest.raises(ValueError, match=r"quantization_config\.quant_method='gptq': only 'mxfp4' and 'fp8'"):
        load_weights(tmp_path)
