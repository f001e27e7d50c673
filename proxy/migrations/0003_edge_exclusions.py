import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxy', '0002_keys_on_mongodb'),
    ]

    operations = [
        migrations.CreateModel(
            name='EdgeExclusion',
            fields=[
                ('path', models.CharField(blank=True, max_length=200, primary_key=True, serialize=False)),
                ('reason', models.CharField(max_length=200)),
                ('created_by', models.CharField(max_length=254)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'indexes': [models.Index(fields=['path'], name='edge_exclusion_key')],
            },
        ),
    ]
