"""Which part of an exported graph may leave float32: the network, from its first to its last convolution.

What lies before is the normalisation; what lies after is sigmoid, peaks and decoding, which stay float32.
"""

from dataclasses import dataclass

from onnx import GraphProto

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True)
class NetworkSubgraph:
    """All by name, in the graph's order: `nodes` are nodes, `inputs` and `outputs` tensors that cross its border.

    first, last: convolutions with no other before them, or none after them: the stem's, and one per head
    hidden:      those that only the last ones follow: the hidden layer of each head
    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first: tuple[str, ...]
    hidden: tuple[str, ...]
    last: tuple[str, ...]

    @classmethod
    def of(cls, graph: GraphProto) -> "NetworkSubgraph":
        """The network in `graph`, which is in topological order with named nodes, as in all files that we write."""
        after: set[str] = set()  # tensors that depend on a convolution
        for node in graph.node:
            if node.op_type in CONVOLUTIONS or after & set(node.input):
                after.update(node.output)
        # For tensors that a convolution depends on: how many follow one another from here, on the longest path.
        # A head's features go to all heads at once, so their depth is counted to the farthest end.
        depth: dict[str, int] = {}
        for node in reversed(graph.node):
            own = int(node.op_type in CONVOLUTIONS)
            count = own + max((depth.get(name, 0) for name in node.output), default=0)
            for name in node.input if count else ():
                depth[name] = max(depth.get(name, 0), count)
        nodes = [
            node
            for node in graph.node
            if node.op_type in CONVOLUTIONS or (after & set(node.input) and any(name in depth for name in node.output))
        ]

        inside, written = {node.name for node in nodes}, {name for node in nodes for name in node.output}
        known = {tensor.name for tensor in graph.initializer} | written | {""}
        read = dict.fromkeys(name for node in nodes for name in node.input if name not in known)
        wanted = {name for node in graph.node if node.name not in inside for name in node.input}
        wanted |= {output.name for output in graph.output}
        convolutions = [node for node in nodes if node.op_type in CONVOLUTIONS]
        left = {node.name: max((depth.get(name, 0) for name in node.output), default=0) for node in convolutions}
        return cls(
            nodes=tuple(node.name for node in nodes),
            inputs=tuple(read),
            outputs=tuple(name for node in nodes for name in node.output if name in wanted),
            first=tuple(node.name for node in convolutions if not after & set(node.input)),
            hidden=tuple(name for name, count in left.items() if count == 1),
            last=tuple(name for name, count in left.items() if count == 0),
        )
