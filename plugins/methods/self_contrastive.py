"""self_contrastive: every layer separates an input paired with itself from one with another."""

from __future__ import annotations
