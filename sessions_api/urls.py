from django.urls import path

from sessions_api.views import manifests

urlpatterns = [
    path("manifests", manifests.ManifestsView.as_view(), name="manifests"),
    path("manifests/<str:manifest_id>", manifests.ManifestView.as_view(), name="manifest"),
    path("manifests/<str:manifest_id>/proof/<str:index>", manifests.ProofView.as_view(), name="proof"),
    path("manifests/<str:manifest_id>/anchor", manifests.AnchorView.as_view(), name="anchor"),
]
