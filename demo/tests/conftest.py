"""The clusters run once for all tests of this folder, in a process of their own, on real sockets."""

from collections.abc import Iterator

import httpx
import pytest

from demo.launch import DemoClusters, running_clusters


@pytest.fixture(scope="session")
def clusters() -> Iterator[DemoClusters]:
    with running_clusters() as running:
        yield running


@pytest.fixture(scope="session")
def chain(clusters: DemoClusters) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=clusters.blockchain_core, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def sessions(clusters: DemoClusters) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=clusters.session_management, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def payments(clusters: DemoClusters) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=clusters.tron_payment, trust_env=False) as client:
        yield client
