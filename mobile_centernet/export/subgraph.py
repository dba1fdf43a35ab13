"""Which part of an exported graph may leave float32: the network, from its first to its last convolution.

What lies before is the normalisation; what lies behind is sigmoid, peaks and decoding, which stay float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnx import GraphProto, NodeProto

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True)
class Body:
    """All by name, in the graph's order: `nodes` are nodes, `inputs` and `outputs` tensors that cross its border.

    first, last: convolutions behind which, or before which, there is no other: the stem's, and one a head
    hidden:      those that only the last ones follow: the hidden layer of each head
    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first: tuple[str, ...]
    hidden: tuple[str, ...]
    last: tuple[str, ...]

    @classmethod
    def of(cls, graph: GraphProto) -> "Body":
        """`graph` is in topological order and its nodes have names, as in all files that we write."""
        behind = _behind_convolutions(graph.node)
        depth = _convolutions_ahead(graph.node)
        nodes = [node for node in graph.node if _is_inside(node, behind, depth)]
        convolutions = [node for node in nodes if node.op_type in CONVOLUTIONS]
        # A head's features go to all heads at once, so its depth is counted to the farthest end.
        ahead = {node.name: max((depth.get(name, 0) for name in node.output), default=0) for node in convolutions}
        return cls(
            nodes=tuple(node.name for node in nodes),
            inputs=tuple(_entering(graph, nodes)),
            outputs=tuple(_leaving(graph, nodes)),
            first=tuple(node.name for node in convolutions if not behind & set(node.input)),
            hidden=tuple(name for name in ahead if ahead[name] == 1),
            last=tuple(name for name in ahead if ahead[name] == 0),
        )


def _behind_convolutions(nodes: Sequence[NodeProto]) -> set[str]:
    """Tensors that depend on a convolution."""
    behind: set[str] = set()
    for node in nodes:
        if node.op_type in CONVOLUTIONS or behind & set(node.input):
            behind.update(node.output)
    return behind


def _convolutions_ahead(nodes: Sequence[NodeProto]) -> dict[str, int]:
    """For tensors that a convolution depends on: how many follow one another from here, on the longest way."""
    ahead: dict[str, int] = {}
    for node in reversed(nodes):
        own = int(node.op_type in CONVOLUTIONS)
        count = own + max((ahead.get(name, 0) for name in node.output), default=0)
        if count:
            for name in node.input:
                ahead[name] = max(ahead.get(name, 0), count)
    return ahead


def _is_inside(node: NodeProto, behind: set[str], ahead: dict[str, int]) -> bool:
    if node.op_type in CONVOLUTIONS:
        return True
    return bool(behind & set(node.input)) and any(name in ahead for name in node.output)


def _entering(graph: GraphProto, nodes: Sequence[NodeProto]) -> Iterator[str]:
    known = {tensor.name for tensor in graph.initializer} | {name for node in nodes for name in node.output} | {""}
    for node in nodes:
        for name in node.input:
            if name not in known:
                known.add(name)
                yield name


def _leaving(graph: GraphProto, nodes: Sequence[NodeProto]) -> Iterator[str]:
    inside = {node.name for node in nodes}
    wanted = {name for node in graph.node if node.name not in inside for name in node.input}
    wanted |= {output.name for output in graph.output}
    yield from (name for node in nodes for name in node.output if name in wanted)
