"""The Merkle tree against an independent implementation and the examples of RFC 6962."""

import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_inclusion

from sessions_api.merkle import Tree, audit_path, leaf_hash, node_hash, root_from_path, tree_hash

LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


def theirs(leaves: list[bytes]) -> InmemoryTree:
    """Return the tree as pymerkle builds it."""
    return InmemoryTree.init_from_entries(leaves, algorithm="sha256")


@given(LEAVES)
def test_the_root_matches_an_independent_implementation(leaves: list[bytes]) -> None:
    assert tree_hash(iter(leaves)) == Tree(leaves).root == theirs(leaves).get_root()


@given(LEAVES, st.data())
def test_an_audit_path_leads_to_the_root_in_both_implementations(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path, tree = Tree(leaves).audit_path(index), theirs(leaves)
    assert root_from_path(leaves[index], index, len(leaves), path) == tree.get_root()
    proof = tree.prove_inclusion(index + 1)
    verify_inclusion(leaf_hash(leaves[index]), tree.get_root(), proof)
    assert path == proof.path[1:]
    assert audit_path(iter(leaves), index, len(leaves)) == (leaves[index], path)


@given(LEAVES, st.data())
def test_an_audit_path_fits_no_other_leaf_or_index(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path, root = Tree(leaves).audit_path(index), tree_hash(leaves)
    assert root_from_path(b"\xff" * 33, index, len(leaves), path) != root
    changed = [*path, b"\x00" * 32]
    with pytest.raises(ValueError, match="too long"):
        root_from_path(leaves[index], index, len(leaves), changed)
    if path:
        with pytest.raises(ValueError, match="too short"):
            root_from_path(leaves[index], index, len(leaves), path[:-1])


def test_the_tree_of_seven_leaves_matches_the_rfc() -> None:
    """RFC 6962, section 2.1.3: the audit path of d0 in the tree of seven is [b, h, l], that of d6 is [i, k]."""
    data = [bytes([number]) * 32 for number in range(7)]
    a, b, c, d, e, f, j = (leaf_hash(one) for one in data)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l = node_hash(g, h), node_hash(i, j)  # noqa: E741  # the RFC's letters
    tree = Tree(data)
    assert tree.root == tree_hash(data) == node_hash(k, l)
    assert tree.audit_path(0) == [b, h, l]
    assert tree.audit_path(3) == [c, g, l]
    assert tree.audit_path(4) == [f, j, k]
    assert tree.audit_path(6) == [i, k]


def test_an_empty_tree_is_the_hash_of_nothing() -> None:
    assert tree_hash([]) == Tree([]).root == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_audit_path_to_an_unknown_index(index: int) -> None:
    with pytest.raises(IndexError):
        Tree([b"a", b"b", b"c"]).audit_path(index)
    with pytest.raises(IndexError):
        audit_path([b"a", b"b", b"c"], index, 3)


def test_an_audit_path_in_a_large_tree_needs_little_memory() -> None:
    tracemalloc.start()
    try:
        audit_path((number.to_bytes(32) for number in range(100_000)), 77_777, 100_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000  # bytes: a tree of them has 20 MB
