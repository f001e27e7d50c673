"""django-revproxy as a whole Django project: it forwards everything, checks nothing and logs nothing."""

import os

import revproxy.views
import urllib3
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import re_path

settings.configure(
    SECRET_KEY="not used",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["revproxy"],
    LOGGING_CONFIG=None,
)
# Its own pool keeps a single connection; a larger one is faster under load, and the comparison should be fair.
revproxy.views.HTTP_POOLS = urllib3.PoolManager(maxsize=64)
application = get_wsgi_application()
urlpatterns = [re_path(r"^(?P<path>.*)$", revproxy.views.ProxyView.as_view(upstream=os.environ["BLOCKCHAIN_CORE_URL"]))]
