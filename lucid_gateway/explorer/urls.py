from django.urls import path

from lucid_gateway.explorer import views

urlpatterns = [
    path("admin/requests", views.RequestsView.as_view(), name="admin-requests"),
    path("admin/requests/<str:request_id>", views.RequestView.as_view(), name="admin-request"),
    path("users/me/requests", views.OwnRequestsView.as_view(), name="own-requests"),
]
