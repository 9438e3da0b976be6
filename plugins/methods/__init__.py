"""The built-in learning rules: a table of descriptors, without torch.

The source of a rule is a section of its docstring (`bench_core.registry.card`).
"""

from bench_core.api import Component, hookimpl


@hookimpl
def bench_methods() -> list[Component]:
    here = "bench_plugins.methods"
    return [
        Component("bp", f"{here}.bp:Backprop", "backpropagation, end to end"),
        Component("dfa", f"{here}.dfa:DirectFeedbackAlignment",
                  "output error through fixed random matrices"),
        Component("target_projection", f"{here}.target_projection:TargetProjection",
                  "the label through fixed random matrices"),
        Component("error_decorrelation", f"{here}.error_decorrelation:ErrorDecorrelation",
                  "states decorrelated from the broadcast output score"),
        Component("fa", f"{here}.fa:FeedbackAlignment",
                  "exact top credit, then fixed random matrices block by block"),
        Component("state_bridge", f"{here}.state_bridge:StateBridge",
                  "credit through a learned prediction of the last state"),
        Component("credit_bridge", f"{here}.credit_bridge:CreditBridge",
                  "credit as the gradient of a learned value function"),
        Component("ep", f"{here}.ep:EquilibriumPropagation",
                  "nudged relaxation of a feed-forward energy"),
        Component("vec", f"{here}.vec:Vec",
                  "vector credit, fitted to measured changes of the loss"),
        Component("perlayer_vector", f"{here}.perlayer_vector:PerLayerVector",
                  "null: one trained vector per state for all samples"),
        Component("blend", f"{here}.blend:Blend",
                  "dfa, then dfa mixed with an auxiliary credit or one of its nulls"),
        Component("random_credit", f"{here}.random_credit:RandomCredit",
                  "null: an untrained network of state and depth"),
        Component("shuffled_credit", f"{here}.shuffled_credit:ShuffledCredit",
                  "null: true credit, given to other samples"),
        Component("noise_credit", f"{here}.noise_credit:NoiseCredit",
                  "null: Gaussian noise with the norms of dfa's credit"),
        Component("predictive_coding", f"{here}.predictive_coding:PredictiveCoding",
                  "prediction errors of a relaxed energy; fixed_prediction: backpropagation"),
        Component("pepita", f"{here}.pepita:Pepita",
                  "a second pass on an input that the output error modulates"),
        Component("forward_forward", f"{here}.forward_forward:ForwardForward",
                  "every layer tells right labels from wrong ones by its goodness"),
        Component("mono_forward", f"{here}.local_loss:MonoForward",
                  "every layer minimises CE through a decoder of its own"),
        Component("local_loss", f"{here}.local_loss:LocalLoss",
                  "every layer minimises similarity and prediction losses of its own"),
        Component("sign_symmetry", f"{here}.sign_symmetry:SignSymmetry",
                  "backpropagation that knows the weights' signs alone"),
        Component("kolen_pollack", f"{here}.kolen_pollack:KolenPollack",
                  "feedback with the forward weights' updates and decay"),
        Component("weight_mirror", f"{here}.weight_mirror:WeightMirror",
                  "feedback fitted to each layer's response to noise"),
        Component("product_feedback", f"{here}.product_feedback:ProductFeedback",
                  "feedback through a population: wide (PFA) or of low rank (LDFA)"),
        Component("direct_kolen_pollack", f"{here}.direct_kolen_pollack:DirectKolenPollack",
                  "dfa with matrices that learn"),
        Component("target_propagation", f"{here}.target_propagation:TargetPropagation",
                  "targets sent down by learned transposes (l_drl) or inverses of the blocks"),
        Component("synthetic_gradients", f"{here}.synthetic_gradients:SyntheticGradients",
                  "gradients predicted from a layer's state, fitted one block at a time"),
        Component("node_perturbation", f"{here}.node_perturbation:NodePerturbation",
                  "calibrator: noise on the states times the change of the loss"),
        Component("forward_gradient", f"{here}.forward_gradient:ForwardGradient",
                  "calibrator: noise on the states times the loss's derivative along it"),
    ]  # fmt: skip
