from django.urls import path

from sessions_api.views import chunks, manifests, policies, sessions

urlpatterns = [
    path("manifests", manifests.ManifestsView.as_view(), name="manifests"),
    path("manifests/<str:manifest_id>", manifests.ManifestView.as_view(), name="manifest"),
    path("manifests/<str:manifest_id>/proof/<str:index>", manifests.ProofView.as_view(), name="proof"),
    path("manifests/<str:manifest_id>/anchor", manifests.AnchorView.as_view(), name="anchor"),
    path("trust/policies", policies.PoliciesView.as_view(), name="trust-policies"),
    path("trust/policies/<str:policy_id>", policies.PolicyView.as_view(), name="trust-policy"),
    path("trust/policies/<str:policy_id>/evaluate", policies.EvaluateView.as_view(), name="trust-policy-evaluate"),
    # A second name for the same endpoints, which the OpenAPI document leaves out.
    path("trust-policies", policies.PoliciesView.as_view(schema=None)),
    path("trust-policies/<str:policy_id>", policies.PolicyView.as_view(schema=None)),
    path("trust-policies/<str:policy_id>/evaluate", policies.EvaluateView.as_view(schema=None)),
    path("sessions", sessions.SessionsView.as_view(), name="recorded-sessions"),
    path("sessions/<str:session_id>", sessions.SessionView.as_view(), name="recorded-session"),
    path("sessions/<str:session_id>/chunks", chunks.ChunksView.as_view(), name="chunks"),
    path("sessions/<str:session_id>/chunks/<str:chunk_id>", chunks.ChunkView.as_view(), name="chunk"),
]
