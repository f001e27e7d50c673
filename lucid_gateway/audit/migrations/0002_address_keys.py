from django.db import migrations, models

import lucid_gateway.audit.models


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='auditevent',
            name='address_key',
            field=lucid_gateway.audit.models.AddressKeyField(blank=True, default='', editable=False, max_length=32),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['address_key', 'created_at'], name='audit_address_key'),
        ),
    ]
