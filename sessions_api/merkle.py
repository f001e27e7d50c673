"""The Merkle tree of RFC 6962, section 2.1: SHA-256, with the prefix 0x00 for leaves and 0x01 for nodes.

The leaves' data are the chunks' SHA-256 digests in index order; all hashes here have 32 bytes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: Iterable[bytes]) -> bytes:
    """Return the root over the leaves' data. Memory holds only one hash per level of the tree."""
    whole: list[tuple[int, bytes]] = []  # (number of leaves, hash) of complete subtrees, the largest first
    for data in leaves:
        size, found = 1, leaf_hash(data)
        while whole and whole[-1][0] == size:
            found = node_hash(whole.pop()[1], found)
            size *= 2
        whole.append((size, found))
    if not whole:
        return hashlib.sha256().digest()
    root = whole.pop()[1]
    while whole:
        root = node_hash(whole.pop()[1], root)
    return root


def audit_path(leaves: Iterable[bytes], index: int, size: int) -> tuple[bytes, list[bytes]]:
    """Return the data of the leaf at `index` of `size` and the hashes from it up to the root (section 2.1.1).

    Needs as little memory as `tree_hash`. Raises IndexError.
    """
    if not 0 <= index < size:
        raise IndexError(index)
    rest, leaf, hashes = iter(leaves), b"", {}
    spans = siblings(index, size)
    for start, end in sorted([*spans, (index, index + 1)]):
        part = islice(rest, end - start)
        if start == index:
            leaf = next(part, b"")
        else:
            hashes[start] = tree_hash(part)
    return leaf, [hashes[start] for start, _ in spans]


def siblings(index: int, size: int) -> list[tuple[int, int]]:
    """Return the range of leaves, `(start, end)`, below each sibling on the path from the leaf up to the root."""
    spans, start, end = [], 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


class Tree:
    """A whole tree in memory, for the audit paths of many leaves; `levels` run from the leaves' hashes to the root."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self.levels = [[leaf_hash(data) for data in leaves]]
        while len(self.levels[-1]) > 1:
            self.levels.append(parents(self.levels[-1]))

    @property
    def root(self) -> bytes:
        return self.levels[-1][0] if self.levels[0] else hashlib.sha256().digest()

    def audit_path(self, index: int) -> list[bytes]:
        """Return the hashes from the leaf up to the root (section 2.1.1); raise IndexError."""
        if not 0 <= index < len(self.levels[0]):
            raise IndexError(index)
        path = []
        for level in self.levels:
            if (sibling := index ^ 1) < len(level):
                path.append(level[sibling])
            index //= 2
        return path


def parents(level: Sequence[bytes]) -> list[bytes]:
    """Return the level above; a node without a sibling moves up unchanged."""
    pairs = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def root_from_path(data: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that follows from the audit path of the leaf at `index` of `size` (RFC 9162, section 2.1.3.2).

    Raises ValueError if the path is too short or too long.
    """
    found, last, rest = leaf_hash(data), size - 1, list(path)
    while last:
        if index % 2 or index < last:
            if not rest:
                raise ValueError("the path is too short")
            sibling = rest.pop(0)
            found = node_hash(sibling, found) if index % 2 else node_hash(found, sibling)
        index, last = index // 2, last // 2
    if rest:
        raise ValueError("the path is too long")
    return found
