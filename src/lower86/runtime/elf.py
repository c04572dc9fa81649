"""Relocatable objects (ELF, 64 bit, x86-64) as far as our generator makes them: sections, symbols, fixups.

Everything is checked against the file's and the sections' sizes as it is read. What this does not know, a kind of
relocation or of section, is refused, so that who asked turns to LLVM's own loader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_BYTES = 1 << 28
"""Of an object, and of what it wants to be in memory."""

_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little endian, version 1
_RELOCATABLE, _X86_64 = 1, 62
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_PROGBITS, _SYMTAB, _RELA, _NOBITS, _REL, _UNWIND = 1, 2, 4, 8, 9, 0x7000_0001
_ALLOC, _CODE = 0x2, 0x4
_PLAIN = _ALLOC | _CODE | 0x10 | 0x20 | 0x40 | 0x80 | 0x1000_0000
"""Flags that change nothing here: merge, strings, info link, order, large. What is writable, compressed or of a thread
is another matter."""
_ABSOLUTE_64 = 1
_NOTYPE, _OBJECT, _FUNCTION, _IS_SECTION = 0, 1, 2, 3
_LOCAL = 0
_MOST_ALIGNMENT = 4096


class Unreadable(Exception):
    """The object is damaged, or has what this does not know."""


@dataclass(frozen=True)
class Section:
    """Bytes that belong into memory: `content`, then zeros up to `size`; executable if `is_code`."""

    content: memoryview
    size: int
    alignment: int
    is_code: bool


@dataclass(frozen=True)
class Fixup:
    """At `offset` of section `place` belongs the address `addend` beyond `offset_in` of `section`, or beyond `name`."""

    place: int
    offset: int
    addend: int
    section: int
    offset_in: int
    name: str
    """Not empty where the object does not define what it refers to; there is no `section` then."""


@dataclass(frozen=True)
class Object:
    """`sections` by their number in the file; `defined`: where each global name lies, as (section, offset)."""

    sections: Mapping[int, Section]
    defined: Mapping[str, tuple[int, int]]
    fixups: Sequence[Fixup]


@dataclass(frozen=True)
class _Raw:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: int
    value: int
    kind: int
    binding: int


def parse(data: bytes) -> Object:
    """What an object file asks for. Raises Unreadable."""
    raw = _raw_sections(data)
    sections = {number: _loaded(data, one) for number, one in enumerate(raw) if _is_loaded(one)}
    tables = [one for one in raw if one.kind == _SYMTAB]
    if len(tables) != 1:
        raise Unreadable(f"{len(tables)} tables of symbols")
    symbols = _symbols(data, tables[0], raw)
    defined = {
        symbol.name: (symbol.section, symbol.value)
        for symbol in symbols
        if symbol.binding != _LOCAL and symbol.name and symbol.section in sections and _is_within(symbol, sections)
    }
    fixups: list[Fixup] = []
    for one in raw:
        if one.kind == _REL and one.info in sections:
            raise Unreadable("relocations without addends")
        if one.kind == _RELA and one.info in sections:
            if one.link >= len(raw) or raw[one.link] is not tables[0]:
                raise Unreadable("relocations of another table of symbols")
            fixups += _fixups(data, one, symbols, sections)
    return Object(sections, defined, fixups)


def _raw_sections(data: bytes) -> list[_Raw]:
    if len(data) < _HEADER.size or len(data) > MOST_BYTES:
        raise Unreadable(f"{len(data)} bytes")
    ident, kind, machine, _, _, _, start, _, _, _, _, size, count, _ = _HEADER.unpack_from(data)
    if not ident.startswith(_IDENT) or (kind, machine) != (_RELOCATABLE, _X86_64) or size != _SECTION.size:
        raise Unreadable("no relocatable object for x86-64")
    if start > len(data) or count * size > len(data) - start:
        raise Unreadable("sections beyond the end")
    raw = []
    for fields in _SECTION.iter_unpack(data[start : start + count * size]):
        _, kind, flags, _, offset, length, link, info, alignment, _ = fields
        if kind not in (0, _NOBITS) and (offset > len(data) or length > len(data) - offset):
            raise Unreadable("a section beyond the end")
        raw.append(_Raw(kind, flags, offset, length, link, info, alignment))
    return raw


def _is_loaded(one: _Raw) -> bool:
    # How to unwind the stack is what nobody asks: generated code raises nothing.
    return bool(one.flags & _ALLOC) and one.size > 0 and one.kind != _UNWIND


def _loaded(data: bytes, one: _Raw) -> Section:
    if one.kind not in (_PROGBITS, _NOBITS) or one.flags & ~_PLAIN:
        raise Unreadable(f"a section of kind {one.kind:#x}, flags {one.flags:#x}")
    alignment = max(1, one.alignment)
    if alignment & (alignment - 1) or alignment > _MOST_ALIGNMENT or one.size > MOST_BYTES:
        raise Unreadable(f"a section of {one.size} bytes at a multiple of {alignment}")
    content = memoryview(data)[one.offset : one.offset + one.size] if one.kind == _PROGBITS else memoryview(b"")
    return Section(content, one.size, alignment, bool(one.flags & _CODE))


def _symbols(data: bytes, table: _Raw, raw: Sequence[_Raw]) -> list[_Symbol]:
    if table.link >= len(raw) or table.size % _SYMBOL.size:
        raise Unreadable("a table of symbols without names, or cut short")
    names = data[raw[table.link].offset : raw[table.link].offset + raw[table.link].size]
    symbols = []
    for name, info, _, section, value, _ in _SYMBOL.iter_unpack(data[table.offset : table.offset + table.size]):
        end = names.find(b"\0", name)
        if name >= len(names) or end < 0:
            raise Unreadable("a name beyond the end")
        symbols.append(_Symbol(names[name:end].decode("utf-8", "replace"), section, value, info & 15, info >> 4))
    return symbols


def _is_within(symbol: _Symbol, sections: Mapping[int, Section]) -> bool:
    if symbol.kind not in (_NOTYPE, _OBJECT, _FUNCTION, _IS_SECTION) or symbol.value > sections[symbol.section].size:
        raise Unreadable(f"the symbol {symbol.name!r:.80} of kind {symbol.kind} at {symbol.value}")
    return True


def _fixups(data: bytes, table: _Raw, symbols: Sequence[_Symbol], sections: Mapping[int, Section]) -> list[Fixup]:
    if table.size % _RELOCATION.size:
        raise Unreadable("a table of relocations cut short")
    made = []
    room = sections[table.info].size - 8
    for offset, kind, number, addend in _RELOCATION.iter_unpack(data[table.offset : table.offset + table.size]):
        if kind != _ABSOLUTE_64 or number >= len(symbols):
            raise Unreadable(f"a relocation of kind {kind}")
        if offset > room or offset + 8 > len(sections[table.info].content):
            raise Unreadable("a relocation beyond its section")
        symbol = symbols[number]
        if symbol.section in sections and _is_within(symbol, sections):
            made.append(Fixup(table.info, offset, addend, symbol.section, symbol.value, ""))
        elif symbol.section == 0 and symbol.name and symbol.kind in (_NOTYPE, _OBJECT, _FUNCTION):
            made.append(Fixup(table.info, offset, addend, 0, 0, symbol.name))
        else:
            raise Unreadable(f"a relocation to the symbol {symbol.name!r:.80}")
    return made
