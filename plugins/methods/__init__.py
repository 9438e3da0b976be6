"""The built-in learning rules: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl

AUDIT = "definition as in Hao, Wan, Zhai 2026, arXiv:2606.21126"

NULL = "null method of this suite"


@hookimpl
def bench_methods() -> list[Component]:
    here = "bench_plugins.methods"
    return [
        Component("bp", f"{here}.bp:Backprop", "backpropagation, end to end",
                  "Rumelhart, Hinton, Williams 1986"),
        Component("dfa", f"{here}.dfa:DirectFeedbackAlignment",
                  "output error through fixed random matrices", "Nøkland 2016, arXiv:1609.01596"),
        Component("fa", f"{here}.fa:FeedbackAlignment",
                  "exact top credit, then fixed random matrices block by block",
                  "Lillicrap et al. 2016, doi:10.1038/ncomms13276"),
        Component("state_bridge", f"{here}.state_bridge:StateBridge",
                  "credit through a learned prediction of the last state", AUDIT),
        Component("credit_bridge", f"{here}.credit_bridge:CreditBridge",
                  "credit as the gradient of a learned value function", AUDIT),
        Component("ep", f"{here}.ep:EquilibriumPropagation",
                  "nudged relaxation of a feed-forward energy",
                  "Scellier, Bengio 2017, arXiv:1602.05179"),
        Component("vec", f"{here}.vec:Vec", "vector credit, fitted to measured changes of the loss",
                  AUDIT),
        Component("perlayer_vector", f"{here}.perlayer_vector:PerLayerVector",
                  "null: one trained vector per state for all samples", AUDIT),
        Component("blend", f"{here}.blend:Blend",
                  "dfa, then dfa mixed with an auxiliary credit or one of its nulls", AUDIT),
        Component("random_credit", f"{here}.random_credit:RandomCredit",
                  "null: an untrained network of state and depth", NULL),
        Component("shuffled_credit", f"{here}.shuffled_credit:ShuffledCredit",
                  "null: true credit, given to other samples", NULL),
        Component("noise_credit", f"{here}.noise_credit:NoiseCredit",
                  "null: Gaussian noise with the norms of dfa's credit", NULL),
        Component("predictive_coding", f"{here}.predictive_coding:PredictiveCoding",
                  "prediction errors of a relaxed energy; fixed_prediction: backpropagation",
                  "Whittington, Bogacz 2017, doi:10.1162/NECO_a_00949; Millidge et al. 2020, "
                  ""                   "arXiv:2006.04182"),
        Component("pepita", f"{here}.pepita:Pepita",
                  "a second pass on an input that the output error modulates",
                  "Dellaferrera, Kreiman 2022, arXiv:2201.11665"),
        Component("forward_forward", f"{here}.forward_forward:ForwardForward",
                  "every layer tells right labels from wrong ones by its goodness",
                  "Hinton 2022, arXiv:2212.13345"),
        Component("mono_forward", f"{here}.local_loss:MonoForward",
                  "every layer minimises CE through a decoder of its own",
                  "Gong, Li, Abdulla 2025, arXiv:2501.09238"),
        Component("local_loss", f"{here}.local_loss:LocalLoss",
                  "every layer minimises similarity and prediction losses of its own",
                  "Nøkland, Eidnes 2019, arXiv:1901.06656"),
        Component("sign_symmetry", f"{here}.sign_symmetry:SignSymmetry",
                  "backpropagation that knows the weights' signs alone",
                  "Liao, Leibo, Poggio 2016, arXiv:1510.05067; Xiao et al. 2019, arXiv:1811.03567"),
        Component("kolen_pollack", f"{here}.kolen_pollack:KolenPollack",
                  "feedback with the forward weights' updates and decay",
                  "Kolen, Pollack 1994; Akrout et al. 2019, arXiv:1904.05391"),
        Component("weight_mirror", f"{here}.weight_mirror:WeightMirror",
                  "feedback fitted to each layer's response to noise",
                  "Akrout et al. 2019, arXiv:1904.05391"),
        Component("direct_kolen_pollack", f"{here}.direct_kolen_pollack:DirectKolenPollack",
                  "dfa with matrices that learn",
                  "Webster, Choi, Ahn 2020, Learning the connections in direct feedback alignment"),
        Component("target_propagation", f"{here}.target_propagation:TargetPropagation",
                  "targets sent down by learned transposes (l_drl) or inverses of the blocks",
                  "Ernoult et al. 2022, arXiv:2201.13415; Lee et al. 2015, arXiv:1412.7525"),
        Component("synthetic_gradients", f"{here}.synthetic_gradients:SyntheticGradients",
                  "gradients predicted from a layer's state, fitted one block at a time",
                  "Jaderberg et al. 2017, arXiv:1608.05343; Czarnecki et al. 2017, "
                  "arXiv:1703.00522"),
        Component("node_perturbation", f"{here}.node_perturbation:NodePerturbation",
                  "calibrator: noise on the states times the change of the loss",
                  "Werfel, Xie, Seung 2005"),
        Component("forward_gradient", f"{here}.forward_gradient:ForwardGradient",
                  "calibrator: noise on the states times the loss's derivative along it",
                  "Baydin et al. 2022, arXiv:2202.08587; Ren et al. 2023, arXiv:2210.03310"),
    ]  # fmt: skip
