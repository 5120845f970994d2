"""What the log means, and the tables that are worked out from it.

A decision or note is live unless an undo of its reviewer for its group came after it and has not
been taken back by a redo. Of the live decisions on a sample the last one counts, with one
exception: a decision of somebody who was not shown what another one decided, blind therefore, and
that differs from it leaves the sample disputed, "unsure" until somebody decides who knows both.
Every reviewer has one opinion on a sample, his last live decision.

`ended_groups` holds the undos that count; `current_decisions` holds what counts for each sample,
`current_notes` the note of each reviewer on it; `queue` has one row for each sample that the
current run scored, with all that filters and sorts ask for: `is_clean` is whether the run believed
the label, which says nothing about an undecided sample that it knew by another one;
`suggested_label` is the class that it predicts, unless an undecided sample was given it, or the run
knew a decided one by it; `is_new` is whether the previous run believed what this one flags,
`agreed_label` the class that this run and the latest classifier agree on, `is_earlier` whether the
decision is of an earlier round and `is_learnt` whether any decision on the sample is, undone ones
too, so that this run may have learnt from it. They are kept in the transaction that appends to the
log, and can be made anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from deft_core.store.schema import Connection

VERSION = 10
"""Of the form of the derived tables; a file with another one gets them made anew."""
NOTHING = ""
"""What an undo or a redo names that found nothing; no event has this group or uid."""
N_DRAWS = 1_000_000
"""A sample's draw is below `share * N_DRAWS` iff it is chosen for double review."""

_ENDED_GROUPS = f"""
select undo_of as grp, reviewer, max(seq) as ended_at
from decisions u
where undo_of <> '{NOTHING}'
    and not exists (select 1 from decisions r where r.redo_of = u.uid) {{only}}
group by all
"""

_LIVE_EVENTS = """
create or replace view live_events as
select d.* from decisions d left join ended_groups using (grp, reviewer)
where undo_of is null and redo_of is null and (ended_at is null or ended_at < d.seq)
"""

_CURRENT_DECISIONS = """
with opinions as (
    select sample_id, seq, verdict, label, reviewer, decided_at, round, run_id, is_blind
    from live_events
    where verdict is not null {only}
    qualify row_number() over (partition by sample_id, reviewer order by seq desc) = 1
), first_rounds as (
    select sample_id, min(round) as first_round
    from decisions where verdict is not null {only} group by sample_id
), labelled as (
    select o.*, first_round, given_label,
        case verdict when 'keep' then given_label when 'relabel' then label end as reviewed_label
    from opinions o join samples using (sample_id) join first_rounds using (sample_id)
), ranked as (
    select *,
        count(*) over (partition by sample_id) as n_reviewers,
        row_number() over by_age = 1 as is_last,
        lead(seq) over by_age as other_seq,
        lead(reviewer) over by_age as other_reviewer,
        coalesce(
            is_blind and lead(coalesce(reviewed_label::varchar, verdict)) over by_age
                <> coalesce(reviewed_label::varchar, verdict),
            false
        ) as is_contrary
    from labelled
    window by_age as (partition by sample_id order by seq desc)
)
select sample_id, seq,
    case when is_contrary then 'unsure' else verdict end as verdict,
    case when not is_contrary then reviewed_label end as reviewed_label,
    reviewer, decided_at, round, run_id, first_round, n_reviewers::integer as n_reviewers,
    other_seq, other_reviewer, is_contrary as is_disputed,
    not is_contrary and coalesce(reviewed_label <> given_label, false) as is_relabelled
from ranked where is_last
"""

_CURRENT_NOTES = """
select sample_id, note, reviewer, seq from (
    from live_events
    where note is not null {only}
    qualify row_number() over (partition by sample_id, reviewer order by seq desc) = 1
) where note <> ''
"""

_ONLY_TOUCHED = "and sample_id in (from touched)"

_IS_CLEAN = "({c}.is_believed and (d.verdict is not null or {c}.scored_label = {c}.given_label))"

_SUGGESTED = "nullif({c}.predicted_label, if(d.verdict is null, {c}.given_label, {c}.scored_label))"

_QUEUE = f"""
with scored as (
    select c.* exclude (is_clean, scored_label), c.is_clean as is_believed, s.given_label,
        coalesce(c.scored_label, s.given_label) as scored_label,
        s.split, s.file_name, s.sha256
    from current_scores c join samples s using (sample_id)
)
select c.sample_id, c.split, c.position, c.p_clean, {_IS_CLEAN.format(c="c")} as is_clean,
    c.is_believed, c.given_label, c.scored_label, c.predicted_label,
    {_SUGGESTED.format(c="c")} as suggested_label,
    coalesce(c.margin, c.pos_sim - c.predicted_pos_sim) as margin,
    lower(c.file_name) as folded_name,
    (md5_number_lower(c.sha256) % {N_DRAWS})::integer as draw,
    coalesce(v.is_clean and not c.is_believed, false) as is_new,
    case when p.is_sure and p.predicted_label = c.predicted_label then c.predicted_label end
        as agreed_label,
    d.verdict, d.reviewed_label, d.reviewer, d.n_reviewers, d.seq, d.other_seq,
    coalesce(d.is_disputed, false) as is_disputed,
    coalesce(d.round < (select round from current_run), false) as is_earlier,
    coalesce(d.first_round < (select round from current_run), false) as is_learnt
from scored c
left join previous_scores v using (sample_id)
left join current_predictions p using (sample_id)
left join current_decisions d using (sample_id)
order by c.sample_id
"""


def rebuild(connection: Connection) -> None:
    """Make every derived table anew from the log, the samples and the scores."""
    _make(connection, "ended_groups", sql=_ENDED_GROUPS.format(only=""))
    connection.execute(_LIVE_EVENTS)
    _make(connection, "current_decisions", sql=_CURRENT_DECISIONS.format(only=""))
    _make(connection, "current_notes", sql=_CURRENT_NOTES.format(only=""))
    rebuild_queue(connection)
    connection.execute("delete from derived")
    connection.execute("insert into derived values (?)", [VERSION])


def rebuild_queue(connection: Connection) -> None:
    """Make the table `queue` anew for the current run."""
    _make(connection, "queue", sql=_QUEUE)


def refresh_group(connection: Connection, group: str, *, reviewer: str) -> None:
    """Bring up to date which undo, if any, ended the reviewer's events in this group."""
    parameters = {"group": group, "reviewer": reviewer}
    connection.execute(
        "delete from ended_groups where grp = $group and reviewer = $reviewer", parameters
    )
    only = "and undo_of = $group and reviewer = $reviewer"
    connection.execute(f"insert into ended_groups {_ENDED_GROUPS.format(only=only)}", parameters)


def refresh(connection: Connection, *, has_notes: bool = True) -> None:
    """Bring the derived rows of the samples in the table `touched` up to date with the log;
    without `has_notes` only their decisions have changed."""
    _replace_touched(connection, "current_decisions", sql=_CURRENT_DECISIONS)
    if has_notes:
        _replace_touched(connection, "current_notes", sql=_CURRENT_NOTES)
    connection.execute(
        f"""
        update queue set is_clean = {_IS_CLEAN.format(c="queue")},
            suggested_label = {_SUGGESTED.format(c="queue")},
            verdict = d.verdict, reviewed_label = d.reviewed_label,
            reviewer = d.reviewer, n_reviewers = d.n_reviewers, seq = d.seq,
            other_seq = d.other_seq,
            is_disputed = coalesce(d.is_disputed, false),
            is_earlier = coalesce(d.round < (select round from current_run), false),
            is_learnt = coalesce(d.first_round < (select round from current_run), false)
        from touched left join current_decisions d using (sample_id)
        where queue.sample_id = touched.sample_id
        """
    )


@contextmanager
def touching(connection: Connection, sample_ids: pa.Array) -> Iterator[None]:
    """SQL on this connection sees the samples as the table `touched`."""
    with registered(connection, "touched", pa.table({"sample_id": sample_ids})):
        yield


def _make(connection: Connection, table: str, *, sql: str) -> None:
    connection.execute(f"create or replace table {table} as {sql}")


def _replace_touched(connection: Connection, table: str, *, sql: str) -> None:
    connection.execute(f"delete from {table} where sample_id in (from touched)")
    connection.execute(f"insert into {table} {sql.format(only=_ONLY_TOUCHED)}")


def differences(connection: Connection) -> dict[str, int]:
    """For each derived table the number of rows in which it is not what the log says."""
    fresh = {
        "ended_groups": _ENDED_GROUPS.format(only=""),
        "current_decisions": _CURRENT_DECISIONS.format(only=""),
        "current_notes": _CURRENT_NOTES.format(only=""),
        "queue": _QUEUE,
    }
    counts = {}
    for name, sql in fresh.items():
        (row,) = connection.execute(
            f"""
            with fresh as ({sql})
            select (select count(*) from (from {name} except all from fresh))
                + (select count(*) from (from fresh except all from {name}))
            """
        ).fetchall()
        counts[name] = row[0]
    return counts


@contextmanager
def registered(connection: Connection, name: str, rows: pa.Table) -> Iterator[None]:
    """SQL on this connection sees the Arrow table under this name."""
    connection.register(name, rows)
    try:
        yield
    finally:
        connection.unregister(name)
