"""What the benchmarks of the live path saw, as rows of a table and as sections of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamkd_service.bench.engine import LIVE_BATCH
from streamkd_service.bench.report import machine, markdown_table
from streamkd_service.bench.rtsp import ENCODING, STILL_CLIPS

if TYPE_CHECKING:
    from streamkd_service.bench.compare import CompareResult
    from streamkd_service.bench.decode import DecodeResult
    from streamkd_service.bench.engine import EngineResult
    from streamkd_service.bench.streams import StreamsResult

Table = tuple[list[str], list[list[str]]]  # head, rows


def engine_tables(result: EngineResult) -> list[Table]:
    """Times, and what they are measured against."""
    times = [
        [time.name, str(time.batch), f"{time.ms:.2f}", f"{time.low_ms:.2f} to {time.high_ms:.2f}"]
        for time in result.times
    ]
    goals = [
        [
            "PyTorch eager, one frame at a time, over int8 in batches of 16: not the same batch",
            _ratio(result.int8_vs_torch),
            "≥ 6",
        ],
        [
            f"PyTorch eager over int8, both in batches of {LIVE_BATCH}, as live batches run",
            _ratio(result.int8_vs_torch_live_batch),
            "",
        ],
        ["PyTorch eager over int8, same batch, the least", _ratio(result.int8_vs_torch_same_batch), ""],
        [
            "ONNX Runtime float32 at its best batch over int8 in batches of 16: maybe not the same batch",
            _ratio(result.int8_vs_onnx),
            "≥ 2",
        ],
        [
            f"ONNX Runtime float32 over int8, both in batches of {LIVE_BATCH}, as live batches run",
            _ratio(result.int8_vs_onnx_live_batch),
            "",
        ],
        ["ONNX Runtime float32 over int8, same batch, the least", _ratio(result.int8_vs_onnx_same_batch), ""],
        [
            f"our step with state of 16 frames, in runs of at most {LIVE_BATCH}, over one bare inference of 16",
            _ratio(result.step_overhead),
            "≤ 1.1",
        ],
    ]
    return [
        (["one thread", "batch", "ms a frame", "middle half"], times),
        (["ratio", "seen", "goal"], goals),
    ]


def decode_tables(result: DecodeResult) -> list[Table]:
    """Costs by source and way, and accuracy where it was measured."""
    costs = [
        [
            cost.source,
            cost.way,
            f"{cost.demux_ms:.3f}",
            f"{cost.decode_ms:.3f}",
            f"{cost.convert_ms:.3f}",
            f"{cost.convert_each_ms:.3f}",
            f"{cost.square_each_ms:.3f}",
            f"{cost.stream_second_ms:.1f}",
            f"{100 * cost.spread:.0f} %",
        ]
        for cost in result.costs
    ]
    tables: list[Table] = [
        (
            [
                "source",
                "decoded",
                "demux ms",
                "decode ms",
                "convert ms",
                "one conversion ms",
                "one to a square ms",
                "ms a stream and second",
                "spread",
            ],
            costs,
        )
    ]
    if result.accuracy:
        rows = [
            [
                found.way,
                str(found.clips),
                f"{found.roc_auc:.3f}",
                f"{found.lost_points:.2f} ({found.lost_points_low:.2f} to {found.lost_points_high:.2f})",
                f"{found.mean_change:.4f}",
            ]
            for found in result.accuracy
        ]
        tables.append((["decoded", "clips", "ROC AUC", "points lost (95 % by source)", "score moves by"], rows))
    if result.paces:
        rows = [
            [
                found.way,
                f"{100 * found.analysed_share:.0f} %",
                f"{found.roc_auc:.3f}",
                f"{found.least:.3f} to {found.most:.3f}",
            ]
            for found in result.paces
        ]
        tables.append((["a slowed camera analyses", "of due frames", "ROC AUC, clips in a row", "least to most"], rows))
    return tables


def streams_tables(results: list[StreamsResult]) -> list[Table]:
    """A column a run."""

    def row(name: str, *cells: str) -> list[str]:
        return [name, *cells]

    def each(write: str, field: str) -> list[str]:
        return [_cell(write, getattr(result, field)) for result in results]

    rows = [
        row("cameras", *each("{:d}", "cameras")),
        row("of them still", *each("{:.0%}", "still_share")),
        row("seconds", *each("{:.0f}", "seconds")),
        row("worker processes", *each("{:d}", "workers")),
        row("sent, of real time", *each("{:.1%}", "sent_share")),
        row("due frames", *each("{:d}", "due")),
        row("analysed, of those not gated", *each("{:.2%}", "analysed_share")),
        row("latency p50, ms", *each("{:.0f}", "latency_p50_ms")),
        row("latency p95, ms", *each("{:.0f}", "latency_p95_ms")),
        row("latency below 500 ms at p95", *each("{:d}", "latency_ok")),
        row("gated", *each("{:.1%}", "gated_share")),
        row("of these, frames that showed nothing new", *each("{:d}", "repeated")),
        row("caught up on", *each("{:d}", "catch_up")),
        row("catch-up p95, ms", *each("{:.0f}", "catch_up_p95_ms")),
        row("age of the last answer, p95 and largest, s", *_pairs(results)),
        row("holds: 99 %, 500 ms, 2 s", *each("{:d}", "ok")),
        row("CPU, ms a stream and second", *each("{:.1f}", "cpu_ms_per_stream_second")),
        row("floor", *each("{:.1f}", "floor_cpu_ms_per_stream_second")),
        row("over the floor", *_over_floor(results)),
        row("decoded frames a second", *each("{:.1f}", "decoded_hz")),
        row("memory of the workers, MB (resident)", *each("{:.0f}", "rss_mb")),
        row("the same, shared pages once (PSS)", *each("{:.0f}", "pss_mb")),
        row("growth of that from minute 5 on", *each("{:+.2%}", "pss_growth")),
        row("RTSP server, share of all cores", *each("{:.1%}", "server_cpu_share")),
        row("idle", *each("{:.1%}", "idle_share")),
    ]
    rows = [cells for cells in rows if any(cells[1:])]
    return [(["", *(f"run {number + 1}" for number in range(len(results)))], rows)]


def compare_tables(result: CompareResult) -> list[Table]:
    """A row a candidate."""
    rows = [
        [
            found.name,
            f"{found.cpu_ms_per_stream_second:.1f}",
            f"{found.holds:.0f}",
            f"{found.analysed_share:.1%}",
            f"{found.latency_p95_ms:.0f}" if found.latency_p95_ms is not None else "",
        ]
        for found in result.found
    ]
    head = [
        "candidate",
        "CPU ms a stream and second",
        "cameras that this machine's cores would hold",
        "analysed",
        "p95 ms",
    ]
    return [(head, rows)]


def section(title: str, command: str, tables: list[Table], notes: list[str]) -> str:
    """A section of the report."""
    parts = [f"## {title}", f"`{command}`", f"{machine()}."]
    parts += [markdown_table(head, rows) for head, rows in tables]
    return "\n\n".join([*parts, *notes])


STREAMS_NOTE = (
    f"Cameras: {ENCODING}, over RTSP (TCP) from GStreamer's server on the same machine, a stream a client. Moving: the "
    f"fight clips of tests/data/demo, joined. Still: the median background of {', '.join(STILL_CLIPS)} with noise as "
    "measured from their residuals (streamkd/media/scenes.py). Latency runs from the time at which the server's "
    "pipeline sends a picture to the end of the batch that analysed it; due is what the server says that it sent in "
    "the measured time, at 5 a second. Workers run as `streamkd serve` runs them, without Ray and API."
)


def _pairs(results: list[StreamsResult]) -> list[str]:
    return [f"{result.answer_age_p95_s:.2f}, {result.answer_age_max_s:.2f}" for result in results]


def _over_floor(results: list[StreamsResult]) -> list[str]:
    floors = [result.floor_cpu_ms_per_stream_second for result in results]
    return [
        "" if floor is None else f"{result.cpu_ms_per_stream_second / floor:.2f}"
        for result, floor in zip(results, floors, strict=True)
    ]


def _cell(write: str, value: float | None) -> str:
    return "" if value is None else write.format(value)


def _ratio(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


__all__ = ["STREAMS_NOTE", "compare_tables", "decode_tables", "engine_tables", "section", "streams_tables"]
