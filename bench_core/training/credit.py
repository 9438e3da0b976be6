"""Check the credits that a rule returns against the network's states, and normalise them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from bench_core.training.method import Credits
from bench_core.training.net import Net, States
from bench_core.training.params import PerN

if TYPE_CHECKING:
    from bench_core.training.local_method import LocalMethod


def rms(credit: Tensor, eps: float = 1e-6, mode: str = "sample", tokens: bool = False) -> Tensor:
    """Normalise a credit: a / (sqrt(mean(a²)) + eps).

    mode    the mean is over the features of each sample ("sample"), over batch and features
            ("batch"), or the credit is returned unchanged ("none")
    tokens  states are (N, tokens, features), and "sample" means a token
    """
    if mode == "none":
        return credit
    dims = tuple(range(0 if mode == "batch" else 2 if tokens else 1, credit.dim()))
    return credit / (credit.square().mean(dims, keepdim=True).sqrt() + eps)


def normalised(credit: Tensor, options: LocalMethod.Params, tokens: bool = False) -> Tensor:
    """Normalise a credit by the options `normalize` and `normalize_eps`."""
    eps = options.normalize_eps
    eps = eps.per_n / len(credit) if isinstance(eps, PerN) else eps
    return rms(credit, eps, options.normalize, tokens)


def given(states: States, y: Tensor) -> dict[str, Tensor]:
    """Map the name of each tensor that `credit` is given to the tensor."""
    named = {"states.x": states.x, "states.logits": states.logits, "y": y}
    named |= {} if states.error is None else {"states.output_error": states.error}
    for name, tensors in (("h", states.h), ("f", states.f)):
        named |= {f"states.{name}[{number}]": tensor for number, tensor in enumerate(tensors)}
    return named


def as_credits(
    credits: Credits | Sequence[Tensor] | None, net: Net, h: Sequence[Tensor], trains: bool = True
) -> Credits:
    """Check a rule's answer against the states h_0 … h_L and return it as `Credits`.

    trains  whether blocks and embedding learn from it; False: it is only audited
    Raises TypeError or ValueError that names the part that does not fit.
    """
    if credits is None:
        raise TypeError("credit() returned None: a block-local rule returns one credit per block")
    credits = credits if isinstance(credits, Credits) else Credits(audited=credits)
    if credits.reduction not in ("sum", "mean"):
        raise ValueError(f"credits.reduction is {credits.reduction!r}: it is sum or mean")
    sites = {site: h[site] for site in net.sites}
    _fit("audited", credits.audited, sites)
    if credits.blocks is not None:
        _fit("blocks", credits.blocks, dict(enumerate(h[1:], start=1)))
    if credits.embed is not None:
        _fit("embed", [credits.embed], {0: h[0]})
    elif trains and 0 not in sites:
        raise ValueError(
            "credits.embed is missing: without residual connections audited[0] is the credit of "
            "h_1, and the embedding learns from that of h_0"
        )
    if not trains:  # further read-outs teach nothing
        for name, readout in credits.readouts.items():
            _fit(f"readouts[{name!r}]", readout, sites)
    return credits


def _fit(name: str, credits: Sequence[Tensor], states: Mapping[int, Tensor]) -> None:
    if not isinstance(credits, Sequence) or isinstance(credits, str):
        raise TypeError(f"credits.{name} is a {type(credits).__name__}, not a list of tensors")
    if len(credits) != len(states):
        sizes = f"{len(credits)} entries, and there are {len(states)} states to credit"
        raise ValueError(f"credits.{name} has {sizes}")
    for index, (credit, (layer, h)) in enumerate(zip(credits, states.items(), strict=True)):
        one = "credits.embed" if name == "embed" else f"credits.{name}[{index}]"
        if not isinstance(credit, Tensor):
            raise TypeError(f"{one} is a {type(credit).__name__}, not a tensor")
        if credit.shape != h.shape:
            shapes = f"{tuple(credit.shape)}, and its state h_{layer} has {tuple(h.shape)}"
            raise ValueError(f"{one} has shape {shapes}")
        if credit.dtype != h.dtype:
            types = f"{credit.dtype}, and its state h_{layer} is {h.dtype}"
            raise TypeError(f"{one} is {types}: a credit has the type of its state")
