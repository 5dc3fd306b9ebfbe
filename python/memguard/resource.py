"""Kinds of resources, as the names hosts use."""

from __future__ import annotations

import enum


class ResourceType(enum.Enum):
    """What a resource is."""

    MEMORY = "memory"
    FILE_HANDLE = "file_handle"
    TEMP_FILE = "temp_file"
    BUFFER = "buffer"
    NETWORK = "network"
