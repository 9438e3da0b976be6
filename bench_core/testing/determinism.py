"""Determinism: the numbers of a cell depend on the cell alone."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_core.printable import few
from bench_core.testing.comparing import DRAW, differs, must_equal
from bench_core.testing.draws import Drawn, Draws, begun, name_of, seed_globally, seed_torch
from bench_core.testing.kit import Failed, check
from bench_core.testing.nets import ProbeNet
from bench_core.testing.subjects import FIRST_DRAWS, MethodSubject
from bench_core.training.saved_state import TrainingState


@check("method", "determinism")
def the_same_seed_gives_the_same_bits(subject: MethodSubject) -> None:
    """Two cells of one seed end with bit-equal weights, feedback and auxiliary networks."""
    straight = subject.straight
    seed_globally(0)  # as a worker has them at the start
    trial = subject.trial(seed=3)
    seed_torch(1)  # the global generator is not the cell's once the network is drawn
    again = trial.steps(4).bits()
    must_equal(straight, again, f"{{}} differs between two runs of the same seed: {DRAW}")


@check("method", "determinism")
def resumed_equals_straight(subject: MethodSubject) -> None:
    """A resumed training ends as the uninterrupted one.

    It is saved after two steps, built again and restored. All that a method changes is in its
    state_dict, in an optimiser that it was lent, or in its two streams.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        saved = subject.trial(seed=3).steps(2)
        path.write_bytes(TrainingState(saved.net, saved.method, {}).dump(1, "trial", {}, {}))
        resumed = subject.trial(seed=3)
        if TrainingState(resumed.net, resumed.method, {}).load(path, "trial") is None:
            raise Failed("the saved training cannot be read back")
    must_equal(
        subject.straight,
        resumed.steps(2, first=2).bits(),
        "{} differs in a resumed training: something that steps change is not in state_dict: "
        "keep it in self.kept",
    )


@check("method", "determinism")
def other_cells_do_not_matter(subject: MethodSubject) -> None:
    """An earlier cell of the same process, with another seed and network, changes nothing."""
    alone = subject.straight
    other = subject.trial(seed=4)
    if FIRST_DRAWS[subject.target] != other.drawn():
        raise Failed(
            "setup() drew from its generators in the first cell of the process, and does not "
            "now: what is kept?"
        )
    other.steps(3)
    must_equal(
        alone,
        subject.trial(seed=3).steps(4).bits(),
        "{} differs when another cell ran before: the rule keeps state in its class or module",
    )


@check("method", "determinism")
def an_audit_draws_nothing(subject: MethodSubject) -> None:
    """credit() leaves the training's random streams and the rule's own generators as they were,
    so that measuring more often trains nothing else."""
    for tried in (subject, subject.first):
        if what := tried.asked_twice[0]:
            raise Failed(
                f"computing the credit of {subject.target.__name__} in an audit changes "
                f"{few(what)}; audits must not change a training: draw in setup(), learn() or "
                "step(), and use in credit() what they drew"
            )


@check("method", "determinism")
def another_seed_gives_other_draws(subject: MethodSubject) -> None:
    """What setup(), a step and a credit draw depends on the seed of the run: seeds that share a
    draw are no samples of the rule."""
    # after the checks that know which seeds this process has had
    (one, others), (other, again) = (_foreign_draws(subject, seed) for seed in (3, 4))
    same = [
        f"a generator of {name} begins alike" for name, state in others if (name, state) in again
    ]
    for (name, a), (_, b) in zip(one, other, strict=False):
        if a.seed == b.seed and not differs({"": a.numbers}, {"": b.numbers}):
            same.append(f"{name} begins at {a.seed}")
    for what in same:
        raise Failed(
            f"the draws do not depend on the seed of the run ({what} in every run): all seeds "
            "share these draws; use self.draw(…) or generator=tools.generator"
        )


def _foreign_draws(
    subject: MethodSubject, seed: int
) -> tuple[list[tuple[str, Drawn]], list[tuple[str, bytes]]]:
    """Return the draws of a cell from generators of torch that are not its tools'.

    Also the generators of numpy and Python, as `begun` notes them.
    """
    draws = Draws()
    modules = {each.__module__ for each in subject.target.__mro__}
    with begun(modules) as others, ExitStack() as stack:

        def begin(net: ProbeNet) -> None:
            stack.enter_context(draws)

        trial = subject.trial(seed=seed, before=begin).steps(1)
        trial.method.credit(*trial.states(), trial.epoch)
    own = [id(stream) for stream in trial.streams.values()]
    noted = (each for each in draws.noted if id(each.generator) not in own)
    return [(name_of(each.generator, trial.method), each) for each in noted], others
