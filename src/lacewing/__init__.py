"""How much a network reveals about its training records, how sparsity reduces that, and what it costs in accuracy.

Public names are loaded on first use, so that ``import lacewing`` stays fast. This file imports only modules that Python
has loaded at its start: under ``python -m lacewing`` the working directory is still first on the search path here.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lacewing.auditing import Audit as Audit
    from lacewing.auditing import PairAudit as PairAudit
    from lacewing.auditing import Worlds as Worlds
    from lacewing.auditing import audit as audit
    from lacewing.auditing import audit_attribute as audit_attribute
    from lacewing.auditing import audit_pair as audit_pair
    from lacewing.auditing import audit_property as audit_property
    from lacewing.auditing import audit_ranges as audit_ranges
    from lacewing.auditing import audit_scores as audit_scores
    from lacewing.auditing import audit_usage as audit_usage
    from lacewing.auditing import reconstruct as reconstruct
    from lacewing.sparsify import Chain as Chain
    from lacewing.sparsify import KSConv2d as KSConv2d
    from lacewing.sparsify import KSLinear as KSLinear
    from lacewing.study.compare import compare as compare
    from lacewing.study.declared import load_study as load_study
    from lacewing.study.estimate import estimate as estimate
    from lacewing.study.result import Result as Result
    from lacewing.study.run import export as export
    from lacewing.study.run import merge as merge
    from lacewing.study.run import plan_table as plan_table
    from lacewing.study.run import report as report
    from lacewing.study.run import run as run
    from lacewing.study.run import status as status

_HOMES = {
    "audit": "auditing",
    "audit_attribute": "auditing",
    "audit_ranges": "auditing",
    "audit_scores": "auditing",
    "audit_usage": "auditing",
    "audit_pair": "auditing",
    "audit_property": "auditing",
    "reconstruct": "auditing",
    "PairAudit": "auditing",
    "Worlds": "auditing",
    "Audit": "auditing",
    "compare": "study.compare",
    "run": "study.run",
    "plan_table": "study.run",
    "estimate": "study.estimate",
    "status": "study.run",
    "report": "study.run",
    "merge": "study.run",
    "export": "study.run",
    "Result": "study.result",
    "load_study": "study.declared",
    "Chain": "sparsify",
    "KSConv2d": "sparsify",
    "KSLinear": "sparsify",
}
_MODULES = ("attacks", "data", "metrics", "risk", "sets", "sparsify")
__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        return import_module("importlib.metadata").version("lacewing")
    if name in _MODULES:
        return import_module(f"lacewing.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'lacewing' has no attribute '{name}'")
    return getattr(import_module(f"lacewing.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
