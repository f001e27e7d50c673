from django.urls import path

from accounts import views

urlpatterns = [
    path("auth/login", views.LoginView.as_view(), name="login"),
    path("auth/verify", views.VerifyView.as_view(), name="verify"),
    path("auth/refresh", views.RefreshView.as_view(), name="refresh"),
    path("auth/logout", views.LogoutView.as_view(), name="logout"),
    path("users", views.UsersView.as_view(), name="users"),
    path("users/me", views.OwnProfileView.as_view(), name="own-profile"),
]
