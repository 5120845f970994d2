"""The log of decisions: appended to, never changed.

An event is a decision, a note, an undo or a redo. Whoever appends commits to the database first and
then to the journal, both synced, before it returns; those who add at the same time share both. What
a client sends twice, with the same uid, is appended once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.store import derived
from deft_core.store.database import Database, naive
from deft_core.store.derived import N_DRAWS, NOTHING
from deft_core.store.journal import EVENT_SCHEMA, Journal
from deft_core.store.queue import Matching
from deft_core.store.reviewers import LEASE, release_touched, renew
from deft_core.store.schema import MEMORY, Connection
from deft_core.store.together import Together

LONGEST_HISTORY = 1000
JOURNAL_SUFFIX = ".journal.jsonl"
_COLUMNS = ", ".join(EVENT_SCHEMA.names)

_APPEND = """
insert into decisions by name
select i.seq, i.uid, i.grp, i.sample_id,
    if(i.verdict = 'relabel' and i.label = s.given_label, 'keep', i.verdict) as verdict,
    nullif(i.label, s.given_label) as label, i.note,
    i.verdict is not null and coalesce(
        q.draw < $n_chosen
            and if(q.reviewer <> i.reviewer, q.seq, q.other_seq) > coalesce(i.seen, 0),
        false
    ) as is_blind,
    i.reviewer, i.decided_at,
    coalesce(run.round, 1) as round, run.run_id,
    case when c.p_clean is not null and i.verdict is not null and not (is_blind and q.is_learnt)
        then json_object('p_clean', c.p_clean, 'suggested_label', c.suggested_label) end as shown
from {source} i
left join runs run on run.run_id = coalesce(i.run_id, (select run_id from current_run))
left join (from samples where sample_id in (select sample_id from {chosen})) s
    on s.sample_id = i.sample_id
left join (from queue where sample_id in (select sample_id from {chosen})) q
    on q.sample_id = i.sample_id
left join (from {scores} where sample_id in (select sample_id from {chosen})) c
    on c.run = run.seq and c.sample_id = i.sample_id
"""

_ALL_SCORES = "scores"
# Seven times as fast as all scores, when no event is about an earlier run.
_CURRENT_SCORES = "(select (select seq from current_run) as run, * from queue)"

_STEP = """
insert into decisions by name
select (select coalesce(max(seq), 0) + 1 from decisions) as seq, $uid as uid, $uid as grp,
    {names}, false as is_blind, $reviewer as reviewer, $decided_at as decided_at,
    coalesce(run.round, 1) as round, run.run_id
from (select 1) left join current_run run on true
where not exists (from decisions where uid = $uid)
"""

_LAST_LIVE_GROUP = """
select arg_max(grp, seq) as grp from live_events
where reviewer = $reviewer and ($group::varchar is null or grp = $group)
"""

_LAST_LIVE_UNDO = f"""
select arg_max(uid, seq) as uid from decisions u
where reviewer = $reviewer and undo_of <> '{NOTHING}'
    and ($undo::varchar is null or uid = $undo)
    and not exists (select 1 from decisions r where r.redo_of = u.uid)
    and seq > coalesce(
        (
            select max(seq) from decisions
            where reviewer = $reviewer and undo_of is null and redo_of is null
        ),
        0
    )
"""

_SAMPLES_OF_UNDO = """
select distinct d.sample_id
from decisions u join decisions d
    on d.grp = u.undo_of and d.reviewer = u.reviewer and d.seq < u.seq
where u.uid = $undo and d.sample_id is not null
order by d.sample_id
"""


@dataclass(frozen=True, kw_only=True)
class _Addition:
    """Decisions and notes that one reviewer sent at once."""

    events: pa.Table
    reviewer: str
    decided_at: datetime

    @property
    def sample_ids(self) -> pa.Array:
        return self.events["sample_id"].unique()

    def signed_events(self) -> pa.Table:
        """The events, each with its reviewer and moment."""
        n = self.events.num_rows
        moment = pa.scalar(naive(self.decided_at), pa.timestamp("us"))
        return self.events.append_column("reviewer", pa.repeat(self.reviewer, n)).append_column(
            "decided_at", pa.repeat(moment, n)
        )


class DecisionLog:
    """Every event of a store, in the order in which they came. `n_reapplied` of them the database
    had lost, and got back from the journal when it was opened."""

    def __init__(self, database: Database, *, store_id: str) -> None:
        self._database = database
        self._additions = Together(self._add_all)
        self._journal: Journal | None = None
        self.n_reapplied = 0
        if str(database.path) != MEMORY:
            self._journal = Journal(journal_path(database.path), store_id=store_id)
            try:
                self._reconcile(self._journal)
            except BaseException:
                self._journal.close()
                raise

    def close(self) -> None:
        """The journal is free."""
        if self._journal:
            self._journal.close()

    # --- appending

    def add(self, events: pa.Table, *, reviewer: str, decided_at: datetime) -> None:
        """Append decisions and notes (uid, grp, sample_id, verdict, label, note, run_id, seen),
        all or none; what they say was shown is what their run, or the current one, said of the
        sample. A decision on a sample for double review is blind if another reviewer's one came
        after `seen`, the place in the log of the decision that was shown. The
        given label as a label means keep.

        Those whose uid the log holds already are left out. The reviewer's leases on the samples end
        and his others are renewed.
        """
        self._additions.do(_Addition(events=events, reviewer=reviewer, decided_at=decided_at))

    def add_matching(
        self,
        matching: Matching,
        *,
        uid: str,
        verdict: str,
        label: int | None,
        n_expected: int,
        counted_at: int | None,
        run_id: str | None,
        reviewer: str,
        decided_at: datetime,
    ) -> int:
        """How many samples match now and, unless these are not `n_expected`, got the verdict in
        one group. "suggested" gives each its suggested label, "both" names it beside the given
        one, "standing" repeats the decision that counts. What came after `counted_at` in the log
        was not shown. Sent again, the first answer. StoreError when `run_id` is not the current
        run, or another act has the `uid`."""
        with self._appending() as connection:
            (known,) = connection.execute(
                "select count(*) from decisions where grp = $uid and reviewer = $reviewer",
                {"uid": uid, "reviewer": reviewer},
            ).fetchall()
            if known[0]:
                return int(known[0])
            if run_id not in (None, _current_run_id(connection)):
                raise StoreError(
                    "A new run has scored the images since; nothing was changed.",
                    "Look at the queue as it is now, then confirm again.",
                )
            connection.execute(
                "create or replace temp table matched as "
                "select sample_id, position, suggested_label, verdict as standing, reviewed_label, "
                + "seq as seen "
                + matching.sql,
                matching.parameters,
            )
            (row,) = connection.execute("select count(*) from matched").fetchall()
            n = int(row[0])
            if n == n_expected and n > 0:
                source = """(
                    select $last + row_number() over (order by position) as seq,
                        $uid || ':' || sample_id as uid, $uid as grp, sample_id,
                        case $verdict when 'suggested' then 'relabel' when 'standing' then standing
                            else $verdict end as verdict,
                        case when $verdict in ('suggested', 'both') then suggested_label
                            when $verdict = 'standing' and standing = 'relabel' then reviewed_label
                            else $label::integer end as label,
                        null::varchar as note, null::varchar as run_id,
                        case when seen <= $counted_at::bigint then seen end as seen,
                        $reviewer as reviewer, $decided_at::timestamp as decided_at
                    from matched
                )"""
                append = _APPEND.format(source=source, chosen="matched", scores=_CURRENT_SCORES)
                parameters = {
                    "last": _last_seq(connection),
                    "uid": uid,
                    "verdict": verdict,
                    "label": label,
                    "counted_at": counted_at,
                    "reviewer": reviewer,
                    "decided_at": naive(decided_at),
                    **_n_chosen(connection),
                }
                try:
                    connection.execute(append, parameters)
                except duckdb.ConstraintException as error:
                    raise StoreError(
                        f'"{uid}" is the id of another act; nothing was changed.',
                        "Confirm again.",
                    ) from error
                matched = _ids(connection, "select sample_id from matched")
                with derived.touching(connection, matched):
                    derived.refresh(connection, has_notes=False)
                    release_touched(connection, reviewer=reviewer)
            connection.execute("drop table matched")
        return n

    def add_undo(
        self, uid: str, *, group: str | None = None, reviewer: str, decided_at: datetime
    ) -> list[int]:
        """The samples with events that the event `uid` undid: those of the reviewer's live
        `group`, or of the last live one.

        An undo that finds nothing is logged too: sent again, the same uid answers the same.
        """
        names = f"coalesce(({_LAST_LIVE_GROUP}), '{NOTHING}') as undo_of"
        with self._appending() as connection:
            connection.execute(
                _STEP.format(names=names),
                {
                    "uid": uid,
                    "group": group,
                    "reviewer": reviewer,
                    "decided_at": naive(decided_at),
                },
            )
            return self._refresh_undone(connection, undo=uid, reviewer=reviewer)

    def add_redo(
        self, uid: str, *, undo: str | None = None, reviewer: str, decided_at: datetime
    ) -> list[int]:
        """The samples with events that count again: those of the undo event `undo`, or of the
        reviewer's last one. There is none once he has decided or noted anything after it."""
        names = f"coalesce(({_LAST_LIVE_UNDO}), '{NOTHING}') as redo_of"
        with self._appending() as connection:
            connection.execute(
                _STEP.format(names=names),
                {"uid": uid, "undo": undo, "reviewer": reviewer, "decided_at": naive(decided_at)},
            )
            (row,) = connection.execute(
                "select redo_of from decisions where uid = ?", [uid]
            ).fetchall()
            return self._refresh_undone(connection, undo=row[0], reviewer=reviewer)

    # --- reading

    def history(self, sample_id: int) -> pa.Table:
        """The last events about one sample, oldest first, each with `is_live` and `n_events`; an
        undo or a redo of a group of the sample has no verdict."""
        return self._database.table(
            f"""
            with own as (from decisions where sample_id = $id),
            undos as (
                select distinct u.* from decisions u join own
                    on u.undo_of = own.grp and u.reviewer = own.reviewer and u.seq > own.seq
            ), every_one as (
                from own union all from undos
                union all from decisions where redo_of in (select uid from undos)
            )
            select *, seq in (select seq from live_events where sample_id = $id) as is_live,
                count(*) over () as n_events
            from every_one
            qualify row_number() over (order by seq desc) <= {LONGEST_HISTORY}
            order by seq
            """,
            id=sample_id,
        )

    def current(self) -> pa.Table:
        """The decision that counts for each decided sample, kept beside the log."""
        return self._database.table("from current_decisions order by sample_id")

    def differences(self) -> dict[str, int]:
        """For each derived table the number of rows that the log contradicts."""
        with self._database.writing() as connection:
            return derived.differences(connection)

    def rebuild(self) -> None:
        """Make the derived tables anew."""
        with self._database.writing() as connection:
            derived.rebuild(connection)
        self._database.checkpoint()

    def n_unknown_samples(self) -> int:
        """How many events are about samples that do not exist."""
        (row,) = self._database.rows(
            """
            select count(*) as n from decisions
            where sample_id is not null and sample_id not in (select sample_id from samples)
            """
        )
        return int(row["n"])

    def events(self) -> pa.Table:
        """Every event, in the columns of the journal."""
        return self._events(after=0)

    def n_events(self) -> int:
        """How many events the log has."""
        (row,) = self._database.rows("select count(*) as n from decisions")
        return int(row["n"])

    def n_unlike_journal(self) -> int:
        """In how many events log and journal differ; StoreError when the journal is damaged."""
        if self._journal is None:
            return 0
        n_unlike = n_read = 0
        with self._database.lock:
            for events in self._journal.events():
                first, last = events["seq"][0].as_py(), events["seq"][-1].as_py()
                logged = self._events(after=first - 1, until=last)
                n_read += events.num_rows
                if not logged.equals(events):
                    n_unlike += events.num_rows
            return n_unlike + abs(self.n_events() - n_read)

    # --- inside

    @contextmanager
    def _appending(self) -> Iterator[Connection]:
        """A transaction whose new events are in the journal, too, when the block has ended."""
        with self._database.lock:
            with self._database.writing() as connection:
                yield connection
            if self._journal:
                self._journal.append(self._events(after=self._journal.last_seq))

    def _add_all(self, additions: list[_Addition]) -> None:
        for apart in _without_common_samples(additions):
            self._add_together(apart)

    def _add_together(self, additions: list[_Addition]) -> None:
        """Append what is about different samples in one transaction."""
        events = pa.concat_tables([one.signed_events() for one in additions])
        with self._appending() as connection:
            with derived.touching(connection, events["sample_id"].unique()):
                _check_samples(connection)
                new = _without_known_uids(connection, events)
                with derived.registered(connection, "incoming", new):
                    append = _APPEND.format(
                        source="incoming", chosen="touched", scores=_scores(connection, new)
                    )
                    connection.execute(append, _n_chosen(connection))
                derived.refresh(connection, has_notes=events["note"].null_count < len(events))
            for one in additions:
                with derived.touching(connection, one.sample_ids):
                    release_touched(connection, reviewer=one.reviewer)
                renew(connection, reviewer=one.reviewer, expires_at=one.decided_at + LEASE)

    def _refresh_undone(self, connection: Connection, *, undo: str, reviewer: str) -> list[int]:
        """The samples of the undo event `undo`, for which the derived tables are true again."""
        named = connection.execute("select undo_of from decisions where uid = ?", [undo]).fetchone()
        if named is None:
            return []
        derived.refresh_group(connection, named[0], reviewer=reviewer)
        sample_ids = _ids(connection, _SAMPLES_OF_UNDO, undo=undo)
        with derived.touching(connection, sample_ids):
            derived.refresh(connection)
        return sample_ids.to_pylist()  # type: ignore[no-any-return]

    def _events(self, *, after: int, until: int = 2**62) -> pa.Table:
        events = self._database.table(
            f"select {_COLUMNS} from decisions where seq > $after and seq <= $until order by seq",
            after=after,
            until=until,
        )
        return events.cast(EVENT_SCHEMA).combine_chunks()

    def _reconcile(self, journal: Journal) -> None:
        """Bring the database what it lost, and the journal what it missed."""
        (row,) = self._database.rows(
            "select count(*) as n, coalesce(max(seq), 0) as last from decisions"
        )
        if row["n"] != row["last"]:
            raise StoreError(
                f"{self._database.path} has {row['n']} events, the last with number {row['last']}.",
                "Events are missing from the middle: restore a copy from the backups folder; "
                "the journal beside it brings what came later.",
            )
        self._check_story(journal, last=row["last"])
        if journal.last_seq > row["last"]:
            self._reapply(journal, last=row["last"])
        journal.append(self._events(after=journal.last_seq))

    def _check_story(self, journal: Journal, *, last: int) -> None:
        """StoreError when the last event that both have is not the same in both."""
        shared = min(last, journal.last_seq)
        same = self._database.rows(
            "from decisions where seq = $seq and uid = $uid", seq=shared, uid=journal.uid(shared)
        )
        if shared and not same:
            raise StoreError(
                f"{journal.path} and {self._database.path} tell different stories: "
                f"event {shared} is not the same in both.",
                "One of them was replaced. Put the right one back, or move the journal away.",
            )

    def _reapply(self, journal: Journal, *, last: int) -> None:
        with self._database.writing() as connection:
            for events in journal.events(after=last):
                if events["seq"][0].as_py() != _last_seq(connection) + 1:
                    raise StoreError(
                        f"{journal.path} lacks the events after {_last_seq(connection)}.",
                        "Restore a later copy of the store from the backups folder.",
                    )
                with derived.registered(connection, "incoming", events):
                    connection.execute("insert into decisions by name from incoming")
                self.n_reapplied += events.num_rows
            derived.rebuild(connection)
        self._database.checkpoint()


def journal_path(store: Path | str) -> Path:
    """Where the journal of the store at this path lies."""
    return Path(store).with_suffix(JOURNAL_SUFFIX)


def unknown_samples(sample_ids: list[int]) -> StoreError:
    """The error that names samples which do not exist."""
    shown = ", ".join(map(str, sorted(sample_ids)[:5]))
    return StoreError(f"No sample with id {shown}.", "Reload the page: the queue is out of date.")


def _without_common_samples(additions: list[_Addition]) -> Iterator[list[_Addition]]:
    """The additions in their order, divided wherever one is about a sample of an earlier one: what
    that one decided counts when this one is appended."""
    apart: list[_Addition] = []
    seen: set[int] = set()
    for addition in additions:
        sample_ids = set(addition.sample_ids.to_pylist())
        if not seen.isdisjoint(sample_ids):
            yield apart
            apart, seen = [], set()
        apart.append(addition)
        seen |= sample_ids
    yield apart


def _check_samples(connection: Connection) -> None:
    unknown = connection.execute("from touched anti join samples using (sample_id)").fetchall()
    if unknown:
        raise unknown_samples([row[0] for row in unknown])


def _scores(connection: Connection, events: pa.Table) -> str:
    """The scores that hold what was shown; StoreError when an event names a run there is not."""
    named = set(events["run_id"].drop_null().to_pylist())
    if named <= {_current_run_id(connection)}:
        return _CURRENT_SCORES
    rows = connection.execute("select run_id from runs").fetchall()
    for unknown in named - {row[0] for row in rows}:
        raise StoreError(f'There is no run "{unknown}".', "Reload the page.")
    return _ALL_SCORES


def _current_run_id(connection: Connection) -> str | None:
    row = connection.execute("select run_id from current_run").fetchone()
    return row[0] if row else None


def _without_known_uids(connection: Connection, events: pa.Table) -> pa.Table:
    """The events whose uid is new, each with its place `seq` in the log."""
    seen = set()
    is_new = []
    for uid in events["uid"].to_pylist():
        # One look into the index each: faster than a join up to many hundreds.
        known = uid in seen or connection.execute("from decisions where uid = ?", [uid]).fetchone()
        is_new.append(not known)
        seen.add(uid)
    new = events.filter(pa.array(is_new, pa.bool_()))
    first = _last_seq(connection) + 1
    places = range(first, first + new.num_rows)
    return new.append_column("seq", pa.array(places, pa.int64()))


def _last_seq(connection: Connection) -> int:
    (row,) = connection.execute("select coalesce(max(seq), 0) from decisions").fetchall()
    return int(row[0])


def _n_chosen(connection: Connection) -> dict[str, int]:
    (row,) = connection.execute("select share from double_review").fetchall()
    return {"n_chosen": round(row[0] * N_DRAWS)}


def _ids(connection: Connection, sql: str, **parameters: Any) -> pa.Array:
    """The first column of a query as int32."""
    found = connection.execute(sql, parameters).fetchnumpy()
    (column,) = found.values()
    return pa.array(column, pa.int32())
