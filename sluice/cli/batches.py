"""Going through the batches of an ingestion, page by page."""

from collections.abc import Iterator
from itertools import islice

from sluice.cli.client import PAGE, Client
from sluice.models import BatchStatus
from sluice.schemas import BatchResponse, IngestionResponse


def all_batches(client: Client, ingestion_id: str) -> Iterator[BatchResponse]:
    """Yield every batch, in order, as it is when its page is fetched."""
    offset = 0
    while page := client.status(ingestion_id, offset).content.batches:
        yield from page
        offset += len(page)
        if len(page) < PAGE:
            return


def failed_batches(client: Client, ingestion: IngestionResponse, most: int) -> list[BatchResponse]:
    """Return the first failed batches; looks no further than it must."""
    wanted = min(most, ingestion.progress.failed)
    failed = (batch for batch in all_batches(client, ingestion.ingestion_id) if batch.status == BatchStatus.FAILED)
    return list(islice(failed, wanted)) if wanted else []


def first_failures(client: Client, ingestion: IngestionResponse, most: int) -> list[str]:
    """Return why the first IDs failed, a line each."""
    failures = (each for batch in failed_batches(client, ingestion, most) for each in batch.failed)
    return [f"{each.id}: {each.error}" for each in islice(failures, most)]
