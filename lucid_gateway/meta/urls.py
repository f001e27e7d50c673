from django.conf import settings
from django.urls import path

from lucid_gateway.meta import views

urlpatterns = [
    path("info", views.InfoView.as_view(), name="info"),
    path("version", views.VersionView.as_view(), name="version"),
    path("health", views.HealthView.as_view(), name="health"),
    path("health/live", views.LiveView.as_view(), name="health-live"),
    path("health/ready", views.ReadyView.as_view(), name="health-ready"),
]
if settings.ENV.METRICS_ENABLED:
    urlpatterns.append(path("metrics", views.MetricsView.as_view(), name="metrics"))
