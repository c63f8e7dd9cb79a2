"""Modules of multi-token prediction: what they may know, and that they come back from beside a decoder."""

import pytest
import torch

from troth.model.attention import packed_attention
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import load_weights, save_weights
from troth.model.initialise import initialise
from troth.model.mtp import FOLDER, MTP, load_mtp, save_mtp
from troth.model.rope import Positions


@pytest.fixture
def drafting(shape, random_network):
    """A decoder, and two modules behind it."""
    config = shape()
    mtp = initialise(MTP(config, 2), 0)
    for module in (mtp, *mtp.moe_layers()):
        for name, parameter in module.named_parameters():
            if name.endswith("router.gate.weight"):
                torch.nn.init.normal_(parameter, 0, 0.3, generator=torch.Generator().manual_seed(1))
    return random_network(config), mtp.eval()


def states(decoder, mtp, tokens):
    """[depth] of states [time, hidden] where depth k is told the token k further on."""
    known = tokens[None, : -len(mtp.layers)]
    positions = torch.arange(known.shape[1])[None]
    attend = packed_attention(decoder.config, torch.zeros_like(known))
    ahead = torch.stack([tokens[k : k + known.shape[1]] for k in range(1, len(mtp.layers) + 1)])
    h = decoder(known, attend, positions)
    embedded = decoder.embed_tokens(ahead[None])
    return [h[0] for h in mtp(h, embedded, Positions.of(positions, decoder.config), attend)]


@torch.no_grad()
def test_a_depth_knows_as_many_tokens_more_and_none_beyond(drafting):
    tokens = torch.arange(20) * 7 % 390
    before = states(*drafting, tokens)
    tokens[12] += 1
    for depth, (old, new) in enumerate(zip(before, states(*drafting, tokens), strict=True), 1):
        torch.testing.assert_close(old[: 12 - depth], new[: 12 - depth])
        assert not torch.allclose(old[12 - depth], new[12 - depth])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_come_back_from_a_folder_in_which_the_decoder_is_as_before(drafting, tmp_path, dtype):
    decoder, mtp = drafting
    mtp.moe_layers()[0].expert_bias += 1 / 3
    save_weights(decoder, to_hf_config(decoder.config, "float32", 0), tmp_path)
    assert load_mtp(tmp_path) is None
    save_mtp(mtp.state_dict().items(), tmp_path, dtype)
    loaded = load_mtp(tmp_path)
    assert loaded.state_dict().keys() == mtp.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        kept = torch.float32 if name.endswith("expert_bias") else dtype
        assert torch.equal(tensor, mtp.state_dict()[name].to(kept).float()), name
    assert load_mtp(tmp_path, torch.bfloat16).layers["4"].eh_proj.weight.dtype == torch.bfloat16
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert load_weights(tmp_path).config == decoder.config
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, decoder.logits(decoder(tokens)), atol=1e-4, rtol=1e-3)


def test_a_damaged_folder_is_named(drafting, tmp_path):
    decoder, mtp = drafting
    save_weights(decoder, to_hf_config(decoder.config, "float32", 0), tmp_path)
    save_mtp(((name, t) for name, t in mtp.state_dict().items() if "hnorm" not in name), tmp_path, torch.float32)
    with pytest.raises(ValueError, match=rf"{FOLDER}/model.safetensors: tensor layers.4.hnorm.weight is missing"):
        load_mtp(tmp_path)


def test_layers_are_numbered_on(shape):
    config = shape()
    names = {name for name, _ in MTP(config, 2).named_parameters()}
    assert {name.split(".")[1] for name in names} == {"4", "5"}
    assert not names & {name for name, _ in Decoder(config).named_parameters()}
