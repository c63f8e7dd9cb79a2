"""The loss of multi-token prediction is its formula, never crosses the end of a document, and is learned."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from troth.model.attention import packed_attention
from troth.model.mtp import load_mtp
from troth.model.rope import Positions
from troth.system import ParallelTable, lay_out
from troth.train.batches import Batches
from troth.train.objective import look_ahead
from troth.train.optim import build_optimizers
from troth.train.parallel.network import Network
from troth.train.parallel.start import start_from
from troth.train.shards import open_shards
from troth.train.step import step


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 3))
def test_no_prediction_crosses_the_end_of_a_document(lengths, depth, hidden):
    """Tokens are numbered, so that each says where it stands."""
    documents = torch.tensor([number for number, length in enumerate(lengths) for _ in range(length)])[None]
    tokens = torch.arange(documents.shape[1])[None] + 100
    targets = torch.where(documents[:, 1:] == documents[:, :-1], tokens[:, 1:], -100)
    targets = torch.cat((targets, torch.tensor([[-100]])), 1)
    targets[:, :hidden] = -100  # tokens that are not to be learned, such as a question's
    ahead, asked = look_ahead(tokens, documents, targets, depth)
    for time in range(tokens.shape[1]):
        for k in range(1, depth + 1):
            known, wanted = time + k, time + k + 1
            inside = wanted < tokens.shape[1] and documents[0, wanted] == documents[0, time] and known >= hidden
            assert asked[0, k - 1, time] == (tokens[0, wanted] if inside else -100)
            if inside:
                assert ahead[0, k - 1, time] == tokens[0, known]


@pytest.fixture
def batches(tokenizer, shards):
    return Batches(open_shards(shards), {}, tokenizer, time=32, fill_in_middle=0.3, seed=0)


def network(config, train, dtype=torch.float64):
    return Network(config, train, lay_out(ParallelTable(), config, train, 1), dtype, None, "cpu").initialise(0)


def gradients(net, batch):
    parts = (torch.from_numpy(part) for part in (batch.inputs, batch.documents, batch.targets))
    loss = net.forward_backward(*parts, int((batch.targets >= 0).sum()))
    return loss, {weight.name: weight.whole.grad.clone() for weight in net.weights if weight.whole.grad is not None}


def plain_losses(net, batch):
    """Equations 21 to 25 as they read, row by row and depth by depth."""
    decoder, mtp, config = net.decoders[0], net.mtp, net.decoders[0].config
    count = (batch.targets >= 0).sum()
    main = ahead = 0.0
    for tokens, targets, documents in zip(batch.inputs, batch.targets, batch.documents, strict=True):
        tokens, targets, documents = (torch.from_numpy(part) for part in (tokens, targets, documents))
        attend = packed_attention(config, documents[None])
        positions = Positions.of(torch.arange(32)[None], config)
        h = decoder(tokens[None], attend)
        main = main + cross_entropy(decoder.logits(h[0]), targets, reduction="sum") / count
        for k, module in enumerate(mtp.layers.values(), 1):
            known = torch.cat((tokens[k:], tokens[:k]))  # what is told beyond the row's end is not asked for
            h = module(h, decoder.embed_tokens(known)[None] * config.hidden_size**0.5, positions, attend)
            for i in range(32 - k):
                if documents[i] == documents[i + k] and targets[i + k] >= 0:
                    ahead = ahead + cross_entropy(decoder.logits(h[0, i]), targets[i + k]) / count / len(mtp.layers)
    return main, ahead


@pytest.mark.parametrize(("depth", "recompute"), [(1, "none"), (2, "full"), (2, "selective")])
def test_the_gradient_is_that_of_the_formula_and_the_reported_loss_stays(tiny, recipe, batches, depth, recompute):
    config = tiny.model_copy(update={"mup_enabled": True, "rms_norm_eps": 1e-30})
    train = recipe(mtp_weight=0.3, mtp_depth=depth, activation_checkpointing=recompute)
    net = network(config, train)
    net.micro_batches = 2
    loss, found = gradients(net, batches.rows(12, 16))
    reported, _ = gradients(network(config, recipe()), batches.rows(12, 16))
    torch.testing.assert_close(loss, reported)
    plain = network(config, train)
    main, ahead = plain_losses(plain, batches.rows(12, 16))
    assert loss.item() == pytest.approx(main.item(), rel=1e-12)
    assert net.take_figures().tolist() == [pytest.approx(ahead.item(), rel=1e-12)]
    (main + 0.3 * ahead).backward()
    assert found.keys() == {weight.name for weight in plain.weights}
    for weight in plain.weights:
        torch.testing.assert_close(found[weight.name], weight.whole.grad, atol=1e-12, rtol=1e-7, msg=weight.name)


def test_it_is_learned(tiny, recipe, batches):
    train = recipe(steps=98, mtp_weight=0.3)
    net = network(tiny, train, torch.float32)
    optimizers = build_optimizers(net.weights, train.muon_lr, train.adam_lr, 0.0, torch.float32)
    losses = []
    for number in range(train.steps):
        if number in (0, train.steps - 1):
            with torch.no_grad():
                losses.append(plain_losses(net, batches.rows(396, 400))[1].item())
        step(net, optimizers, batches.rows(4 * number, 4 * number + 4), 1.0, train)
    assert losses[1] < 0.8 * losses[0]
    assert "layers.2.eh_proj.weight" in {weight.name for weight in optimizers[0].weights}


def test_a_step_reports_its_loss_beside_the_other(tiny, recipe, batches):
    train, tiny = recipe(mtp_weight=0.3), tiny.model_copy(update={"mup_enabled": True, "rms_norm_eps": 1e-30})
    net = network(tiny, train)
    expected = plain_losses(net, batches.rows(0, 4))[1].item()
    outcome = step(net, build_optimizers(net.weights, 0.02, 0.01, 0.0, torch.float64), batches.rows(0, 4), 1.0, train)
    assert outcome.figures == {"mtp_loss": pytest.approx(expected, rel=1e-12)}
    net = network(tiny, recipe())
    found = step(net, build_optimizers(net.weights, 0.02, 0.01, 0.0, torch.float64), batches.rows(0, 4), 1.0, recipe())
    assert found.figures == {}


def test_training_goes_on_with_the_modules_of_a_folder(run_training, recipe, tiny, tmp_path):
    """As many depths as there are; a further one begins as it would in a new network."""
    first = run_training(tmp_path / "first", recipe(steps=3, mtp_weight=0.3))
    expected = load_mtp(first).state_dict()
    net = network(tiny, recipe(mtp_weight=0.3, mtp_depth=2), torch.float32)
    start_from(first, net)
    found, new = net.mtp.state_dict(), network(tiny, recipe(mtp_weight=0.3, mtp_depth=2), torch.float32).mtp
    for name, tensor in new.state_dict().items():
        assert torch.equal(found[name], expected.get(name, tensor)), name
    start_from(first, network(tiny, recipe(), torch.float32))  # A network without such modules leaves them.


def test_weights_that_are_no_numbers_are_named(run_training, recipe, tiny, tmp_path):
    folder = run_training(tmp_path, recipe(steps=1))
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"model: layers.0.self_attn.*weight has numbers that are not finite"):
        start_from(folder, network(tiny, recipe(), torch.float32))
