"""Mutants of the data plane: records cut in two, states that lie, files of two versions, parts half put in place."""

from __future__ import annotations

from tests.mutants.mutant import SOURCE, WORKERS, Edit, Mutant

LOADING = "tests/loading"
FILES = f"{SOURCE}/connectors/files"
COPIES = f"{SOURCE}/connectors/loading"
CUTTER = f"{SOURCE}/connectors/delimited/cutter.py"
LOAD_FILE = f"{WORKERS}/pipelines/load_file"
TARGET = f"{WORKERS}/pipelines/target.py"
LOAD_SQL = f"{WORKERS}/pipelines/load_sql/pipeline.py"
UNLOAD = f"{WORKERS}/pipelines/unload_table/pipeline.py"
BUCKET = f"{SOURCE}/connectors/unloading/bucket.py"
WRITER = f"{SOURCE}/connectors/parquet/writer.py"
PUBLISHING = f"{SOURCE}/connectors/unloading/publishing.py"
SEEN, EVOLVING = f"{COPIES}/seen.py", f"{LOADING}/test_evolving.py"
MODES, EDGES = f"{LOADING}/test_modes.py", f"{LOADING}/test_edges.py"

LOADS = (
    Mutant(
        "cut inside of quotes",
        "a record with a line end in it becomes two, or ends the load",
        (
            Edit(
                CUTTER,
                "            if not inside:\n                return newline + 1\n",
                "            return newline + 1\n",
            ),
        ),
        ("tests/unit/test_cutter.py", f"{LOADING}/test_csv.py"),
    ),
    Mutant(
        "piece that ends at its last line end",
        "a last line without a line end is lost when pieces are loaded at the same time",
        (
            Edit(f"{LOAD_FILE}/formats.py", "reader.piece(segment.size + 1)", "reader.piece(segment.size)"),
            Edit(f"{LOAD_FILE}/formats.py", "if reader.place != segment.end:", "if reader.place > segment.end:"),
        ),
        (f"{LOADING}/test_csv.py",),
    ),
    Mutant(
        "lines counted from the piece",
        "an error names a line where nothing is wrong",
        (Edit(f"{LOAD_FILE}/pipeline.py", "before=begin.line - 1", "before=0"),),
        (MODES,),
    ),
    Mutant(
        "hole taken for loaded",
        "rows between two pieces are never loaded after a crash",
        (
            Edit(
                f"{LOAD_FILE}/state.py",
                "while waiting and waiting[0].begin.offset <= place.offset:",
                "while waiting:",
            ),
        ),
        ("tests/unit/test_load_state.py",),
    ),
    Mutant(
        "rejects that forget their number",
        "max_rejects never ends a load of many chunks",
        (
            Edit(
                f"{LOAD_FILE}/state.py",
                "line=place.line, rows=self.rows + rows, rejected=self.rejected + rejected\n",
                "line=place.line, rows=self.rows + rows, rejected=self.rejected\n",
            ),
        ),
        (MODES, f"{LOADING}/test_ledger.py"),
    ),
    Mutant(
        "first row of a key that wins",
        "a merge keeps yesterday's price",
        (Edit(f"{COPIES}/moves.py", "order by {key}, {ORDER} desc) latest", "order by {key}, {ORDER}) latest"),),
        (MODES, "-k", "merge"),
    ),
    Mutant(
        "new keys that are looked for in the whole table",
        "a merge reads a table without a fitting index once for each row",
        (Edit(f"{COPIES}/staging.py", "if not _goes_by_index(", "if False and not _goes_by_index("),),
        (f"{LOADING}/test_merging.py",),
    ),
    Mutant(
        "new keys that are looked for by a part of them",
        "a merge reads all rows that share a part of the key once for each row",
        (Edit(f"{COPIES}/staging.py", ' and not any("Filter" in node for node in lookup)', ""),),
        (f"{LOADING}/test_merging.py",),
    ),
    Mutant(
        "new key that somebody else has inserted",
        "a merge fails where another one was quicker",
        (
            Edit(
                f"{COPIES}/staging.py",
                "except _LEFT_TO_ON_CONFLICT:",
                "except asyncpg.InvalidColumnReferenceError:",
            ),
        ),
        (f"{LOADING}/test_merging.py",),
    ),
    Mutant(
        "row without its key that is merged",
        "rows that are not alike become one",
        (Edit(f"{COPIES}/staging.py", "' not null' if name in key else ''", "''"),),
        (EDGES, "-k", "without_the_key"),
    ),
    Mutant(
        "replace that goes on in an old table",
        "a job retried from its start has every row twice",
        (Edit(TARGET, 'if self.wish.mode == "replace" and not begun:', "if False:"),),
        (f"{LOADING}/test_replacing.py",),
    ),
    Mutant(
        "nothing seen taken for text",
        "an empty column of one file turns the numbers of a table into text",
        (Edit(f"{SOURCE}/connectors/delimited/types.py", "frozenset(sorts)", 'frozenset(sorts or {"text"})'),),
        (EVOLVING,),
    ),
    Mutant(
        "numbers widened to floats",
        "a float that comes takes the last digits of every number that is stored",
        (
            Edit(
                SEEN,
                'frozenset({"bigint", "double precision"}): "numeric"',
                'frozenset({"bigint", "double precision"}): "double precision"',
            ),
        ),
        (EVOLVING,),
    ),
    Mutant(
        "column that is full and not widened",
        "a load fails at a number that evolve was to make room for",
        (Edit(SEEN, "(size is None or extent.has_room_in(*size))", "True"),),
        (EVOLVING,),
    ),
    Mutant(
        "key that replacing forgets",
        "a table replaced with primary_key has none",
        (Edit(TARGET, "not self.wish.key_orders and not await tells_apart(conn, self.table, key)", "False"),),
        (EVOLVING,),
    ),
    Mutant(
        "swap before the end",
        "readers see a table that is half loaded",
        (Edit(f"{LOAD_FILE}/pipeline.py", "        if state.finished:\n", "        if state.rows:\n"),),
        (MODES, "-k", "replace"),
    ),
    Mutant(
        "file that may change",
        "rows of two versions of a file in one table",
        (Edit(f"{FILES}/local.py", "    if now != version:\n        raise FileChangedError(name)\n", ""),),
        (f"{LOADING}/test_changing.py",),
    ),
    Mutant(
        "range of any version",
        "the second half of a file is another file's",
        (Edit(f"{FILES}/remote.py", "            _check_version(response, version, self.name)\n", ""),),
        (f"{LOADING}/test_http.py", "-k", "changes"),
    ),
    Mutant(
        "redirect that is not asked about",
        "a job reads what only this machine may",
        (
            Edit(
                f"{FILES}/remote.py",
                "            self.reach.check_url(url)\n",
                "",
            ),
        ),
        (f"{LOADING}/test_http.py", "-k", "redirect"),
    ),
    Mutant(
        "packed file without bounds",
        "a kilobyte fills the table, or the disk",
        (
            Edit(
                f"{FILES}/unpack.py",
                "if self.bytes_out > SWELL_FREE_BYTES and ratio",
                "if self.bytes_out < 0 and ratio",
            ),
        ),
        (f"{LOADING}/test_hostile.py",),
    ),
    Mutant(
        "mark that is not kept with the rows",
        "an incremental load loads the same rows again",
        (Edit(LOAD_SQL, "        await tx.set_state(name, mark)\n", ""),),
        (f"{LOADING}/test_sql.py",),
    ),
    Mutant(
        "mark that does not wait",
        "a row that was committed late is never loaded",
        (
            Edit(
                LOAD_SQL,
                "mark = await settled_mark(self._source, key, patience_s=self._args.wait_s)",
                "mark = await settled_mark(self._source, key, patience_s=1e9) if False else None",
            ),
        ),
        (f"{LOADING}/test_sql.py",),
    ),
    Mutant(
        "part that is not looked for",
        "an unload without its second part says that it is whole",
        (Edit(UNLOAD, "() if self.state.finished_at else self.state.parts", "()"),),
        (f"{LOADING}/test_unload_attempts.py", "-k", "lost_or_changed"),
    ),
    Mutant(
        "part that is only weighed",
        "an unload is published under the checksum of what a part has been",
        (Edit(PUBLISHING, "if found.hexdigest() != part.sha256:", "if False:"),),
        (f"{LOADING}/test_unload_attempts.py", "-k", "lost_or_changed"),
    ),
    Mutant(
        "manifest before its parts",
        "a reader finds a manifest whose parts are not there",
        (
            Edit(
                PUBLISHING,
                "            _write(staged, manifest)\n",
                "            _write(staged, manifest)\n            _write(self.target / MANIFEST, manifest)\n",
            ),
        ),
        ("tests/unit/test_unload_publishing.py",),
    ),
    Mutant(
        "unload that takes what is in the way",
        "an unload overwrites what somebody keeps there",
        (Edit(PUBLISHING, "    if found:\n", "    if False:\n"),),
        (f"{LOADING}/test_unload.py", "-k", "earlier_unload"),
    ),
    Mutant(
        "object that is taken for another",
        "an unload is published under the checksum of what a part in a bucket has been",
        (Edit(BUCKET, "if (part.bytes, part.stored) != _version(found.get(part.name, {})):", "if False:"),),
        (f"{LOADING}/test_unload_buckets.py", "-k", "changed_between_attempts"),
    ),
    Mutant(
        "pieces that stay in a bucket",
        "somebody pays for what no listing shows",
        (Edit(BUCKET, "                self._file.discard()\n", "                pass\n"),),
        (f"{LOADING}/test_unload_buckets.py", "-k", "inside_of_a_part"),
    ),
    Mutant(
        "leftovers that stay in a bucket",
        "whoever reads all parts of a folder finds rows twice",
        (Edit(BUCKET, 'self.remove([name for name in self._found("part-") if mark in name])', "del mark"),),
        (f"{LOADING}/test_unload_buckets.py", "-k", "behind_its_last_part"),
    ),
    Mutant(
        "first sign that is lost",
        "a text in Parquet lacks its beginning",
        (Edit(WRITER, "text = _MARK + data", "text = data"), Edit(WRITER, "skip_rows=1, ", "")),
        ("tests/unit/test_parquet_writer.py",),
    ),
    Mutant(
        "merges that meet",
        "two merges of the same keys that set rows aside deadlock, and one is tried again later",
        (Edit(f"{COPIES}/staging.py", "await _wait_for_others(conn, move, _ALONE)", "pass"),),
        (f"{LOADING}/test_merging.py",),
    ),
    Mutant(
        "merges that meet one by key",
        "a merge that sets rows aside deadlocks with one that goes by key",
        (Edit(f"{COPIES}/staging.py", "await _wait_for_others(conn, move, _BESIDE)", "pass"),),
        (f"{LOADING}/test_merging.py",),
    ),
    Mutant(
        "days as the server likes them",
        "a file is loaded with other days and instants where the database has another time zone",
        (Edit(f"{WORKERS}/chunks.py", ', "timezone": "UTC", "datestyle": "ISO, MDY"', ""),),
        (f"{LOADING}/test_csv.py", "-k", "whatever_the_database"),
    ),
    Mutant(
        "dlt among the service's own tables",
        "a dlt source alters the queue of jobs",
        (Edit(f"{WORKERS}/pipelines/dlt_run/dataset.py", "if own in {", "if None in {"),),
        ("tests/workers/test_dlt.py", "-k", "staging_would_be"),
    ),
)
