"""Every check, in the order in which they run: a check follows those that it needs."""

from __future__ import annotations

from sealgate.conformance import directories, files, listing, process, removal, requests, streams, uploads

CHECKS = (
    *process.START_CHECKS,
    *files.CHECKS,
    *listing.ABSENT_CHECKS,
    *streams.CHECKS,
    *uploads.CHECKS,
    *directories.CHECKS,
    *listing.LISTING_CHECKS,
    *removal.CHECKS,
    *requests.CHECKS,
    *process.END_CHECKS,
)
