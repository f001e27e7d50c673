"""httpbin below /api/v1/wallets, as a program: `python -m proxy.tests.httpbin_server PORT`."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from gevent.pywsgi import WSGIServer  # noqa: E402
from werkzeug import http  # noqa: E402
from werkzeug.datastructures import Authorization  # noqa: E402
from werkzeug.exceptions import NotFound  # noqa: E402
from werkzeug.middleware.dispatcher import DispatcherMiddleware  # noqa: E402

# Releases of httpbin after 0.10.0 pin an old greenlet; this one needs a function that werkzeug 3 has moved.
http.parse_authorization_header = Authorization.from_header  # type: ignore[attr-defined]

from httpbin import app  # noqa: E402

# httpbin accepts chunked bodies only from gunicorn, which terminates them; this server does so too.
ENDS_CHUNKED_BODIES = {"SERVER_SOFTWARE": "gunicorn/", "wsgi.input_terminated": True}

if __name__ == "__main__":
    mounted = DispatcherMiddleware(NotFound(), {"/api/v1/wallets": app})
    WSGIServer(("127.0.0.1", int(sys.argv[1])), mounted, log=None, environ=ENDS_CHUNKED_BODIES).serve_forever()
