"""One audit of one model: of its scores, of its outputs, or of the model itself. The names load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lacewing.auditing._attribute import AttributeAudit as AttributeAudit
    from lacewing.auditing._attribute import audit_attribute as audit_attribute
    from lacewing.auditing._files import audit_attribute_files as audit_attribute_files
    from lacewing.auditing._files import audit_model_files as audit_model_files
    from lacewing.auditing._files import reconstruct_files as reconstruct_files
    from lacewing.auditing._model import audit as audit
    from lacewing.auditing._pair import audit_pair as audit_pair
    from lacewing.auditing._pair_cost import PairCost as PairCost
    from lacewing.auditing._pair_files import audit_pair_files as audit_pair_files
    from lacewing.auditing._pair_result import PairAudit as PairAudit
    from lacewing.auditing._property import Worlds as Worlds
    from lacewing.auditing._property import audit_property as audit_property
    from lacewing.auditing._property import audit_property_files as audit_property_files
    from lacewing.auditing._property_result import PropertyAudit as PropertyAudit
    from lacewing.auditing._property_result import PropertyCost as PropertyCost
    from lacewing.auditing._reconstruction import ReconstructionAudit as ReconstructionAudit
    from lacewing.auditing._reconstruction import reconstruct as reconstruct
    from lacewing.auditing._result import Audit as Audit
    from lacewing.auditing._scores import audit_scores as audit_scores
    from lacewing.auditing._set_files import audit_range_scores as audit_range_scores
    from lacewing.auditing._set_files import audit_ranges_files as audit_ranges_files
    from lacewing.auditing._set_files import audit_usage_files as audit_usage_files
    from lacewing.auditing._set_files import audit_usage_scores as audit_usage_scores
    from lacewing.auditing._sets import audit_ranges as audit_ranges
    from lacewing.auditing._sets import audit_usage as audit_usage

_HOMES = {
    "audit": "_model",
    "audit_attribute": "_attribute",
    "audit_attribute_files": "_files",
    "audit_model_files": "_files",
    "reconstruct_files": "_files",
    "audit_range_scores": "_set_files",
    "audit_ranges": "_sets",
    "audit_ranges_files": "_set_files",
    "audit_scores": "_scores",
    "audit_usage": "_sets",
    "audit_usage_files": "_set_files",
    "audit_usage_scores": "_set_files",
    "Audit": "_result",
    "AttributeAudit": "_attribute",
    "audit_pair": "_pair",
    "audit_pair_files": "_pair_files",
    "audit_property": "_property",
    "reconstruct": "_reconstruction",
    "ReconstructionAudit": "_reconstruction",
    "audit_property_files": "_property",
    "PairAudit": "_pair_result",
    "PairCost": "_pair_cost",
    "PropertyAudit": "_property_result",
    "PropertyCost": "_property_result",
    "Worlds": "_property",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lacewing.auditing' has no attribute '{name}'")
    return getattr(import_module(f"lacewing.auditing.{_HOMES[name]}"), name)
