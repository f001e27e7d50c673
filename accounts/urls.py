from django.urls import path

from accounts import schema  # noqa: F401  # drf-spectacular finds it once it is imported
from accounts.views import factors, login, pages, passwords, staff, users
from accounts.views import jwks as keys
from ratelimit import views as limits

urlpatterns = [
    path("auth/login", login.StartLoginView.as_view(), name="login"),
    path("auth/verify", login.VerifyView.as_view(), name="verify"),
    path("auth/refresh", login.RefreshView.as_view(), name="refresh"),
    path("auth/logout", login.LogoutView.as_view(), name="logout"),
    path("auth/status", login.StatusView.as_view(), name="status"),
    path("auth/sessions", login.DevicesView.as_view(), name="devices"),
    path("auth/sessions/<str:session_id>", login.DeviceView.as_view(), name="device"),
    path("auth/totp", factors.TotpView.as_view(), name="totp"),
    path("auth/totp/confirm", factors.TotpConfirmView.as_view(), name="totp-confirm"),
    path("auth/hardware-wallet", factors.WalletView.as_view(), name="hardware-wallet"),
    path("auth/hardware-wallet/confirm", factors.WalletConfirmView.as_view(), name="hardware-wallet-confirm"),
    path("auth/password/reset", passwords.PasswordResetView.as_view(), name="password-reset"),
    path("auth/password/reset/confirm", passwords.PasswordResetConfirmView.as_view(), name="password-reset-confirm"),
    path("auth/password/change", passwords.PasswordChangeView.as_view(), name="password-change"),
    path("auth/email/confirm", passwords.EmailConfirmView.as_view(), name="email-confirm"),
    path("users", users.UsersView.as_view(), name="users"),
    path("users/me", users.OwnProfileView.as_view(), name="own-profile"),
    path("users/me/usage", users.OwnUsageView.as_view(), name="own-usage"),
    path("users/me/api-keys", users.ApiKeysView.as_view(), name="api-keys"),
    path("users/me/api-keys/<str:key_id>", users.ApiKeyView.as_view(), name="api-key"),
    path("users/<str:user_id>", users.UserView.as_view(), name="user"),
    path("admin/users", staff.UsersAdminView.as_view(), name="admin-users"),
    path("admin/users/<str:user_id>/lock", staff.LockUserView.as_view(), name="admin-lock"),
    path("admin/users/<str:user_id>/unlock", staff.UnlockUserView.as_view(), name="admin-unlock"),
    path("admin/users/<str:user_id>/role", staff.UserRoleView.as_view(), name="admin-role"),
    path("admin/users/<str:user_id>/revoke-tokens", staff.RevokeTokensView.as_view(), name="admin-revoke-tokens"),
    path("admin/audit", staff.AuditView.as_view(), name="admin-audit"),
    path("admin/blocked-addresses", limits.BlockedAddressesView.as_view(), name="admin-blocked-addresses"),
    path("admin/shadow-refusals", limits.ShadowRefusalsView.as_view(), name="admin-shadow-refusals"),
    path("admin/limits", limits.LimitsView.as_view(), name="admin-limits"),
]
root_urlpatterns = [
    path(".well-known/jwks.json", keys.JwksView.as_view(), name="jwks"),
    path("login", pages.LinkPage.as_view(page="login"), name="login-page"),
    path("reset-password", pages.LinkPage.as_view(page="reset-password"), name="reset-password-page"),
    path("confirm-email", pages.LinkPage.as_view(page="confirm-email"), name="confirm-email-page"),
]
