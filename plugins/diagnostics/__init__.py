"""The built-in diagnostics: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl

SOURCE = "arXiv:2606.21126"
STALL = "Reddy, Safaai, Sabatini 2026"


@hookimpl
def bench_diagnostics() -> list[Component]:
    here = "bench_plugins.diagnostics"
    return [
        Component("scale_growth", f"{here}.scale_growth:ScaleGrowth",
                  "a: the residual stream explodes in one block", SOURCE),
        Component("reference_floor", f"{here}.reference_floor:ReferenceFloor",
                  "b: the reference gradient is at the numerical floor", SOURCE),
        Component("batch_stability", f"{here}.batch_stability:BatchStability",
                  "c: the gradients of all batches share a direction", SOURCE),
        Component("depth_utility", f"{here}.depth_utility:DepthUtility",
                  "d: the blocks help less than blocks left at random", SOURCE),
        Component("alignment", f"{here}.alignment:Alignment",
                  "Γ: cosine of the credit to the backprop gradient, per layer", SOURCE),
        Component("costate_alignment", f"{here}.costate_alignment:CostateAlignment",
                  "cosine of the credit to the costate in closed form (linear_lq)", SOURCE),
        Component("perturbation_correlation",
                  f"{here}.perturbation_correlation:PerturbationCorrelation",
                  "ρ: correlation of predicted and measured loss changes, per layer", SOURCE),
        Component("nudging", f"{here}.nudging:Nudging",
                  "loss change after a small step against the credit, per layer", SOURCE),
        Component("null_calibration", f"{here}.null_calibration:NullCalibration",
                  "Γ with fresh feedback: alignment by chance", SOURCE),
        Component("layer0_dominance", f"{here}.layer0_dominance:Layer0Dominance",
                  "Γ at layer 0 against the deep layers", SOURCE),
        Component("gradient_support", f"{here}.gradient_support:GradientSupport",
                  "share of samples whose reference gradient exceeds 1e-6", SOURCE),
        Component("loss_decrease", f"{here}.loss_decrease:LossDecrease",
                  "training loss of the first epoch minus the last", SOURCE),
        Component("drift", f"{here}.drift:Drift",
                  "distance of the weights from their initial values", SOURCE),
        Component("common_mode", f"{here}.common_mode:CommonMode",
                  "share of the credit that is the same for all samples", STALL),
        Component("participation", f"{here}.participation:Participation",
                  "participation ratio of the gates, effective rank of the states", STALL),
        Component("target_alignment", f"{here}.target_alignment:TargetAlignment",
                  "does an update move the outputs against their error?", "arXiv:2605.11911"),
        Component("projected_step", f"{here}.projected_step:ProjectedStep",
                  "the update against the backprop gradient, per group", STALL),
        Component("settledness", f"{here}.settledness:Settledness",
                  "change of the credit by twice the inference (ep, predictive_coding)"),
        Component("block_utility", f"{here}.block_utility:BlockUtility",
                  "accuracy lost without a block, or with its initial weights"),
        Component("step_cost", f"{here}.step_cost:StepCost",
                  "operations and stored activations of a step, beside those of bp"),
        Component("state_distance", f"{here}.state_distance:StateDistance",
                  "d_BP: distance of the states from those of backprop", SOURCE),
    ]  # fmt: skip
