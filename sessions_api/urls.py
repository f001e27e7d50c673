from django.urls import path

from sessions_api.views import sessions

urlpatterns = [
    path("sessions", sessions.SessionsView.as_view(), name="recorded-sessions"),
    path("sessions/<str:session_id>", sessions.SessionView.as_view(), name="recorded-session"),
]
