"""The server around the application: gunicorn's gevent worker and what it does with connections and requests."""
