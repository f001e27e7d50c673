"""The URLs of the forwarded routes and of the admin API for clusters."""

from django.urls import path

from proxy.forwarding.resolving import ForwardedPaths, active_routes
from proxy.operators.views import ClusterMaintenanceView, ClustersView

urlpatterns = [
    ForwardedPaths(active_routes()),
    path("admin/clusters", ClustersView.as_view(), name="admin-clusters"),
    path("admin/clusters/<str:name>/maintenance", ClusterMaintenanceView.as_view(), name="admin-cluster-maintenance"),
]
