"""All readers, by name."""

from __future__ import annotations

from tests.fuzzing import labelled, models, pictures, records

READERS = {**labelled.READERS, **records.READERS, **pictures.READERS, **models.READERS}
