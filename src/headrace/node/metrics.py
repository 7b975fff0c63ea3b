"""Every figure that the node gives out, declared once with its unit and meaning.

`headrace metrics` prints them as Prometheus text with these meanings; the reference page is generated from here. Names
tell the unit; what ends in `_total` only grows, for as long as the node lives and what it counts (a mount, an origin) exists.
"""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "headrace_"

METRICS: dict[str, str] = {
    # Reads, whatever the door
    "reads_total": "Reads asked for by doors.",
    "reads_waiting": "Reads that wait for the network now.",
    "waited_reads_total": "Reads that waited for the network.",
    "wait_nanoseconds_total": "Time that reads waited, summed.",
    "failed_reads_total": "Reads that failed.",
    "interrupted_reads_total": "Reads given up by a reader that got a signal.",
    "replaced_objects_total": "Objects found replaced or deleted in the bucket.",
    # Where their bytes came from
    "cache_hit_bytes_total": "Bytes answered from the cache file, also when prefetch had put them there a moment before.",
    "cache_miss_bytes_total": "Bytes answered from memory, on their way from the network.",
    "fetched_bytes_total": "Bytes that arrived from origins.",
    "unkept_bytes_total": "Bytes that arrived and were not kept: no room, or the disk did not keep up.",
    "dropped_bytes_total": "Bytes given up unread because memory was needed; fetched again if asked for.",
    "demand_flights_total": "Ranges fetched because a reader waited.",
    "prefetch_flights_total": "Ranges fetched ahead of readers.",
    "prefetched_bytes_total": "Bytes of files of 1 MiB and more asked for ahead of readers, each time they are (again after an eviction).",
    "prefetched_used_bytes_total": "Of these, bytes that a reader then asked for through the node, once for each time they were asked for ahead.",
    "flights_queued": "Ranges that wait for a connection now.",
    # Memory
    "buffer_limit_bytes": "The memory budget.",
    "buffer_used_bytes": "Of the budget, in use now.",
    "buffer_peak_bytes": "Of the budget, the most that was in use at one time.",
    # Mounts
    "mount_opens_total": "Files opened.",
    "mount_opens_passthrough_total": "Of these, files that the kernel reads itself.",
    "mount_reads_total": "Reads answered by the node; those of files read by the kernel itself do not pass here.",
    "mount_read_bytes_total": "Bytes of these reads.",
    "mount_reads_failed_total": "Of these reads, the ones answered with an error.",
    # Origins
    "origin_requests_total": "Requests sent.",
    "origin_retries_total": "Requests sent again after a failure.",
    "origin_throttled_total": "Answers that asked to slow down (503, 429).",
    "origin_hedges_total": "Second requests sent because a first byte was late.",
    "origin_hedges_won_total": "Second requests that answered first.",
    "origin_body_bytes_total": "Bytes of objects received, those of second requests and of answers that broke off included.",
    "origin_connections_total": "Connections made.",
    "origin_rejected_answers_total": "Answers that failed a check and were not used.",
    "origin_errors_total": "Requests that failed for good.",
    "origin_first_byte_nanoseconds_total": "Time from request to first byte, summed over ranged GETs.",
    "origin_first_bytes_total": "Ranged GETs that this sum counts.",
    "origin_answered_bytes_total": "Bytes that readers were answered with, from the cache or the network.",
    "origin_handed_out_bytes_total": "Bytes of complete files, at each time one was opened to be read without the node.",
    # The cache
    "cache_allocated_bytes": "Blocks that cached files occupy.",
    "cache_limit_bytes": "The size limit of all cache directories together.",
    "cache_written_bytes_total": "Bytes written into cache files.",
    "cache_direct_bytes_total": "Of these, bytes written past the page cache because they came faster than pages could be made for them.",
    "cache_read_back_bytes_total": "Bytes of such files read back into memory afterwards.",
    "cache_files_to_read_back": "Files of which that is still to come.",
    "cache_adopted_files_total": "Files that had bytes from before this process.",
    "cache_completed_files_total": "Files that became complete.",
    "cache_evicted_files_total": "Files unlinked to make room, by age or on request.",
    "cache_evicted_bytes_total": "Bytes freed by that, or to be freed when the last holder lets go.",
    "cache_punched_bytes_total": "Bytes dropped from incomplete files to make room.",
    "cache_unkept_no_room_bytes_total": "Bytes not kept because everything is in use or the limit is reached.",
    "cache_unkept_disk_full_bytes_total": "Bytes not kept because the disk is full.",
    "cache_unkept_failing_bytes_total": "Bytes not kept because the disk fails.",
    "cache_unkept_other_bytes_total": "Bytes not kept for any other reason.",
    "cache_verified_blocks_total": "Blocks compared with their digests.",
    "cache_digest_failures_total": "Blocks whose digest did not match; they were dropped.",
    "cache_unprovable_blocks_total": "Blocks dropped after a power loss because nothing could prove them.",
    "cache_torn_files_total": "Files dropped because their meta file was torn or did not fit their data.",
    "cache_orphan_files_total": "Left-over files without a partner that were removed.",
    "cache_doors_opened_total": "Descriptors of complete files handed out.",
    "cache_synced_files_total": "Files whose data was synced to the disk.",
    "cache_failed_directories_total": "Directories taken out of use because their disk fails.",
}


def kind(name: str) -> str:
    """Prometheus' word for it."""
    return "counter" if name.endswith("_total") else "gauge"


def text(values: Mapping[str, float]) -> str:
    """Values by name, without the prefix, in Prometheus' text format."""
    lines = []
    for name, value in sorted(values.items()):
        if name in METRICS:
            lines.append(f"# HELP {PREFIX}{name} {METRICS[name]}")
        lines += [f"# TYPE {PREFIX}{name} {kind(name)}", f"{PREFIX}{name} {value:.17g}"]
    return "\n".join(lines) + "\n"
