from django.db import migrations
from django.db.models import QuerySet

from lucid_gateway.kernel.addresses import key_of


def fill(apps, schema_editor):
    """Give old events their keys, one update for each address."""
    events = QuerySet(apps.get_model('audit', 'AuditEvent')).filter(address_key='').exclude(address='').order_by()
    for address in list(events.values_list('address', flat=True).distinct()):
        if key := key_of(address):
            events.filter(address=address).update(address_key=key)


class Migration(migrations.Migration):

    # Each update is short, so that other writers are not held up meanwhile.
    atomic = False

    dependencies = [
        ('audit', '0002_address_keys'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RemoveIndex(model_name='auditevent', name='audit_address'),
    ]
