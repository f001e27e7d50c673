"""The URLs of the forwarded routes and of the admin API for clusters."""

from django.urls import path

from lucid_gateway.policy.routes import RDP
from proxy.clusters import configured
from proxy.forwarding.resolving import ForwardedPaths, active_routes
from proxy.forwarding.tickets import TicketsView
from proxy.operators.views import ClusterMaintenanceView, ClustersView

urlpatterns = [
    ForwardedPaths(active_routes()),
    path("admin/clusters", ClustersView.as_view(), name="admin-clusters"),
    path("admin/clusters/<str:name>/maintenance", ClusterMaintenanceView.as_view(), name="admin-cluster-maintenance"),
]
if RDP in configured():
    urlpatterns.append(path("rdp/tickets", TicketsView.as_view(), name="tickets"))
