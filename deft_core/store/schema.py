"""Opens the file of a store and brings its tables up to date.

`store` has one row: the id that tells this store from every other, at the same path too.
`decisions` is the append-only log of decisions, notes, undos and redos; `derived.py` says what it
means and makes the tables that are worked out from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import duckdb

from deft_core.errors import DiskFullError, StoreError, StoreTakenError
from deft_core.full_disk import telling_full_disk
from deft_core.whole_files import writing_whole

Connection = duckdb.DuckDBPyConnection
Migration = Callable[[Connection], None]
MEMORY = ":memory:"
BACKUPS = "backups"
"""The folder beside a store in which copies of it are made; SQL can write nowhere else."""


def connect(path: Path | str) -> Connection:
    """An open file, made when missing; StoreError when it is taken or not a store, DiskFullError
    when there is no room for it."""
    is_new = not Path(path).exists()
    try:
        with telling_full_disk(path):
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
    except DiskFullError:
        if is_new:
            # The beginning of a store could never be opened.
            Path(path).unlink(missing_ok=True)
        raise
    if str(path) != MEMORY:
        folder = str(backup_folder(path))
        connection.execute("set allowed_directories = [$folder]", {"folder": folder})
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def _open_error(path: Path | str, error: duckdb.Error) -> StoreError:
    holder = re.search(r"PID (\d+)", str(error))
    if holder:
        return StoreTakenError(
            f"{path} is open in another process (id {holder[1]}).",
            "Close the application that uses this workspace, or choose another --workspace.",
            pid=int(holder[1]),
        )
    hint = "Is it a workspace of this application, and whole?"
    left_by_a_crash = Path(f"{path}.wal")
    if left_by_a_crash.exists():
        hint += (
            f" If you put a backup there, move {left_by_a_crash} away, too: the journal has the "
            "decisions in it."
        )
    return StoreError(f"{path} cannot be opened: {error}", hint)


def backup_folder(path: Path | str) -> Path:
    """Where copies of the store at `path` are made."""
    return Path(path).resolve().parent / BACKUPS


def copy_to_backup(connection: Connection, path: Path | str, *, name: str) -> Path:
    """A new file in the backup folder that holds what this store holds now; others may go on
    writing. The engine copies: were the file opened here a second time and closed, the operating
    system would end the engine's lock on it."""
    folder = backup_folder(path)
    folder.mkdir(exist_ok=True)
    target = folder / name
    with writing_whole(target) as temporary, connection.cursor() as cursor:
        (row,) = cursor.execute("select current_database()").fetchall()
        cursor.execute(f"attach {_quoted(str(temporary))} as copied")
        try:
            cursor.execute(f'copy from database "{row[0]}" to copied')
            cursor.execute("checkpoint copied")
        finally:
            cursor.execute("detach copied")
    return target


def _quoted(text: str) -> str:
    """A text as SQL writes it, for `attach`, which takes no parameter."""
    return "'" + text.replace("'", "''") + "'"


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
    """Bring the schema up to date: each migration and its record share one transaction. A file
    that has a schema already is copied to the backup folder first."""
    migrations = MIGRATIONS if migrations is None else migrations
    connection.execute("create table if not exists migrations(version integer, name varchar)")
    (row,) = connection.execute("select coalesce(max(version), 0) from migrations").fetchall()
    version = row[0]
    if version > len(migrations):
        raise StoreError(
            f"{path} has schema {version}; this application knows {len(migrations)}.",
            "Update the application.",
        )
    if 0 < version < len(migrations) and str(path) != MEMORY:
        copy_to_backup(connection, path, name=_unused_name(path, version=version))
    for number, migration in enumerate(migrations[version:], start=version + 1):
        with transaction(connection):
            migration(connection)
            connection.execute("insert into migrations values (?, ?)", [number, migration.__name__])
    if version < len(migrations):
        connection.execute("checkpoint")


def _unused_name(path: Path | str, *, version: int) -> str:
    taken = {one.name for one in backup_folder(path).glob("*.duckdb")}
    names = (f"schema-{version}-{number}.duckdb" for number in count(1))
    return next(name for name in names if name not in taken)


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


def _m002_review_desk(connection: Connection) -> None:
    connection.execute(
        """
        drop view latest_decisions;
        drop view live_decisions;
        drop view undone_decisions;
        drop table current_decisions;
        alter table decisions add column redo_of varchar;
        alter table decisions add column note varchar;
        alter table decisions add column is_blind boolean default false;

        create table derived(version integer not null);
        create table double_review(share double not null);
        insert into double_review values (0);
        create table leases(
            sample_id integer not null, reviewer varchar not null, expires_at timestamp not null
        );
        create table views(reviewer varchar primary key, state json not null);
        create table neighbours(
            run integer not null, sample_id integer not null,
            nearest integer[] not null, nearest_given integer[] not null,
            nearest_predicted integer[] not null
        );
        """
    )


def _m003_prompts_and_margins(connection: Connection) -> None:
    connection.execute(
        """
        alter table classes add column prompt varchar;
        alter table scores add column margin real;
        alter table scores add column mean_gap real;
        alter table scores add column mean_margin real;
        create or replace view current_scores as
            from scores where run = (select max(seq) from runs where kind = 'phase1');
        """
    )


def _m004_rounds(connection: Connection) -> None:
    connection.execute(
        """
        create table predictions(
            run integer not null, sample_id integer not null, scored_label integer not null,
            predicted_label integer not null, p_predicted real not null, p_given real not null,
            margin real not null, is_sure boolean not null
        );
        create view current_predictions as
            from predictions where run = (select max(run) from predictions);
        alter table scores add column scored_label integer;
        create or replace view current_scores as
            from scores where run = (select max(seq) from runs where kind = 'phase1');
        create view previous_run as
            from runs where seq = (
                select max(seq) from runs
                where kind = 'phase1' and seq < (select seq from current_run)
            );
        create view previous_scores as
            from scores where run = (select seq from previous_run);
        """
    )


def _m005_repetitions(connection: Connection) -> None:
    connection.execute(
        """
        create or replace view previous_run as
            from runs where seq = (
                select max(seq) from runs
                where kind = 'phase1' and round < (select round from current_run)
            )
        """
    )


MIGRATIONS: Sequence[Migration] = (
    _m001_initial,
    _m002_review_desk,
    _m003_prompts_and_margins,
    _m004_rounds,
    _m005_repetitions,
)
"""In order; a released one is never changed. The version of a file counts those it has had."""
