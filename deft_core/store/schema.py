"""Opens the file of a store and brings its tables up to date.

`store` has one row: the id that tells this store from every other, at the same path too.

`decisions` is the append-only log. `undone_decisions`, `live_decisions` and `latest_decisions` say
what it means: an undo ends the decisions of its reviewer in the group `undo_of` that came before
it, and of the live decisions on a sample the last one counts. An undo that found nothing names the
group "", in which no decision is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from deft_core.errors import StoreError

Connection = duckdb.DuckDBPyConnection
Migration = Callable[[Connection], None]


def connect(path: Path | str) -> Connection:
    """An open file, made when missing; StoreError when it is taken or not a store."""
    try:
        connection = duckdb.connect(
            str(path),
            config={
                "memory_limit": "1GB",
                "threads": 2,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
    except duckdb.Error as error:
        raise _open_error(path, error) from error
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def _open_error(path: Path | str, error: duckdb.Error) -> StoreError:
    holder = re.search(r"PID (\d+)", str(error))
    if holder:
        return StoreError(
            f"{path} is open in another process (id {holder[1]}).",
            "Close the application that uses this workspace, or choose another --workspace.",
        )
    return StoreError(
        f"{path} cannot be opened: {error}", "Is it a workspace of this application, and whole?"
    )


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All that the block does, or nothing of it."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def migrate(
    connection: Connection, *, path: Path | str, migrations: Sequence[Migration] | None = None
) -> None:
    """Bring the schema up to date: each migration and its record share one transaction."""
    migrations = MIGRATIONS if migrations is None else migrations
    connection.execute("create table if not exists migrations(version integer, name varchar)")
    (row,) = connection.execute("select coalesce(max(version), 0) from migrations").fetchall()
    version = row[0]
    if version > len(migrations):
        raise StoreError(
            f"{path} has schema {version}; this application knows {len(migrations)}.",
            "Update the application.",
        )
    for number, migration in enumerate(migrations[version:], start=version + 1):
        with transaction(connection):
            migration(connection)
            connection.execute("insert into migrations values (?, ?)", [number, migration.__name__])
    if version < len(migrations):
        connection.execute("checkpoint")


def _m001_initial(connection: Connection) -> None:
    connection.execute(
        """
        create table store(id varchar not null);
        insert into store values (uuid());
        create table dataset(root varchar not null, report json not null, ingested_at timestamp);
        create table classes(label integer not null, name varchar not null);
        create table samples(
            sample_id integer not null, file_name varchar not null, sha256 varchar not null,
            split varchar not null, given_label integer not null,
            width integer not null, height integer not null
        );

        create table runs(
            seq integer not null, run_id varchar not null unique, kind varchar not null,
            round integer not null, imported_at timestamp not null,
            settings json not null, report json not null
        );
        create table scores(
            run integer not null, position integer not null, sample_id integer not null,
            p_clean real not null, pos_sim real not null, neg_sim real not null,
            margin real not null, mean_gap real not null, mean_margin real not null,
            is_clean boolean not null, predicted_label integer not null,
            predicted_pos_sim real not null, predicted_neg_sim real not null,
            suggested_label integer,
            top_labels integer[] not null, top_pos_sims real[] not null,
            top_neg_sims real[] not null
        );
        create view current_run as
            from runs where seq = (select max(seq) from runs where kind = 'phase1');
        create view current_scores as
            from scores where run = (select max(seq) from runs where kind = 'phase1');

        create table decisions(
            seq bigint not null, uid varchar not null unique, grp varchar not null,
            sample_id integer, verdict varchar, label integer, undo_of varchar,
            reviewer varchar not null, decided_at timestamp not null,
            round integer not null, run_id varchar, shown json
        );
        create view undone_decisions as
            select d.*, min_by(u.uid, u.seq) as undo_uid
            from decisions d join decisions u
                on u.undo_of = d.grp and u.reviewer = d.reviewer and u.seq > d.seq
            group by all;
        create view live_decisions as
            select d.* from decisions d
            left join (
                select undo_of as grp, reviewer, max(seq) as undone_at
                from decisions where undo_of is not null group by all
            ) u using (grp, reviewer)
            where d.undo_of is null and (u.undone_at is null or u.undone_at < d.seq);
        create view latest_decisions as
            select sample_id, seq, verdict,
                case verdict when 'keep' then given_label when 'relabel' then label end
                    as reviewed_label,
                reviewer, decided_at, round, run_id
            from live_decisions join samples using (sample_id)
            qualify row_number() over (partition by sample_id order by seq desc) = 1;
        create table current_decisions as from latest_decisions;
        """
    )


MIGRATIONS: Sequence[Migration] = (_m001_initial,)
"""In order; a released one is never changed. The version of a file counts those it has had."""
