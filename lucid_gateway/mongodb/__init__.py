"""ObjectId keys and migrations for Django's own apps on MongoDB, and the gateway's database backend."""
