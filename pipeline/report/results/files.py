"""The files beside a report: ``results.csv``, and ``outcomes.parquet`` with every image."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.report.outcomes import Study
from pipeline.report.results.rows import ResultRow, flatten_row, format_csv
from pipeline.store.artefact import write_atomically, write_text

REVISION = 2

RESULTS_FILE = "results.csv"
OUTCOMES_FILE = "outcomes.parquet"
# What the evaluation's own columns do not say; the last of them are the evaluation's.
NAMING_FIELDS = (
    ("model", pa.string()),
    ("role", pa.string()),
    ("seed", pa.int64()),
    ("key", pa.string()),
    ("test_set", pa.string()),
    ("evaluation", pa.string()),
)


def start_writing(folder: Path, study: Study, rows: Sequence[ResultRow]) -> Future[list[str]]:
    """Write both files beside what else is done: Parquet's encoder holds no lock of Python's.

    The result is what `write_results` returns; an error is raised where it is asked for.
    """
    pool = ThreadPoolExecutor(1, "results")
    writing = pool.submit(write_results, folder, study, rows)
    pool.shutdown(wait=False)
    return writing


def write_results(folder: Path, study: Study, rows: Sequence[ResultRow]) -> list[str]:
    """Write both files and return their names; without evaluations there is no outcomes file."""
    write_text(folder / RESULTS_FILE, format_csv(map(flatten_row, rows)))
    evaluations = study.get_artefacts("evaluation")
    if not evaluations:
        return [RESULTS_FILE]
    with write_atomically(folder / OUTCOMES_FILE) as temporary:
        write_outcomes(temporary, study)
    return [RESULTS_FILE, OUTCOMES_FILE]


def write_outcomes(path: Path, study: Study) -> None:
    """Write one file of all outcomes, one evaluation after the other to save memory."""
    sources = {
        name: (evaluation, evaluation.get_verified_path(OUTCOMES_FILE))
        for name, evaluation in study.get_artefacts("evaluation").items()
    }
    models = {m.manifest.key: (g.name, g.kind, m) for g in study.groups for m in g.members}
    schemas = [pq.read_schema(path) for _, path in sources.values()]
    schema = pa.unify_schemas([pa.schema(NAMING_FIELDS), *schemas]).remove_metadata()
    # Rows of a data set ascend: their differences take a third of a dictionary's bytes.
    coding: dict[str, Any] = {
        "use_dictionary": [name for name in schema.names if name != "index"],
        "column_encoding": {"index": "DELTA_BINARY_PACKED"},
    }
    with pq.ParquetWriter(path, schema, compression="zstd", **coding) as writer:
        for name, (evaluation, source) in sources.items():
            inputs = evaluation.manifest.inputs
            group, role, member = models[inputs["model"]]
            known = {
                "model": group,
                "role": role,
                "seed": member.manifest.spec.get("seed"),
                "key": member.manifest.key,
                "test_set": study.find_name(inputs["dataset"]),
                "evaluation": name,
            }
            writer.write_table(complete_table(pq.read_table(source), known, schema))


def complete_table(table: pa.Table, known: dict, schema: pa.Schema) -> pa.Table:
    """A table with every column of a schema: its own, known constants, and nulls for the rest."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        else:
            scalar = pa.scalar(known.get(field.name), field.type)
            columns.append(pa.repeat(scalar, len(table)))
    return pa.table(columns, schema=schema)
