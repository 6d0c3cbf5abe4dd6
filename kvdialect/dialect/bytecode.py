"""What a statement does with certain columns, read from SQLite's byte code.

:func:`uses_of` follows the values of columns through the registers, sorters and ephemeral tables of a program
(``EXPLAIN``) to the operations that would read them as numbers or text. It errs on one side only: where it cannot tell,
they are said to be calculated with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

_CARRYING: Final = frozenset(
    {
        "coalesce", "count", "first_value", "ifnull", "iif", "if", "lag", "last_value", "lead", "likelihood", "likely",
        "max", "min", "nth_value", "nullif", "quote", "typeof", "unlikely", "hex",
    }
)  # fmt: skip
"""Functions that hand values on, or look at them as blobs, and so are right for any."""

_DESCRIBING: Final = frozenset({"count", "hex", "quote", "typeof"})
"""Those of them whose results are not values that they were given."""

_CALCULATING: Final = frozenset(
    {
        "Add", "Subtract", "Multiply", "Divide", "Remainder", "BitAnd", "BitOr", "ShiftLeft", "ShiftRight", "Concat",
        "And", "Or",
    }
)  # fmt: skip
"""Operations on the registers P1 and P2."""

_READING: Final = frozenset({"AddImm", "BitNot", "Cast", "If", "IfNot", "IsTrue", "MustBeInt", "Not", "IfPos"})
"""Operations that read the register P1 as a number or a truth."""

_COMPARING: Final = frozenset({"Eq", "Ne", "Lt", "Le", "Gt", "Ge"})
"""Operations that compare the registers P1 and P3."""

_SEQUENTIAL: Final = frozenset(
    {
        "Add", "AddImm", "Affinity", "AggFinal", "AggInverse", "AggStep", "AggStep1", "AggValue", "And", "BitAnd",
        "BitNot", "BitOr", "Blob", "Cast", "CollSeq", "Column", "Compare", "Concat", "Copy", "Divide", "Explain",
        "Function", "IdxInsert", "Insert", "IntCopy", "Integer", "MakeRecord", "Move", "Multiply", "NewRowid", "Noop",
        "Not", "Null", "OpenDup", "OpenEphemeral", "OpenPseudo", "Or", "PureFunc", "Real", "RealAffinity", "Remainder",
        "ResultRow", "RowData", "Rowid", "SCopy", "Sequence", "ShiftLeft", "ShiftRight", "SorterData", "SorterInsert",
        "SorterOpen", "String", "String8", "Subtract", "Variable", "VColumn", "VOpen",
    }
)  # fmt: skip
"""Operations after which always the next one runs, and whose P2 is no address."""

_FIRST_WIDE: Final = 2.0**63
_MOST_ARGUMENTS: Final = 127


@attrs.frozen
class _Operation:
    address: int
    name: str
    p1: int
    p2: int
    p3: int
    p4: Any

    @property
    def function(self) -> str:
        """The function's name, of an operation that calls one."""
        return str(self.p4).partition("(")[0].lower()

    @property
    def arguments(self) -> range:
        """The registers of its arguments; of a function that takes any number of them all that may be."""
        count = int(str(self.p4).partition("(")[2].rstrip(")") or 0)
        return range(self.p2, self.p2 + (count if count >= 0 else _MOST_ARGUMENTS))

    @property
    def real(self) -> float:
        """The constant of a Real operation."""
        if self.p4 is not None:
            return float(self.p4)
        number: float = struct.unpack(">d", struct.pack(">Ii", self.p3 & 0xFFFFFFFF, self.p1))[0]
        return number


@attrs.frozen
class Uses:
    """What a statement does with the values of certain columns.

    Attributes:
        calculates: it reads them as numbers, text or truths.
        compared: numbers of the parameters, from 1 on, that it compares with them.
    """

    calculates: bool = False
    compared: frozenset[int] = frozenset()


def uses_of(db: Any, sql: str, columns: Mapping[str, frozenset[int]], params: Any) -> Uses:
    """What a statement does with the values of certain columns.

    Args:
        db: the database that would run it.
        sql: its text.
        columns: positions of the columns, by the name of their virtual table as SQL writes it.
        params: something for each of its parameters.
    """
    tables = {}
    for name, positions in columns.items():
        for row in db.execute(f"explain select * from {name}"):
            if row[1] == "VOpen":
                tables[row[5]] = positions
    program = [_Operation(*row[:6]) for row in db.execute(f"explain {sql}", params)]
    return _Flow(program, tables).uses() if tables else Uses()


class _Flow:
    """Where the values of certain columns are, at each operation of a program."""

    def __init__(self, program: Sequence[_Operation], tables: Mapping[Any, frozenset[int]]) -> None:
        self.program = program
        self.tainted: dict[int, dict[int, Any]] = {}  # address -> register -> True, or the columns of a record
        self.cursors: dict[int, frozenset[int]] = {}  # columns of sorters, ephemeral and virtual tables
        self.same: dict[int, int] = {}  # cursors that are others' duplicates
        self.pseudo: dict[int, int] = {}  # cursors over the record in a register
        self.virtual: dict[int, frozenset[int]] = {}
        self.writes: dict[int, set[int]] = {}  # register -> addresses
        self.targets: set[int] = set()
        for operation in program:
            match operation.name:
                case "VOpen":
                    self.virtual[operation.p1] = tables.get(operation.p4, frozenset())
                case "OpenDup":
                    self.same[operation.p1] = operation.p2
                case "OpenPseudo":
                    self.pseudo[operation.p1] = operation.p2
            for register in _written(operation):
                self.writes.setdefault(register, set()).add(operation.address)
            if operation.name not in _SEQUENTIAL:
                self.targets |= {operation.address + 1, operation.p1, operation.p2, operation.p3}

    def uses(self) -> Uses:
        while self._step():
            pass
        calculates = any(self._reads(operation) for operation in self.program)
        return Uses(calculates, frozenset(number for operation in self.program for number in self._compared(operation)))

    def _compared(self, operation: _Operation) -> Iterator[int]:
        """The parameters that an operation compares with a tainted value."""
        if operation.name in _COMPARING:
            for one, other in ((operation.p1, operation.p3), (operation.p3, operation.p1)):
                if self._at(one, operation.address) is True:
                    writes = [self.program[write] for write in self.writes.get(other, ())]
                    yield from (write.p1 for write in writes if write.name == "Variable")

    def _at(self, register: int, address: int) -> Any:
        """What is known of a register before an operation: False, True, or the tainted columns of its record."""
        before = address
        while before > 0 and before not in self.targets:
            before -= 1
            if before in self.writes.get(register, ()):
                return self.tainted.get(before, {}).get(register, False)
        found: Any = False
        for write in self.writes.get(register, ()):
            found = _joined(found, self.tainted.get(write, {}).get(register, False))
        return found

    def _cursor(self, number: int) -> int:
        return self.same.get(number, number)

    def _step(self) -> bool:
        """Take each operation once; whether anything new was learnt."""
        changed = False
        for operation in self.program:
            for register, taint in self._results(operation):
                known = self.tainted.setdefault(operation.address, {})
                joined = _joined(known.get(register, False), taint)
                if joined != known.get(register, False):
                    known[register] = joined
                    changed = True
            if operation.name in ("SorterInsert", "IdxInsert", "Insert"):
                cursor = self._cursor(operation.p1)
                record = self._at(operation.p2, operation.address)
                if isinstance(record, frozenset) and not record <= self.cursors.get(cursor, frozenset()):
                    self.cursors[cursor] = self.cursors.get(cursor, frozenset()) | record
                    changed = True
        return changed

    def _results(self, operation: _Operation) -> Iterator[tuple[int, Any]]:
        """The registers that an operation writes, as far as what it writes may be tainted."""
        p1, p2, p3, at = operation.p1, operation.p2, operation.p3, operation.address
        match operation.name:
            case "VColumn":
                yield p3, p2 in self.virtual.get(p1, ())
            case "Column":
                if p1 in self.pseudo:
                    record = self._everywhere(self.pseudo[p1])
                    yield p3, isinstance(record, frozenset) and p2 in record
                else:
                    yield p3, p2 in self.cursors.get(self._cursor(p1), ())
            case "SorterData" | "RowData":
                yield p2, self.cursors.get(self._cursor(p1), frozenset())
            case "Copy":
                for offset in range(p3 + 1):
                    yield p2 + offset, self._at(p1 + offset, at)
            case "SCopy" | "IntCopy":
                yield p2, self._at(p1, at)
            case "Move":
                for offset in range(p3):
                    yield p2 + offset, self._at(p1 + offset, at)
            case "MakeRecord":
                yield p3, frozenset(offset for offset in range(p2) if self._at(p1 + offset, at) is True)
            case "Function" | "PureFunc" | "AggStep" | "AggStep1" | "AggInverse":
                if operation.function not in _DESCRIBING:
                    yield p3, any(self._at(register, at) is True for register in operation.arguments)
            case "AggFinal":
                yield p1, self._everywhere(p1) is True
            case "AggValue":
                yield p3, self._everywhere(p1) is True

    def _everywhere(self, register: int) -> Any:
        found: Any = False
        for write in self.writes.get(register, ()):
            found = _joined(found, self.tainted.get(write, {}).get(register, False))
        return found

    def _reads(self, operation: _Operation) -> bool:
        """Whether an operation calculates with a tainted value."""
        p1, p3, at = operation.p1, operation.p3, operation.address
        if operation.name in _CALCULATING:
            return self._at(p1, at) is True or self._at(operation.p2, at) is True
        if operation.name in _READING:
            return self._at(p1, at) is True
        if operation.name in _COMPARING:
            # A float from 2**63 on comes before all blobs, those that stand for smaller integers too.
            return (self._at(p1, at) is True and self._large(p3)) or (self._at(p3, at) is True and self._large(p1))
        if operation.name in ("Function", "PureFunc", "AggStep", "AggStep1", "AggInverse"):
            function = operation.function
            if function in _CARRYING or function.startswith("kv_"):
                return False
            return any(self._at(register, at) is True for register in operation.arguments)
        return False

    def _large(self, register: int) -> bool:
        """Whether a register may hold a constant float from ``2**63`` on."""
        return any(
            self.program[write].name == "Real" and self.program[write].real >= _FIRST_WIDE
            for write in self.writes.get(register, ())
        )


def _joined(known: Any, taint: Any) -> Any:
    if isinstance(known, frozenset) and isinstance(taint, frozenset):
        return known | taint
    if known is True or taint is True:
        return True
    return taint or known


def _written(operation: _Operation) -> range | tuple[int, ...]:
    """The registers that an operation writes."""
    p1, p2, p3 = operation.p1, operation.p2, operation.p3
    match operation.name:
        case "Copy":
            return range(p2, p2 + p3 + 1)
        case "Move":
            return range(p2, p2 + p3)
        case "Null":
            return range(p2, max(p2, p3) + 1)
        case (
            "SorterData" | "RowData" | "SCopy" | "IntCopy" | "Integer" | "Int64" | "Real" | "String" | "String8"
            | "Blob" | "Variable" | "NewRowid" | "Rowid" | "Sequence" | "Not" | "BitNot" | "IsTrue" | "IdxRowid"
        ):  # fmt: skip
            return (p2,)
        case "AggFinal" | "AddImm" | "Cast":
            return (p1,)
        case (
            "VColumn" | "Column" | "MakeRecord" | "Function" | "PureFunc" | "AggStep" | "AggStep1" | "AggInverse"
            | "AggValue" | "Add" | "Subtract" | "Multiply" | "Divide" | "Remainder" | "BitAnd" | "BitOr" | "ShiftLeft"
            | "ShiftRight" | "Concat" | "And" | "Or"
        ):  # fmt: skip
            return (p3,)
        case _:
            return ()  # nothing, or nothing of a tainted value: then what the register held before counts on
