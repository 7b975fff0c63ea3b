"""All tables, for migrations: importing a noun's models adds its tables to the metadata."""

from headrace.control import idempotency
from headrace.control.accelerations import models as accelerations
from headrace.control.comparisons import models as comparisons
from headrace.control.database import Base
from headrace.control.events import models as events
from headrace.control.nodes import models as nodes
from headrace.control.regions import models as regions
from headrace.control.tasks import models as tasks
from headrace.control.tokens import models as tokens
from headrace.control.usage import models as usage
from headrace.control.vault import models as vault
from headrace.control.volumes import models as volumes
from headrace.control.warmups import models as warmups

metadata = Base.metadata

__all__ = [
    "accelerations",
    "comparisons",
    "events",
    "idempotency",
    "metadata",
    "nodes",
    "regions",
    "tasks",
    "tokens",
    "usage",
    "vault",
    "volumes",
    "warmups",
]
