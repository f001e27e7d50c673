"""The admin API for clusters."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.api.requests import caller, parse, valid
from proxy.operators import serializers as shapes
from proxy.operators.closing import close_cluster, cluster_or_not_found, open_cluster
from proxy.operators.overview import clusters
from ratelimit.endpoints import AdminView


class ClustersView(AdminView):
    """The clusters behind the gateway."""

    permissions = {"GET": "admin:read"}

    @extend_schema(responses=shapes.ClustersSerializer, tags=["admin"])
    def get(self, request: Request) -> Response:
        """List the configured clusters with their maintenance and what all workers report on each instance."""
        found, _ = clusters()
        return Response({"clusters": shapes.ClusterSerializer(found, many=True).data})


class ClusterMaintenanceView(AdminView):
    """Takes a cluster out of service, and back in."""

    permissions = {"POST": "admin:write", "DELETE": "admin:write"}

    @extend_schema(
        request=shapes.NewMaintenanceSerializer, responses={201: shapes.MaintenanceSerializer}, tags=["admin"]
    )
    def post(self, request: Request, name: str) -> Response:
        """Take a cluster or one instance out of service, now or later; workers follow within seconds.

        Requests in progress finish. While all instances of a cluster are closed, new requests get 503 LUCID_ERR_5009.
        During `drain` health checks continue; during `maintenance` the cluster is expected to be down.
        """
        cluster = cluster_or_not_found(name)
        data = parse(shapes.NewMaintenanceSerializer, request, cluster=cluster)
        row = close_cluster(cluster=cluster.name, by=caller(request).user_id, **data)
        return Response(shapes.MaintenanceSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[shapes.MaintenanceQuery], request=None, responses={204: None}, tags=["admin"])
    def delete(self, request: Request, name: str) -> Response:
        """End the maintenance, in force or scheduled, of the cluster or of one instance; it takes effect now."""
        cluster = cluster_or_not_found(name)
        query = valid(shapes.MaintenanceQuery(data=request.query_params, context={"cluster": cluster}))
        open_cluster(cluster=cluster.name, by=caller(request).user_id, **query)
        return Response(status=status.HTTP_204_NO_CONTENT)
