"""The WSGI application that gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

from lucid_gateway.server.middleware_calls import use_bound_methods

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lucid_gateway.settings")
use_bound_methods()
django_application = get_wsgi_application()

from lucid_gateway import urls  # noqa: E402, F401  # else the first request would wait for them
from ratelimit.addresses.front_gate import AddressGate  # noqa: E402  # its models can be loaded only now

# Requests from blocked addresses do not reach Django.
application = AddressGate(django_application)
