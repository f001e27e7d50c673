"""Times as the log has them: to the second, UTC (Django's setting FORMAT_MODULE_PATH)."""

DATETIME_FORMAT = "Y-m-d H:i:s"
