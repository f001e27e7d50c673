"""Times as in the log, to the second, in UTC (Django's setting FORMAT_MODULE_PATH)."""

DATETIME_FORMAT = "Y-m-d H:i:s"
