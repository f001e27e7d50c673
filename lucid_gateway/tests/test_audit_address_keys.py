"""Addresses of audit events are found by networks."""

import importlib

from django.apps import apps

from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.addresses import key_of, keys_of_network


def test_keys_sort_by_number_and_a_mapped_address_has_the_key_of_its_ipv4_address() -> None:
    addresses = ["9.9.9.9", "10.0.0.2", "10.0.0.10", "2001:db8::2", "2001:db8::10"]

    assert [key_of(address) for address in addresses] == sorted(key_of(address) for address in addresses)
    assert key_of("::ffff:192.0.2.1") == key_of("192.0.2.1")
    assert key_of("nonsense") == key_of("") == ""


def test_a_network_is_the_range_from_its_first_to_its_last_key() -> None:
    first, last = keys_of_network("192.0.2.77/23")

    inside = ["192.0.2.0", "192.0.3.255"]
    outside = ["192.0.1.255", "192.0.4.0", "2001:db8::1", ""]
    assert [first <= key_of(address) <= last for address in inside + outside] == [True] * 2 + [False] * 4


def test_every_event_has_the_key_of_its_address(db: None) -> None:
    AuditEvent(type="logout", address="192.0.2.1").save()
    AuditEvent.objects.bulk_create([AuditEvent(type="logout", address="192.0.2.1"), AuditEvent(type="logout")])

    assert sorted(AuditEvent.objects.values_list("address_key", flat=True)) == ["", *[key_of("192.0.2.1")] * 2]


def test_the_migration_gives_old_events_their_keys(db: None) -> None:
    AuditEvent.objects.bulk_create([AuditEvent(type="logout", address=address) for address in ("192.0.2.1", "?", "")])
    AuditEvent.objects.all()._blank(address_key="")

    importlib.import_module("lucid_gateway.audit.migrations.0003_fill_address_keys").fill(apps, None)

    assert set(AuditEvent.objects.values_list("address", "address_key")) == {
        ("192.0.2.1", key_of("192.0.2.1")), ("?", ""), ("", ""),
    }  # fmt: skip


def test_the_key_of_a_deleted_persons_address_is_forgotten(db: None) -> None:
    AuditEvent(type="logout", actor="ada", address="192.0.2.1").save()
    AuditEvent.objects.forget_person("ada")

    assert list(AuditEvent.objects.values_list("address", "address_key")) == [("", "")]
