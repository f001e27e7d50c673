"""The server around the application: gunicorn's gevent worker, and its handling of connections and requests."""
