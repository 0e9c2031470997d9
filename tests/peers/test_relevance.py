"""Relevance propagation and DeepLIFT, beside zennit and captum.

For LRP both are given the network behind the preprocessing, which relevance passes unchanged in ours.
"""

import captum.attr
import keras
import numpy as np
import pytest
import torch
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import SpecialFirstLayerMapComposite, layer_map_base
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus
from zennit.types import Convolution, Linear

from helpers import relevance

from .networks import Scale, channels_first, channels_last, digit_case


def zennit_relevance(case, rules, first=None, epsilon=1e-6):
    """Relevance of the pixels; `rules` are pairs (type of layer, rule), `first` the rule of the first convolution.

    `epsilon` is that of sums, skip connections and average pooling, where ours uses the one of the epsilon rule.
    """
    first_map = [] if first is None else [(Convolution, first)]
    composite = SpecialFirstLayerMapComposite(
        layer_map_base(epsilon) + rules, first_map, canonizers=[SequentialMergeBatchNorm()]
    )
    pixels = case.twin.preprocess(case.tensor).detach().requires_grad_()
    with composite.context(case.twin.network) as network:
        logits = network(pixels)
        start = torch.zeros_like(logits)
        rows = range(len(logits))
        start[rows, case.targets] = logits.detach()[rows, case.targets]
        [found] = torch.autograd.grad(logits, pixels, start)
    return channels_last(found)


def box(case):
    """Their rule for pixels from 0 to 255, as the network sees them."""
    low, high = (float(case.twin.preprocess(torch.tensor(value))) for value in (0.0, 255.0))
    return ZBox(low, high)


GOOD_PRACTICE = [(Convolution, Gamma(0.25)), (Linear, Epsilon(1e-6))]
RULES = {  # options of ours, rules of theirs, their rule for the first layer
    "epsilon": (dict(rule="epsilon", epsilon=1e-2), [(Linear, Epsilon(1e-2))], None),
    "z⁺": (dict(rule="zplus"), [(Linear, ZPlus())], None),
    "gamma": (dict(rule="gamma", gamma=0.4), [(Linear, Gamma(0.4))], None),
    "α2 β1": (dict(rule="alpha_beta"), [(Linear, AlphaBeta(stabilizer=1e-9))], None),
    "composite, flat": (dict(), GOOD_PRACTICE, lambda case: Flat()),
    "composite, box": (dict(first="box"), GOOD_PRACTICE, box),
    # By default theirs counts the squared bias among what is shared, although no pixel gets that share.
    "z⁺, w²": (dict(rule="zplus", first="w2"), [(Linear, ZPlus())], lambda case: WSquare(zero_params="bias")),
}


@pytest.mark.parametrize("name", RULES)
def test_lrp_of_zennit(case, compare, name):
    """zennit adds 1e-6 to every denominator, ours only in the epsilon rule and in sums. That shows where what is
    divided is small, as negative parts are: with α2 β1 by 2e-4, so there theirs is made to add 1e-9."""
    options, rules, first = RULES[name]
    ours = relevance.lrp(case.model, case.pictures, case.targets, **options)
    theirs = zennit_relevance(case, rules, first and first(case), options.get("epsilon", 1e-6))
    compare.same(f"LRP {name}", case.name, "zennit", ours, theirs)


def test_deep_taylor_of_zennit(case, compare):
    ours = relevance.deep_taylor(case.model, case.pictures, case.targets)
    theirs = zennit_relevance(case, [(Linear, ZPlus())], box(case))
    compare.same("deep Taylor", case.name, "zennit", ours, theirs, "z⁺, box")


def captum_relevance(case, rule):
    network = case.with_copy().twin.network
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.rule = rule()
    return channels_last(captum.attr.LRP(network).attribute(case.twin.preprocess(case.tensor), case.classes))


def without_biases(case):
    model = keras.models.clone_model(case.model)
    model.set_weights([0 * weight if weight.ndim == 1 else weight for weight in case.model.get_weights()])
    case = case.with_copy()._replace(model=model)
    for module in case.twin.network.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return case


def test_lrp_of_captum(compare):
    """captum's gamma and z⁺ rules change the weights and leave the bias as it is: z = Σ x (w + γ w⁺) + b and
    Σ x w⁺ + b, where ours and zennit's have b + γ b⁺ and b⁺. So without biases all agree. (They are for inputs that
    are not negative, as digits and everything behind a ReLU are.)"""
    case = digit_case()
    rules = {
        "epsilon": (dict(rule="epsilon", epsilon=1e-2), lambda: EpsilonRule(1e-2)),
        "gamma": (dict(rule="gamma", gamma=0.4), lambda: GammaRule(0.4)),
        "z⁺": (dict(rule="zplus"), Alpha1_Beta0_Rule),
    }
    bare = without_biases(case)
    for name, (options, rule) in rules.items():
        ours = relevance.lrp(bare.model, case.pictures, case.targets, **options)
        compare.same(f"LRP {name}", case.name, "captum", ours, captum_relevance(bare, rule), "without biases")
        ours, theirs = relevance.lrp(case.model, case.pictures, case.targets, **options), captum_relevance(case, rule)
        if name == "epsilon":
            compare.same(f"LRP {name}", case.name, "captum", ours, theirs)
        else:
            remark = "theirs leaves the bias out of the rule"
            compare.alike(f"LRP {name}", case.name, "captum", ours, theirs, 0.9, remark)


class Pool(nn.Module):
    """Max-pooling that captum does not know as such: it passes the gradient."""

    def forward(self, x):
        return nn.functional.max_pool2d(x, 2)


def test_deep_lift(case, compare):
    """captum's rule for max-pooling is lost where the pooling comes right after a ReLU: the ReLU has taken down the
    gradient before the pooling's hook changes it, so pooling passes a plain gradient, and the contributions do not add
    up to the difference of the scores. With anything in between, here a multiplication by 1, all is well."""
    baseline = np.roll(case.pictures, 1, 0)

    def captum_deep_lift(twin):
        found = captum.attr.DeepLift(twin).attribute(case.tensor, channels_first(baseline), case.classes)
        return channels_last(found)

    def apart(twin):
        for name in ("relu1", "last"):
            setattr(twin.network, name, nn.Sequential(nn.ReLU(), Scale(1, 0)))
        return twin

    ours = relevance.deep_lift(case.model, case.pictures, case.targets, baseline=baseline)
    theirs = captum_deep_lift(apart(case.with_copy().twin))
    compare.same("DeepLIFT", case.name, "captum", ours, theirs, "pooling not right after ReLU in theirs")
    if case.name == "mnist_cnn":
        theirs = captum_deep_lift(case.with_copy().twin)
        twin = case.with_copy().twin
        twin.network.pool1, twin.network.pool2 = Pool(), Pool()
        rows = range(len(ours))
        scores, others = (case.model(x).numpy()[rows, case.targets] for x in (case.pictures, baseline))
        gaps = [np.abs(x.sum((1, 2, 3)) / (scores - others) - 1).max() for x in (theirs, ours)]
        remark = f"theirs has no rule for pooling right after ReLU; gap up to {gaps[0]:.0%}, ours {gaps[1]:.0e}"
        compare.differs("DeepLIFT", case.name, "captum", ours, theirs, captum_deep_lift(twin), remark)
