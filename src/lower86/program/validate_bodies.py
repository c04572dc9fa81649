"""Whether a body is one that can be emitted: references backwards, known operations on dtypes they have, sound leaves.

What is checked here is what the code generator takes for granted. That loads and stores stay within their buffers is
another matter, of concrete sizes: `access`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import ArtifactError
from . import limits
from .body import Body, Node
from .dtypes import DTYPES
from .signatures import COMPUTED, SIGNATURES, STORED, WEIGHTS
from .sizes import Size, SizeExpr, names
from .sizes import size_parts as parts

_FIX = "get the file it came from again from its source; if lower86 has just made the program, report this"


def refuse(where: str, what: str) -> ArtifactError:
    """The error for a part of a program that makes no sense."""
    return ArtifactError(what, where=where, fix=_FIX)


@dataclass
class Sizes:
    """Checks the sizes of one kernel, and counts what they are made of."""

    where: str
    parts: int = 0

    def check(self, size: object, *, low: int = -limits.MOST_NUMBER) -> None:
        """`size` is one, of numbers and dims that kernels may have; a number is at least `low`."""
        if type(size) is int:
            if not low <= size <= limits.MOST_NUMBER:
                raise refuse(self.where, f"a size or stride of {size}")
            return
        if not isinstance(size, SizeExpr):
            raise refuse(self.where, "a size belongs here")
        self.parts += parts(size)
        if self.parts > limits.MOST_PARTS:
            raise refuse(self.where, f"sizes of more than {limits.MOST_PARTS} terms and factors")
        check_expression(size, self.where)
        if any(name not in _KERNEL_DIMS for name in names(size)):
            raise refuse(self.where, f"a size of unknown dims: {size}")

    def check_all(self, sizes: Sequence[object], *, low: int = -limits.MOST_NUMBER) -> None:
        """`check` of each."""
        for size in sizes:
            self.check(size, low=low)


_KERNEL_DIMS = frozenset(f"d{i}" for i in range(limits.MOST_DIMS))


def check_expression(size: Size, where: str) -> None:
    """Numbers in bounds, and no division by a number that is not positive."""
    if isinstance(size, int):
        if abs(size) > limits.MOST_NUMBER:
            raise refuse(where, f"a size of {size}")
        return
    for monomial, coefficient in size.terms:
        if abs(coefficient) > limits.MOST_NUMBER:
            raise refuse(where, f"a size of {coefficient} times something")
        for atom in monomial:
            if isinstance(atom, str):
                continue
            check_expression(atom.numerator, where)
            check_expression(atom.denominator, where)
            if isinstance(atom.denominator, int) and atom.denominator <= 0:
                raise refuse(where, f"a size divided by {atom.denominator}")


def check_sizes(sizes: Iterable[Size], known: Collection[str], where: str) -> None:
    """`check_expression` of sizes that depend on none but the dims of these names."""
    for size in sizes:
        check_expression(size, where)
        if not isinstance(size, int) and not set(names(size)) <= set(known):
            raise refuse(where, f"a size of unknown dims: {size}")


@dataclass(frozen=True)
class Places:
    """What a body may hold: its dims, the dtypes of the kernel's own values, how many strides its stores have."""

    dims: int
    values: Mapping[int, str] = field(default_factory=dict)
    store_ranks: Collection[int] = ()
    scatters: bool = False
    copies: int = 1
    """How often the body is written out."""


def check_body(body: Body, places: Places, sizes: Sizes, where: str) -> None:
    """Raises ArtifactError for a body that cannot be emitted at the kernel's points."""
    if len(body.nodes) > limits.MOST_NODES or len(body.stores) > limits.MOST_NODES:
        raise refuse(where, f"a body of more than {limits.MOST_NODES} operations")
    for position, node in enumerate(body.nodes):
        at = f"{where}.nodes[{position}]"
        if not all(0 <= argument < position for argument in node.args):
            raise refuse(at, "an operation on itself or on what comes after it")
        given = [body.nodes[argument].dtype for argument in node.args]
        check = _LEAVES.get(node.op)
        if check is not None:
            check(node, given, places, sizes, at)
        elif node.op not in SIGNATURES:
            raise refuse(at, f"an unknown operation {node.op!r}")
        elif node.attrs or not SIGNATURES[node.op](given, node.dtype):
            raise refuse(at, f"{node.op} of {', '.join(given) or 'nothing'} to {node.dtype}")
        if node.op == "quantize" and not all(_is_bound(body.nodes[a], node.dtype) for a in node.args[3:]):
            raise refuse(at, f"bounds that are no numbers of {node.dtype}")
    if weight_of(body) * places.copies > limits.MOST_WEIGHT:
        raise refuse(where, "more operations than a kernel may have")
    for number, store in enumerate(body.stores):
        at = f"{where}.stores[{number}]"
        if not 0 <= store.node < len(body.nodes):
            raise refuse(at, f"stores operation {store.node} of {len(body.nodes)}")
        if len(store.strides) not in places.store_ranks:
            raise refuse(at, f"a store of {len(store.strides)} strides in {places.dims} dims")
        _check_slot(store.slot, at)
        sizes.check_all(store.strides)
        if store.places and not (places.scatters and len(store.strides) == places.dims):
            raise refuse(at, "a store at computed places in a kernel that has none")
        if len(store.places) > limits.MOST_RANK:
            raise refuse(at, "more computed places than dims")
        for node_, stride, bound in store.places:
            if not 0 <= node_ < len(body.nodes) or body.nodes[node_].dtype != "i64":
                raise refuse(at, "a store at what is no index")
            sizes.check(stride)
            sizes.check(bound)


def weight_of(body: Body) -> int:
    """Operations of a body, those that take long to compile counting more."""
    return sum(WEIGHTS.get(node.op, 1) for node in body.nodes) + 4 * len(body.stores)


def _is_bound(node: Node, dtype: str) -> bool:
    """Whether a quantization's bound is a number of the dtype, or a param: then `validate` looks at what it is."""
    return node.op == "param" or (node.op == "const" and fits_bounds(node.constant, dtype))


def fits_bounds(number: float, dtype: str) -> bool:
    """Whether floats up to `number` can be converted to `dtype`; those to i32 saturate."""
    if dtype == "i32":
        return True
    low, high = integer_range(dtype)
    return low <= number <= high


def integer_range(dtype: str) -> tuple[int, int]:
    """The lowest and the highest number of an integer dtype."""
    bits = 8 * DTYPES[dtype].size
    return (0, 2**bits - 1) if DTYPES[dtype].kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def fits(number: object, dtype: str) -> bool:
    """Whether a number is one of the dtype, of the Python type that stands for it; floats are rounded to it."""
    kind = DTYPES[dtype].kind
    if kind == "bool":
        return type(number) is bool
    if kind == "float":
        return type(number) in (int, float)
    low, high = integer_range(dtype)
    return type(number) is int and low <= number <= high


def _check_slot(slot: object, at: str) -> None:
    if type(slot) is not int or not 0 <= slot < limits.MOST_SLOTS:
        raise refuse(at, f"no slot has the number {slot!r}")


def _no_arguments(given: Sequence[str], at: str) -> None:
    if given:
        raise refuse(at, "a leaf with arguments")


def _strides(strides: object, places: Places, sizes: Sizes, at: str) -> None:
    if not isinstance(strides, tuple) or len(strides) > places.dims:
        raise refuse(at, f"strides of {places.dims} dims belong here")
    sizes.check_all(strides)


def _load(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if len(node.attrs) != 2 or node.dtype not in STORED:
        raise refuse(at, "a load is of a slot and strides, as a known dtype")
    _check_slot(node.attrs[0], at)
    _strides(node.attrs[1], places, sizes, at)


def _gather(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    if len(node.attrs) != 4 or node.dtype not in STORED or type(node.attrs[3]) is not bool:
        raise refuse(at, "a gather is of a slot, strides, computed places, and whether they wrap")
    _check_slot(node.attrs[0], at)
    _strides(node.attrs[1], places, sizes, at)
    computed = node.attrs[2]
    if not isinstance(computed, tuple) or not 1 <= len(computed) <= limits.MOST_RANK or len(computed) != len(given):
        raise refuse(at, "a gather has a stride and a bound for each argument")
    if any(dtype != "i64" for dtype in given):
        raise refuse(at, "a gather at what is no index")
    for pair in computed:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise refuse(at, "a gather has a stride and a bound for each argument")
        sizes.check_all(pair)


def _checked(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    if [*given, node.dtype] != ["i64", "i64"] or len(node.attrs) != 2 or type(node.attrs[1]) is not bool:
        raise refuse(at, "what is checked is an index, by its bound")
    sizes.check(node.attrs[0])


def _index(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if node.dtype != "i64" or len(node.attrs) != 1 or not _is_number(node.attrs[0], places.dims):
        raise refuse(at, f"the index of one of {places.dims} dims belongs here")


def _extent(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if node.dtype != "i64" or len(node.attrs) != 1:
        raise refuse(at, "an extent is a size, as i64")
    sizes.check(node.attrs[0])


def _const(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if node.dtype not in COMPUTED or len(node.attrs) != 1 or not fits(node.attrs[0], node.dtype):
        raise refuse(at, f"a number of {node.dtype} belongs here")


def _param(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if node.dtype not in NUMBERS_OF_PARAMS or len(node.attrs) != 1 or not _is_number(node.attrs[0], limits.MOST_PARAMS):
        raise refuse(at, "a param is a number of the step, of a dtype that is computed with")


def _value(node: Node, given: Sequence[str], places: Places, sizes: Sizes, at: str) -> None:
    _no_arguments(given, at)
    if len(node.attrs) != 1 or type(node.attrs[0]) is not int or places.values.get(node.attrs[0]) != node.dtype:
        raise refuse(at, "the kernel has no such value of its own")


def _is_number(attribute: object, below: int) -> bool:
    return type(attribute) is int and 0 <= attribute < below


NUMBERS_OF_PARAMS = COMPUTED - {"bool"}
_LEAVES: Mapping[str, Callable[[Node, Sequence[str], Places, Sizes, str], None]] = {
    "load": _load,
    "gather": _gather,
    "checked": _checked,
    "index": _index,
    "extent": _extent,
    "const": _const,
    "param": _param,
    "value": _value,
}
