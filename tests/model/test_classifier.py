"""A classifier's folder loads in transformers and says there what it says here, and the other way round."""

import json

import pytest
import torch
from safetensors.torch import load_file

from troth.model.classifier import Classifier
from troth.model.families.classifiers import load_classifier, save_classifier

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 64, "num_experts_per_tok": 2, "head_dim": 8,
}  # fmt: skip
FAMILIES = {
    "mixtral": {"num_local_experts": 5, "sliding_window": 8},
    "qwen3_moe": {"num_experts": 5, "moe_intermediate_size": 12, "norm_topk_prob": True},
    "gpt_oss": {"num_local_experts": 5, "sliding_window": 8},
    "deepseek_v3": {
        "num_key_value_heads": 4, "n_routed_experts": 6, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 12,
        "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12,
        "first_k_dense_replace": 1, "n_shared_experts": 1,
    },
}  # fmt: skip
LABELS = {0: "entailment", 1: "neutral", 2: "contradiction"}
LENGTHS = torch.tensor([1, 7, 20])


def theirs(family, labels=LABELS):
    """A classifier of transformers in which no weight is zero or one."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = SIZES | FAMILIES[family]
    if family == "deepseek_v3":
        sizes.pop("head_dim")
    config = AutoConfig.for_model(family, **sizes, id2label=labels, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0, 0.3, generator=generator)
    return model


def texts():
    """Rows of tokens of several lengths, padded with token 0."""
    random = torch.Generator().manual_seed(0)
    return torch.nn.utils.rnn.pad_sequence(
        [torch.randint(1, 300, (int(size),), generator=random) for size in LENGTHS], batch_first=True
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_transformers_says_the_same(family, tmp_path):
    model = theirs(family)
    model.save_pretrained(tmp_path)
    ours = load_classifier(tmp_path)
    assert ours.labels == tuple(LABELS.values())
    rows = texts()
    with torch.no_grad():
        expected = torch.stack(
            [model(row[None, :size]).logits[0] for row, size in zip(rows, LENGTHS, strict=True)]
        )
        logits = ours(rows, LENGTHS)
    assert logits.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_a_folder_of_ours_says_the_same_in_transformers(family, tmp_path):
    from transformers import AutoModelForSequenceClassification

    theirs(family).save_pretrained(tmp_path / "first")
    save_classifier(load_classifier(tmp_path / "first"), tmp_path / "second", eos_token_id=0)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "second", dtype=torch.float32).eval()
    assert again.config.id2label == LABELS
    ours, row = load_classifier(tmp_path / "second"), texts()[2:]
    with torch.no_grad():
        torch.testing.assert_close(ours(row, LENGTHS[2:]), again(row).logits, atol=1e-4, rtol=0)


def test_the_native_family_comes_back_as_it_was(shape, random_network, tmp_path):
    config = shape()
    model = Classifier(config, ("no", "yes"))
    model.decoder.load_state_dict(random_network(model.decoder.config).state_dict())
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(4))
    save_classifier(model, tmp_path, eos_token_id=0)
    again = load_classifier(tmp_path)
    rows = texts()
    with torch.no_grad():
        assert torch.equal(model.eval()(rows, LENGTHS), again(rows, LENGTHS))
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")


def test_two_labels_without_names(tmp_path):
    theirs("mixtral", labels={0: "LABEL_0", 1: "LABEL_1"}).save_pretrained(tmp_path)
    assert load_classifier(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_a_language_model_is_no_classifier(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mixtral", **(SIZES | FAMILIES["mixtral"]))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"score\.weight is missing"):
        load_classifier(tmp_path)


def test_labels_that_are_not_numbered_are_named(tmp_path):
    theirs("mixtral").save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(data | {"id2label": {"1": "yes", "2": "no"}}))
    with pytest.raises(ValueError, match="id2label"):
        load_classifier(tmp_path)
