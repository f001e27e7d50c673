"""The addresses of the clusters in the environment, and requests to a cluster without a working address."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings

from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.errors import ServiceUnavailable
from lucid_gateway.policy.routes import ROUTES
from proxy.clusters import Instance, cluster_named, configured, instance
from testing.http.cluster import RawCluster, deaf_server

Addresses = Callable[..., None]


@pytest.fixture
def addresses(settings: Any) -> Iterator[Addresses]:
    """Sets addresses of clusters for one test."""

    def set_addresses(**urls: str) -> None:
        split = {name: tuple(url for url in text.split(",") if url) for name, text in urls.items()}
        settings.ENV = settings.ENV.model_copy(update=split)
        configured.cache_clear()

    yield set_addresses
    configured.cache_clear()


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("http://core.test:8084", Instance("http", "core.test", 8084), "core.test:8084"),
        ("http://core.test", Instance("http", "core.test", 80), "core.test"),
        ("https://core.test", Instance("https", "core.test", 443), "core.test"),
        ("https://core.test:80", Instance("https", "core.test", 80), "core.test:80"),
        ("http://Core.Test:80", Instance("http", "core.test", 80), "core.test"),
        ("http://[2001:db8::1]:8084", Instance("http", "2001:db8::1", 8084), "[2001:db8::1]:8084"),
        ("http://[::1]", Instance("http", "::1", 80), "[::1]"),
    ],
)
def test_an_address_is_parsed_into_an_instance(url: str, expected: Instance, authority: str) -> None:
    assert instance(url) == expected
    assert instance(url).authority == authority


def test_a_cluster_may_have_several_instances(addresses: Addresses) -> None:
    addresses(TRON_PAYMENT_URL="http://a.test:1,http://b.test:2")
    assert [found.host for found in cluster_named("tron_payment").instances] == ["a.test", "b.test"]


def test_clusters_without_an_address_are_not_configured(addresses: Addresses) -> None:
    addresses(TRON_PAYMENT_URL="")
    assert set(configured()) == {"blockchain_core", "session_management"}


def test_a_cluster_without_an_address_is_unavailable(addresses: Addresses) -> None:
    addresses(TRON_PAYMENT_URL="")
    with pytest.raises(ServiceUnavailable) as caught:
        cluster_named("tron_payment")
    assert caught.value.details == {"cluster": "tron_payment"}


def test_every_route_has_a_cluster_and_every_cluster_a_setting() -> None:
    assert {route.cluster for route in ROUTES} <= set(CLUSTERS)
    for cluster in CLUSTERS.values():
        assert hasattr(settings.ENV, cluster.setting)


def test_a_required_cluster_without_an_address_gives_503(
    api: ApiClient, tokens: TokenPair, addresses: Addresses
) -> None:
    addresses(TRON_PAYMENT_URL="")
    response = api.send("get", "/wallets", token=tokens.access)
    assert (response.status_code, error_code(response)) == (503, "5008")
    assert int(response["Retry-After"]) > 0


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "https://no-such-host.invalid:8443"])
def test_a_cluster_whose_name_does_not_resolve_gives_502(
    api: ApiClient, tokens: TokenPair, addresses: Addresses, url: str
) -> None:
    addresses(TRON_PAYMENT_URL=url)
    response = api.send("post", "/wallets", {}, token=tokens.access)
    assert (response.status_code, error_code(response)) == (502, "5005")


def test_a_cluster_that_accepts_no_connection_gives_504(
    api: ApiClient, tokens: TokenPair, addresses: Addresses
) -> None:
    with deaf_server() as port:
        addresses(TRON_PAYMENT_URL=f"http://127.0.0.1:{port}")
        response = api.send("post", "/wallets", {}, token=tokens.access)
    assert (response.status_code, error_code(response)) == (504, "5006")


def test_https_requires_a_trusted_certificate(
    api: ApiClient, tokens: TokenPair, addresses: Addresses, raw_cluster: RawCluster
) -> None:
    addresses(TRON_PAYMENT_URL=f"https://127.0.0.1:{raw_cluster.port}")
    raw_cluster.on_head = lambda visit: visit.close()
    assert error_code(api.send("post", "/wallets", {}, token=tokens.access)) in ("5005", "5006")
    assert raw_cluster.requests == []
