"""A run with every part of the recipe: stopped and continued as at once, and the drafting modules beside its model."""

import pytest
import torch

from troth.model.mtp import load_mtp

from .test_trainer import Killed, outcome, stop_at


def test_a_run_with_the_whole_recipe_goes_on_as_at_once(run_training, recipe, tmp_path):
    settings = recipe(
        schedule="cosine", lr_floor=0.1, batch_ramp=0.6, batch_ramp_start=32, sequence_balance=1e-3, mtp_weight=0.3,
        mtp_decay_weight=0.1,
    )  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_training(whole, settings)
    for step in (5, 11):
        with pytest.raises(Killed):
            run_training(stopped, settings, stop_at(step))
    run_training(stopped, settings)
    assert outcome(stopped) == outcome(whole)
    expected, found = (load_mtp(run / "model").state_dict() for run in (whole, stopped))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert expected["layers.2.layer.mlp.expert_bias"].any()
