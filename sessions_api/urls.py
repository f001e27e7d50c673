from django.urls import path

from sessions_api.views import chunks

urlpatterns = [
    path("sessions/<str:session_id>/chunks", chunks.ChunksView.as_view(), name="chunks"),
    path("sessions/<str:session_id>/chunks/<str:chunk_id>", chunks.ChunkView.as_view(), name="chunk"),
]
