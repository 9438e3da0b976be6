"""Name the rows of a leaderboard: the key of a method with its options, and its text."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from bench_core.analysis.verdicts.roles import EVERY_RULE
from bench_core.analysis.verdicts.settings import Defaults
from bench_core.names import with_options
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.record import ComponentRef
from bench_core.suite.cells import CORE_DEFAULTS

_ABSENT = "\0"  # the value of an option that a method lacks and whose default is not known


def method_key(ref: ComponentRef, defaults: Defaults = MappingProxyType({})) -> str:
    """Write name and parameters of a method as canonical text: the key of a leaderboard row.

    defaults  a rule's full name → its defaults: a run from before an option existed has its default
    """
    core = {name: CORE_DEFAULTS[name] for name in EVERY_RULE}
    return canonical([ref.name, {**core, **defaults.get(ref.name, {}), **ref.params}])


def label(
    method: ComponentRef,
    peers: Iterable[ComponentRef],
    defaults: Defaults = MappingProxyType({}),
) -> str:
    """Name a method and its options: `dfa`, `dfa[penalty=0.01]`, `dfa[frozen]`.

    `frozen` is the option `freeze=blocks`. An option is shown if it differs from the rule's
    default, or if methods of this name among `peers` differ in it. Without the rule's defaults,
    options of the core are compared with the core's. The text is not escaped: each output format
    does that.
    """
    own = defaults.get(method.name)
    default = {**CORE_DEFAULTS, **(own or {})}
    rivals = [peer.params for peer in peers if peer.name == method.name]
    shown = {}
    core = [name for name in CORE_DEFAULTS if name in method.params]
    for name in core + sorted(method.params.keys() - CORE_DEFAULTS.keys()):
        value = method.params[name]
        text = canonical(value)
        differs = text != canonical(default[name]) if name in default else own is not None
        if name not in CORE_DEFAULTS:
            others = [p[name] if name in p else default.get(name, _ABSENT) for p in rivals]
            differs |= any(canonical(other) != text for other in others)
        if differs:
            shown[name] = plain_text(value)
    return with_options(method.short, shown)
