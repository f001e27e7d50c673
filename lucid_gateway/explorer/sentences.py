"""What happened to a request in plain English, and what can be done: one row per reason.

Words in braces are properties of `Case`. A row without remedies, or whose remedies are only looks around, says in
`otherwise` why nothing needs to be done.
"""

from dataclasses import dataclass

from lucid_gateway.explorer import looks as see
from lucid_gateway.explorer import remedies as do
from lucid_gateway.explorer.remedies import Remedy

CLIENT_ERROR = "Nothing is wrong with the gateway: the client has to be corrected."
ANOTHER_WAY = "Nothing needs to be done here: the client has to send the request in another way."


@dataclass(frozen=True)
class Words:
    """The headline, the sentences after it, the remedies in the order of their use, and what else to say."""

    headline: str
    says: str
    remedies: tuple[Remedy, ...] = ()
    otherwise: str = ""


LIMIT = (do.raise_limit, do.lift_limit_rule)
LOCKOUTS = (do.lift_user_lockouts, do.lift_address_lockout)
INSTANCE = (do.put_back, see.clusters, see.requests_of_instance, do.take_out_of_service)

WORDS: dict[str, Words] = {
    "malformed_request": Words(
        "Refused: this was not a valid HTTP request.",
        "{message} The gateway stopped reading at: {parser}. {how_often}",
        (see.requests_of_address, do.block_address),
        CLIENT_ERROR,
    ),
    "request_timeout": Words(
        "Refused: the client sent its request too slowly.",
        "After {duration} the request was still incomplete. {how_often}",
        (see.requests_of_address, do.block_address),
        "A slow connection ends by itself. Many of them from one network are an attack.",
    ),
    "client_left": Words(
        "The client left before it had its answer.",
        "It closed the connection after {duration}. {waited} {tries}",
        (see.requests_of_caller, see.requests_of_instance),
        "Nothing needs to be done unless many clients leave while they wait for the same cluster.",
    ),
    "gateway_not_ready": Words(
        "Refused: this gateway had just started.",
        "It had not yet read its rules and keys from the database, and refuses everything until it has.",
        (see.health, see.requests_like_this),
        "It serves by itself as soon as the database answers.",
    ),
    "address_denied": Words(
        "Refused: an operator has denied {network_link}.",
        "{belonging} {rule_reason}",
        (do.lift_address_rule, do.change_address_rule, see.requests_of_network),
    ),
    "address_blocked": Words(
        "Refused: {network_link} is blocked for a while.",
        "{belonging} {rule_reason}",
        (do.lift_address_rule, do.change_address_rule, see.requests_of_network, do.block_address),
        "A block ends by itself.",
    ),
    "ambiguous_target": Words(
        "Refused: two servers could read this request in different ways.",
        "{message} What the gateway checks must be exactly what a cluster gets. {how_often}",
        (see.requests_of_address, do.block_address),
        CLIENT_ERROR,
    ),
    "upgrade_refused": Words(
        "Refused: the client asked for a tunnel or another protocol.",
        "{message} Only the edge makes tunnels: for WebSockets, on the routes that have them.",
        (see.requests_of_address,),
        ANOTHER_WAY,
    ),
    "body_too_large": Words(
        "Refused: the body was too large.",
        "{body_sent}; this endpoint takes at most {body_limit}.",
        (see.open_session, see.requests_of_caller),
        "Nothing needs to be done here: the client has to send less at a time.",
    ),
    "unknown_path": Words(
        "Refused: the gateway has no endpoint with this path.",
        "No route leads there, or its cluster is not configured on this gateway. {how_often}",
        (see.routes, see.requests_of_caller, do.block_address),
        CLIENT_ERROR,
    ),
    "method_not_allowed": Words(
        "Refused: the path does not take {method}.",
        "{path} exists, but for other methods, which the answer listed in Allow.",
        (see.routes, see.requests_of_caller),
        CLIENT_ERROR,
    ),
    "credentials_missing": Words(
        "Refused: the request had no credential.",
        "The endpoint is for signed-in callers; the client sent neither an access token nor an API key. {how_often}",
        (see.requests_of_address, do.block_address),
        "Nothing needs to be done here: the client has to sign in.",
    ),
    "several_credentials": Words(
        "Refused: the request had more than one credential.",
        "The gateway does not choose between two callers. A client sends an access token or an API key, once.",
        (see.requests_of_address,),
        CLIENT_ERROR,
    ),
    "token_malformed": Words(
        "Refused: the Authorization header held no bearer token.",
        "The client may have sent an API key or a password there. {how_often}",
        (see.requests_of_address, do.block_address),
        CLIENT_ERROR,
    ),
    "token_expired": Words(
        "Refused: the access token had expired.",
        "Access tokens are valid for {token_minutes}. The client of {user} has to get a new one with its"
        " refresh token. {how_often}",
        (see.requests_of_caller, see.open_user),
        "Nothing needs to be done here, unless the client never refreshes.",
    ),
    "unknown_kid": Words(
        "Refused: no signing key of this gateway has the id that the token names.",
        "The key was retired, or the token comes from another installation. {how_often}",
        (see.signing_keys, see.requests_like_this, do.block_address),
        "After a retired key, clients have to sign in again.",
    ),
    "signature_invalid": Words(
        "Refused: the token's signature is wrong.",
        "The token was forged, changed or damaged, so it proves nothing about who sent it. {how_often}",
        (see.requests_of_address, see.signing_keys, do.block_address),
        "A single one may be a damaged copy. Many from one address are an attack.",
    ),
    "claims_invalid": Words(
        "Refused: what the client sent is not a token of this gateway.",
        "A claim is missing or has a wrong value, or the text is no token at all. {how_often}",
        (see.requests_of_address, do.block_address),
        CLIENT_ERROR,
    ),
    "not_an_access_token": Words(
        "Refused: this is not an access token.",
        "The client sent another token, probably its refresh token, which works only for refreshing. {how_often}",
        (see.requests_of_address,),
        CLIENT_ERROR,
    ),
    "flood_not_checked": Words(
        "Refused: the address is over its limit, so its credential was not checked.",
        "While an address exceeds its limit, the gateway checks few unknown credentials of it. {how_often}",
        (see.requests_of_address, do.exempt_address, do.block_address),
        "The gateway checks them again as soon as the address is under its limit.",
    ),
    "api_key_unknown": Words(
        "Refused: the API key is not valid.",
        "{key_state} {how_often}",
        (see.open_key, see.requests_of_caller, see.requests_of_address, do.revoke_key, do.block_address),
        "The client needs a valid key of its owner.",
    ),
    "api_key_expired": Words(
        "Refused: the API key {key} has expired.",
        "It belongs to {user}, who can make a new one.",
        (see.open_key, see.requests_of_caller),
        "An expired key cannot be extended: its owner makes a new one.",
    ),
    "api_key_suspended": Words(
        "Refused: the API key {key} waits for confirmation.",
        "A backup restored it, and nobody knows whether it had been revoked since. It belongs to {user}.",
        (do.confirm_key, see.open_key, see.requests_of_caller, do.revoke_key),
    ),
    "ticket_unknown": Words(
        "Refused: the ticket for a WebSocket is not valid.",
        "A ticket works once, within 30 seconds. This one was used, has expired or never existed. {how_often}",
        (see.requests_of_address,),
        "Nothing needs to be done here: the client has to ask for a new ticket before each WebSocket.",
    ),
    "account_deleted": Words(
        "Refused: the account was deleted or deactivated.",
        "The credential belongs to {user}.",
        (see.open_user, see.audit_of_user),
        "A deleted account cannot be restored: its owner has to register again.",
    ),
    "credentials_wrong": Words(
        "Refused: the password, code, link or second factor was wrong or had expired.",
        "The attempt was for the account of {user}. {how_often}",
        (*LOCKOUTS, see.open_user, see.audit_of_request, see.requests_of_address, see.lockouts, do.block_address),
        "A wrong guess counts towards a lockout, which ends by itself.",
    ),
    "second_factor_missing": Words(
        "Refused: the account requires a second factor.",
        "The first factor of {user} was right, and the answer named what is missing.",
        (do.reset_factors, see.open_user),
        "Nothing needs to be done here: the client has to send the second factor, too. Staff can reset a lost one.",
    ),
    "refresh_token_refused": Words(
        "Refused: the refresh token is not valid any more.",
        "It was used before, has expired or was revoked. A second use means that two clients have the token, so the"
        " gateway ended the whole login; the audit log says which it was. The account is {user}.",
        (see.audit_of_request, see.open_user, see.tokens_of_user, do.end_sessions, do.lock_user),
        "The client has to sign in again.",
    ),
    "token_revoked": Words(
        "Refused: the token or API key was revoked.",
        "It belongs to {user}, who has signed out, or staff ended it. {how_often}",
        (see.tokens_of_user, see.open_user, see.audit_of_user),
        "The client has to sign in again.",
    ),
    "account_locked": Words(
        "Refused: the account of {user} is locked.",
        "{lock}",
        (do.unlock_user, see.audit_of_user, see.requests_of_caller),
    ),
    "epoch_over": Words(
        "Refused: all tokens of {user} from before {epoch} were ended.",
        "That happens with a new password, a new role, or when somebody ends all of the user's logins.",
        (see.audit_of_user, see.open_user),
        "The client has to sign in again.",
    ),
    "permission_missing": Words(
        "Refused: the permission {permission} is missing.",
        "{lacking} {message}",
        (do.change_role, see.open_key, see.open_user, see.requests_of_caller),
        "Nothing needs to be done if the caller should not have it.",
    ),
    "tier_exhausted": Words(
        "Refused: the limit of the tier {tier} was used up.",
        "{counted} may send {limit} a minute and {burst} beyond that. Both were used up at {started}."
        " {refusals} {next_window} {whose_numbers}",
        (*LIMIT, do.exempt_address, see.requests_of_caller, do.revoke_key, do.block_address),
        "The limit renews by itself.",
    ),
    "too_many_attempts": Words(
        "Refused: too many attempts have failed.",
        "Guesses at the codes and passwords of {user}, or from {address}, {refused_until}. Mailed links"
        " and signed-in devices keep working.",
        (*LOCKOUTS, see.lockouts, see.open_user, see.requests_of_address, do.block_address),
        "A lockout ends by itself.",
    ),
    "quota_exhausted": Words(
        "Refused: the daily quota was used up.",
        "{who} may send {daily_quota} a day (UTC). {next_try} {whose_numbers}",
        (do.raise_totals, do.lift_limit_rule, see.requests_of_caller, do.revoke_key),
    ),
    "too_many_concurrent": Words(
        "Refused: too many requests were in progress.",
        "{who} may have {concurrent_requests} in progress. {whose_numbers}",
        (do.raise_totals, do.lift_limit_rule, see.requests_of_caller, do.revoke_key),
    ),
    "bandwidth_exhausted": Words(
        "Refused: the uploads used up their bandwidth.",
        "{who} may upload {bytes_per_second} a second, and the next bytes would have had to wait too long."
        " {next_try} {whose_numbers}",
        (*LIMIT, see.requests_of_caller),
    ),
    "idempotency_key_reused": Words(
        "Refused: the Idempotency-Key belongs to another request.",
        "{who} used the same key within 24 hours for a request with another path or body.",
        (see.requests_of_caller,),
        CLIENT_ERROR,
    ),
    "idempotency_in_progress": Words(
        "Refused: the first request with this Idempotency-Key was still in progress.",
        "{who} sent it again before the first answer was there, which will be repeated.",
        (see.requests_of_caller,),
        "Nothing needs to be done here: the client has to try again a little later.",
    ),
    "idempotency_no_answer": Words(
        "Refused: the first request with this Idempotency-Key left no answer to repeat.",
        "It may have been carried out or not. The gateway does not send it twice.",
        (see.requests_of_caller, see.requests_of_route),
        "The client has to find out whether the first request took effect, and to use a new key.",
    ),
    "cluster_in_maintenance": Words(
        "Refused: {cluster} is out of service.",
        "{opens}",
        (do.put_back, see.clusters, see.requests_of_instance),
    ),
    "cluster_not_configured": Words(
        "Failed: {cluster} has no address.",
        "This gateway has no setting for it, so it cannot forward {path}.",
        (see.clusters, see.routes),
        "The address is a setting of the gateway and takes effect with a restart.",
    ),
    "cluster_busy": Words(
        "Failed: too many requests to {cluster} were in progress.",
        "The worker sends a limited number at a time, so that one slow cluster cannot hold up the others."
        " Usually the cluster has become slow.",
        (see.clusters, see.requests_of_instance),
    ),
    "breaker_open": Words(
        "Failed: no instance of {cluster} was usable.",
        "All of them had failed shortly before. {last_failure} The gateway waits before it tries again. {next_attempt}"
        " {tries}",
        (see.clusters, see.requests_of_instance),
    ),
    "instance_unreachable": Words(
        "Failed: {instance} refused the connection.",
        "Nothing listens there, or a firewall is in between. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "instance_connect_timeout": Words(
        "Failed: the connection to {instance} took too long.",
        "The host is down, overloaded or unreachable. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "instance_timeout": Words(
        "Failed: {instance} did not answer in time.",
        "The gateway gave up after {duration}. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "instance_no_answer": Words(
        "Failed: {instance} closed the connection without an answer.",
        "It may have crashed or restarted. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "instance_bad_answer": Words(
        "Failed: the answer of {instance} was not valid HTTP.",
        "The gateway relays only what every client reads in the same way. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "instance_answer_cut": Words(
        "Failed: the answer of {instance} ended early.",
        "The client got the beginning, and a connection that broke off. It belongs to {cluster}. {tries}",
        INSTANCE,
    ),
    "csrf_failed": Words(
        "Refused: the form did not come from a page of the console.",
        "It was open for too long, was sent twice, or another site tried to send it in the name of {user}.",
        (see.requests_of_caller, see.requests_of_address),
        "Nothing needs to be done unless it happens again: the operator reloads the page and sends the form again.",
    ),
    "invalid_data": Words(
        "Refused: the data of the request is not valid.",
        "{message} {fields}",
        (see.open_session, see.requests_of_caller, see.requests_of_route),
        CLIENT_ERROR,
    ),
    "not_found": Words(
        "Refused: there is no such resource.",
        "{who} asked for something that does not exist, or that they may not see.",
        (see.requests_of_caller, see.requests_of_route),
        "Nothing needs to be done if the caller should not see it.",
    ),
    "conflict": Words(
        "Refused: the state of the resource does not allow this.",
        "{message} {who} sent the request.",
        (see.open_session, see.requests_of_caller, see.requests_of_route),
        ANOTHER_WAY,
    ),
    "database_unavailable": Words(
        "Failed: the database was unavailable.",
        "Requests with a valid token that the gateway only forwards were served meanwhile.",
        (see.health, see.requests_like_this),
        "The gateway uses the database again as soon as it answers.",
    ),
    "redis_unavailable": Words(
        "Failed: Redis was unavailable.",
        "This request needs it. Others were served without it, with limits counted by each worker.",
        (see.health, see.requests_like_this),
        "The gateway uses Redis again as soon as it answers.",
    ),
    "unavailable": Words(
        "Failed: a service that the request needs was unavailable.",
        "{message} {tries}",
        (see.health, see.clusters, see.requests_like_this),
    ),
    "internal_error": Words(
        "Failed: the gateway has a fault.",
        "The log describes it under the id of this request.",
        (see.requests_like_this, see.requests_of_route, see.health),
        "Report the lines of the log with this id to those who maintain the gateway.",
    ),
}
OF_ANOTHER_RELEASE = Words(
    "Refused: {reason}.", "A gateway of another release noted this reason.", (see.requests_like_this,)
)
ANSWERED = Words(
    "Answered: {status} in {duration}.",
    "Nothing was refused. The gateway keeps a small share of such requests for comparison.",
    (see.requests_of_caller, see.requests_of_route),
)
ANSWERED_BY_CLUSTER = Words(
    "{instance} answered {status}.",
    "The gateway let the request pass and relayed the answer of {cluster}, which explains the status.",
    (see.requests_of_instance, see.requests_of_caller, see.clusters),
)
REFUSED_BY_PAGE = Words(
    "Answered: {status}.", "An operator page gave this answer.", (see.requests_of_caller, see.requests_of_address)
)
