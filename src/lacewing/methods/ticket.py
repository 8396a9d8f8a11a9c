"""A lottery ticket (Frankle & Carbin 2019): a learned mask on the original initialisation."""

from __future__ import annotations

from typing import ClassVar

from lacewing.methods._takes_mask import TakesMask
from lacewing.results import Look


class Ticket(TakesMask):
    """The mask of another network on the original initialisation, trained by a schedule of its own."""

    look: ClassVar[Look] = Look("lottery ticket", "#56b4e9", "v")

    method: str = "ticket"
