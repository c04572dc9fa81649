"""State that is updated where it lies: which updates write single rows of a buffer, and what has to run before them.

    %new = index_copy(%cache, …)            %new is %cache, with some rows written over,
    … attention(…, %new)             ->     after every step that reads the rows from before the call
    copy_(%cache, %new)                     nothing

Of a chain of updates that ends in the buffer's next value, those are made in place up to the first whose old value is
still wanted later: by a result, by another buffer, by a step that needs the new value. What is left is computed apart
and copied when all else is done. So is everything that is no update: a call that fails leaves that state as it was.
Steps that may fail run before the first update in place. Of those that need one, and so cannot, the indices are checked
before it, unless they follow from it themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch.fx import Graph, Node

from ..errors import GraphError
from ..graph.arguments import same_shape, shape_of, tensor_of
from ..graph.source import describe
from ..graph.state import is_write, writes
from .early import bounds_of, indices_read
from .grouping import Group, Grouping
from .kinds import kind_of, origin
from .memory import Memory
from .symbols import storage_of
from .updates import UPDATES
from .views import View, contiguous


class InPlace:
    """The updates of a graph that write to state, and the order that asks of its groups."""

    def __init__(self, grouping: Grouping, graph: Graph) -> None:
        self._grouping = grouping
        self.state_of: dict[Node, Node] = {}
        """For each update in place, the state it writes to."""
        for state, value in writes(graph):
            chain = _chain(state, value)
            for before, update in zip([state, *chain], chain, strict=False):
                if not self._runs_after_readers(update, before):
                    break
                self.state_of[update] = state
        self._late: dict[Node, None] = dict.fromkeys(self.state_of)
        """Who reads indices after an update in place."""
        for update in self.state_of:
            for group in list(grouping.groups.values()):
                if _may_fail(group) and not self._runs_after(update, {group.number}):
                    self._late.update(dict.fromkeys(node for node in group.nodes if indices_read(node)))
        for update in self.state_of:
            indices = {origin(index) for node in self._late for index in indices_read(node).values()}
            for number in {grouping.of[index] for index in indices if index in grouping.of}:
                self._runs_after(update, {number})

    def _runs_after_readers(self, update: Node, before: Node) -> bool:
        """Has the update run after all who read the value before it, if that can be."""
        readers: set[int] = set()
        for reader in _readers(before):
            if reader is update:
                continue
            if reader not in self._grouping.of:
                return False  # a result, or what another buffer gets
            readers.add(self._grouping.of[reader])
        return self._runs_after(update, readers)

    def _runs_after(self, update: Node, groups: set[int]) -> bool:
        """Has the update run after these groups; False if one of them needs it."""
        mine = self._grouping.of[update]
        others = groups - {mine}
        if any(self._grouping.reaches(other, mine) for other in others):
            return False
        self._grouping.groups[mine].needs |= others
        return True

    def emit(self, memory: Memory, update: Node, done: Collection[int]) -> None:
        """Adds the update's step; before the first one, all indices are checked, as far as they are known.

        `done`: the groups that have their steps.
        """
        of = self._grouping.of
        for node in self._late:
            for index, bound, wraps in bounds_of(node):
                if origin(index) not in of or of[origin(index)] in done:
                    memory.checked(index, bound, wraps, node)
        place = memory.states[self.state_of[update]]
        memory.overwrite(update, place)
        UPDATES[update.target].write(memory, update, place)


def _chain(state: Node, value: Node) -> list[Node]:
    """The updates, one of the other, by which `value` follows from `state`; none if it does not."""
    chain: list[Node] = []
    while value is not state:
        if kind_of(value) != "join" or value.target not in UPDATES:
            return []
        chain.insert(0, value)
        source = value.args[0]
        assert isinstance(source, Node)
        value = source
    return chain


def _readers(node: Node) -> list[Node]:
    """Who reads the node's elements, be it by way of movement."""
    found: list[Node] = []
    for user in node.users:
        if is_write(user):
            found += [user] if user.args[1] is node else []
        elif kind_of(user) == "movement":
            found += _readers(user)
        else:
            found.append(user)
    return found


def _may_fail(group: Group) -> bool:
    """Whether a call may end in one of the group's steps: at an index out of range, or in PyTorch."""
    return group.kind == "foreign" or any(indices_read(node) for node in group.nodes)


def write_back(memory: Memory, graph: Graph) -> None:
    """Adds the steps that give state its next values, where those were not written in place."""
    pending: list[tuple[View, View, str]] = []
    held = {view.value for view in memory.states.values()}
    for state, value in writes(graph):
        if not same_shape(shape_of(state), shape_of(value)) or tensor_of(state).dtype != tensor_of(value).dtype:
            raise GraphError(
                f"{state.target} gets a value of another shape or dtype",
                where=describe(value),
                fix="write what is like the buffer itself",
            )
        view, place = memory.view(value), memory.states[state]
        if view == place:
            continue
        label = f"{state.target}, its next value"
        # Nothing is written before all is read.
        pending.append((memory.packed(view, label) if view.value in held else view, place, label))
    for view, place, label in pending:
        memory.copy(view, place, label)


def place_states(memory: Memory, graph: Graph) -> Mapping[str, int]:
    """A value for every buffer that the graph writes to, by name."""
    named: dict[str, int] = {}
    for number, (state, _) in enumerate(writes(graph)):
        dtype, shape = storage_of(tensor_of(state).dtype), tuple(int(size) for size in shape_of(state))
        if dtype is None:
            raise GraphError(
                f"the buffer {state.target} has dtype {tensor_of(state).dtype}, which programs do not hold",
                where=describe(state),
                fix="keep it in float32",
            )
        value = memory.plan.value(dtype, shape, "state", number)
        memory.states[state] = contiguous(value, dtype, shape)
        named[str(state.target)] = value
    return named
