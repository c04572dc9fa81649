"""Every matrix product is a linear where that is possible, or else a matmul; views and biases join it.

addmm(b, x, permute(w)), mm(x, permute(w))          ->  linear(x, w, b)
mm(x, constant), matmul(x, constant)                ->  linear(x, permute(constant))
bmm(x, reshape(expand(permute(w))))                 ->  linear(x, w)             one matrix for the whole batch
mm(x, y), bmm(expand(x), expand(y))                 ->  matmul(x, y)
baddbmm(c, x, y, beta, alpha)                       ->  add(mul(matmul(x, y), alpha), mul(c, beta))
reshape(linear(reshape(x), w, b))                   ->  linear(x, w, b)          where only leading dims are merged
reshape(matmul(reshape(x), reshape(y)))             ->  matmul(x, y)             likewise
add(linear(x, w), constant bias)                    ->  linear(x, w, bias)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, order_of, same_shape, same_size, shape_of, source_of, tensor_of
from ..graph.edit import insert, replace
from ..graph.qparams import is_dequantize
from ..graph.state import is_state

_A = torch.ops.aten
_ADDED = (_A.addmm.default, _A.baddbmm.default)
_PLAIN = (_A.mm.default, _A.bmm.default, _A.matmul.default)


def spell_products(module: GraphModule) -> None:
    """Rewrites products to linear and matmul."""
    for node in list(module.graph.nodes):
        if is_call(node, *_ADDED) and tensor_of(node).is_floating_point():
            _spell_sum(node)
        elif is_call(node, *_PLAIN):
            left, right = _operands(node)
            replace(node, _product(node, left, right))
    for node in list(module.graph.nodes):
        if is_call(node, _A.reshape.default) and is_call(node.args[0], _A.linear.default, _A.matmul.default):
            _lift_views(node, source_of(node))
    for node in list(module.graph.nodes):
        if is_call(node, _A.add.Tensor) and arguments(node)["alpha"] == 1:
            _take_bias(node)


def _operands(node: Node) -> tuple[Node, Node]:
    given = arguments(node)
    names = ("mat1", "mat2") if "mat1" in given else ("batch1", "batch2") if "batch1" in given else None
    found = [given[name] for name in names] if names else list(given.values())
    return found[0], found[1]


def _product(node: Node, left: Node, right: Node, bias: Node | None = None) -> Node:
    """The product before `node`, as a linear if that can be."""
    weight = _weight(node, right)
    if weight is None:
        left, right = (_unexpanded(operand) for operand in (left, right))
        return insert(node, _A.matmul.default, (left, right), like=node)
    operands = (left, weight) if bias is None else (left, weight, bias)
    return insert(node, _A.linear.default, operands, like=node)


def _weight(node: Node, right: Node) -> Node | None:
    """The matrix whose transpose `right` is, for every batch index; one must be there, or `right` be a constant."""
    matrix = right
    while is_call(matrix, _A.expand.default, _A.reshape.default) and _keeps_matrix(matrix):
        matrix = source_of(matrix)
    if len(shape_of(matrix)) != 2:
        return None
    transposed = is_call(matrix, _A.permute.default) and order_of(matrix) == [1, 0]
    constant = source_of(matrix) if transposed else matrix
    if not transposed and not _is_constant(constant):
        return None
    return constant if transposed else insert(node, _A.permute.default, (matrix, [1, 0]), like=node)


def _is_constant(node: Node) -> bool:
    while is_dequantize(node) or is_call(node, _A.permute.default):
        node = source_of(node)
    return node.op == "get_attr" and not is_state(node)


def _keeps_matrix(movement: Node) -> bool:
    """Whether an expand or a reshape leaves the last two dims as they are."""
    before, after = shape_of(source_of(movement)), shape_of(movement)
    return len(before) >= 2 and len(after) >= 2 and same_shape(before[-2:], after[-2:])


def _unexpanded(operand: Node) -> Node:
    """matmul broadcasts its leading dims by itself."""
    while is_call(operand, _A.expand.default) and _keeps_matrix(operand):
        operand = source_of(operand)
    return operand


def _spell_sum(node: Node) -> None:
    given = arguments(node)
    left, right = _operands(node)
    added, alpha, beta = given["self"], given["alpha"], given["beta"]
    is_bias = len(shape_of(added)) == 1 and same_size(shape_of(added)[0], shape_of(node)[-1])
    if is_bias and alpha == 1 and beta == 1 and _weight(node, right) is not None:
        replace(node, _product(node, left, right, added))
        return
    total = _product(node, left, right)
    if alpha != 1:
        total = insert(node, _A.mul.Tensor, (total, alpha), like=node)
    if beta != 1:
        added = insert(node, _A.mul.Tensor, (added, beta), like=node)
    replace(node, insert(node, _A.add.Tensor, (total, added), like=node) if beta != 0 else total)


def _lift_views(node: Node, product: Node) -> None:
    left, right, *bias = product.args
    if len(product.users) != 1 or not isinstance(left, Node) or not isinstance(right, Node):
        return
    if is_call(left, _A.reshape.default) and len(shape_of(right)) == 2:
        whole = source_of(left)
        columns = shape_of(product)[-1]
        vector = len(shape_of(whole)) < 2 and not is_call(product, _A.linear.default)  # which kernels do not multiply
        kept = same_shape(shape_of(whole)[-1:], shape_of(left)[-1:])
        if kept and not vector and same_shape(shape_of(node), (*shape_of(whole)[:-1], columns)):
            replace(node, insert(node, product.target, (whole, right, *bias), like=product, value=node.meta["val"]))
        return
    if not is_call(product, _A.matmul.default) or not same_shape(shape_of(node)[-2:], shape_of(product)[-2:]):
        return
    leading = shape_of(node)[:-2]
    wholes = [_without_merge(operand, leading) for operand in (left, right)]
    if None not in wholes:
        operands = tuple(_unexpanded(whole) for whole in wholes if whole is not None)
        replace(node, insert(node, product.target, operands, like=product, value=node.meta["val"]))


def _without_merge(operand: Node, leading: Sequence[Any]) -> Node | None:
    """`operand` before its leading dims were merged from `leading`, or None."""
    if not is_call(operand, _A.reshape.default) or not _keeps_matrix(operand):
        return None
    whole = source_of(operand)
    return whole if same_shape(shape_of(whole)[:-2], leading) else None


def _take_bias(node: Node) -> None:
    given = arguments(node)
    for product, bias in ((given["self"], given["other"]), (given["other"], given["self"])):
        if not is_call(product, _A.linear.default) or not isinstance(bias, Node) or bias.op != "get_attr":
            continue
        alone = len(product.users) == 1 and arguments(product)["bias"] is None
        alike = tensor_of(bias).dtype == tensor_of(product).dtype
        if alone and alike and same_shape(shape_of(bias), shape_of(product)[-1:]):
            operands = (*product.args[:2], bias)
            replace(node, insert(node, product.target, operands, like=product, value=node.meta["val"]))
            return
