"""What a function's bytecode refers to: global names, and the modules that it imports itself."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_LOADS = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")

Import = tuple[int, str]  # the level of a relative import, and the name
Read = tuple[int, str, tuple[str, ...]]  # of an imported module, the attributes of attributes


def names(code: CodeType) -> tuple[set[tuple[str, ...]], set[Import], set[Read]]:
    """Of a code object and those inside it: global names with the attributes read of each; imports; what is read of
    the modules that are imported there."""
    referred: set[tuple[str, ...]] = set()
    imported: set[Import] = set()
    read: set[Read] = set()
    for each in _nested(code):
        steps = _steps(each)
        for place, step in enumerate(steps):
            if step.opname in _GLOBAL:
                referred.add((str(step.argval), *_attributes_read(steps, place)))
            elif step.opname == "IMPORT_NAME":
                level, listed = steps[place - 2].argval, steps[place - 1].argval
                level, name = level if isinstance(level, int) else 0, str(step.argval)
                imported.add((level, name))
                for other in listed if isinstance(listed, tuple) else ():
                    imported.add((level, f"{name}.{other}" if name else other))
                for module, chain, local in _bound(steps, place, name, isinstance(listed, tuple)):
                    read |= {(level, module, (*chain, *further)) for further in _reads(code, local)}
    return referred, imported, read


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _steps(code: CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname not in ("EXTENDED_ARG", "CACHE", "NOP")]


def _attributes_read(steps: list[dis.Instruction], place: int) -> tuple[str, ...]:
    """The attributes of attributes that are read of what the step at ``place`` loads."""
    chain = list[str]()
    for following in steps[place + 1 :]:
        if following.opname not in _ATTRIBUTE:
            break
        chain.append(str(following.argval))
    return tuple(chain)


def _bound(
    steps: list[dis.Instruction], place: int, name: str, from_it: bool
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What the import at ``place`` binds: the module, the attribute of it if there is one, and the local name."""
    following = place + 1
    if from_it:  # from a.b import c as d, e
        while following + 1 < len(steps) and steps[following].opname == "IMPORT_FROM":
            yield name, (str(steps[following].argval),), _first(steps[following + 1])
            following += 2
        return
    dotted = steps[following].opname == "IMPORT_FROM"  # import a.b as c
    while not steps[following].opname.startswith("STORE_"):
        following += 1
    yield name if dotted else name.partition(".")[0], (), _first(steps[following])


def _first(step: dis.Instruction) -> str:
    """The name that a step stores, of which some hold two."""
    return str(step.argval[0] if isinstance(step.argval, tuple) else step.argval)


def _reads(code: CodeType, local: str) -> Iterator[tuple[str, ...]]:
    """The attributes of attributes that code, and code inside it, reads of a variable; () where it hands it about."""
    for each in _nested(code):
        steps = _steps(each)
        for place, step in enumerate(steps):
            if not step.opname.startswith(("STORE_FAST_LOAD_FAST", *_LOADS)) and step.opname not in _GLOBAL:
                continue
            *before, last = step.argval if isinstance(step.argval, tuple) else (step.argval,)
            if local in before and step.opname.startswith(_LOADS):
                yield ()
            if last == local and not (step.opname == "LOAD_FAST" and local in each.co_cellvars + each.co_freevars):
                yield _attributes_read(steps, place)


def absolute(level: int, name: str, package: str) -> str:
    """The full name of a module that a module of ``package`` imports."""
    above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*above, *([name] if name else [])])
