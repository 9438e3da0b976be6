"""drtp: the share of entries in which the credit has the sign of the gradient."""

from dataclasses import replace

from bench_core.api import Audit, Control, Diagnostic, Measured, ProbeBatch


class SignAgreement(Diagnostic):
    """Share of entries of a_l, over all samples and layers, with the sign of g_l. Fires below 0.4.

    A random credit has about 0.5, the exact gradient 1.
    """

    direction, threshold = "below", 0.4
    title, heading = "share of signs that credit and gradient have in common", "signs"
    sentence = "the credit has the sign of the gradient in {value} of its entries (needs {limit})"
    needs_reference = True  # where the gradient is rounding, its signs mean nothing

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[tuple[int, int]]:
        """Count the equal signs and the entries at each site: small figures, kept for each batch.

        batch.audited[k], (samples, features), is the credit at site audit.net.sites[k]; batch.g[l],
        of the same shape, is the gradient at h_l.
        """
        gradients = [batch.g[site] for site in audit.net.sites]
        pairs = zip(batch.audited, gradients, strict=False)  # no credit at all: no pair
        return [(int((a.sign() == g.sign()).sum()), g.numel()) for a, g in pairs]

    def measure(self, audit: Audit) -> Measured:
        counts = [count for batch in audit.figures(self) for count in batch]
        if not counts:
            return Measured(None, {}, "the rule has no credit")
        return Measured(sum(equal for equal, _ in counts) / sum(entries for _, entries in counts))

    def controls(self) -> list[Control]:
        """Credits of which the right value is known; `edit_credits` puts them in place."""

        def credit_is(factor: float):
            def change(audit: Audit) -> None:
                def edit(credits, g):
                    exact = [factor * g[site] for site in audit.net.sites]
                    return replace(credits, audited=exact, reduction="sum")

                audit.edit_credits = edit

            return change

        return [
            Control("the exact gradient", credit_is(1.0), lambda found: found.value == 1.0),
            Control("its opposite", credit_is(-1.0), lambda found: found.value < 0.4),
        ]
