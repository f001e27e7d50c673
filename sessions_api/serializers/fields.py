"""Fields that several shapes share."""

import uuid
from typing import Any

from rest_framework import serializers


class IdField(serializers.UUIDField):
    """An identifier: a UUID as text, nothing else."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        """Return the UUID; refuse with the code for what is none."""
        try:
            if isinstance(data, str):
                return uuid.UUID(data)
        except ValueError:
            pass
        raise serializers.ValidationError("Must be a valid UUID.", code="invalid_uuid")
