"""Questions to the queue: which samples match a filter, in which order, and how many.

Everything is asked for one reviewer, who does not see the first decision on a sample that he is to
decide blind: for him it is undecided. Where the current run has learnt from that decision, he sees
nothing of what the run says either: for him it is a suspect without a score, behind all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.store.database import Database, naive
from deft_core.store.derived import N_DRAWS

RELOAD = "Reload the page."
LARGEST_KEY = 2**64
LAST_POSITION = 2**31


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which samples; None asks for nothing, and what is given must all hold.

    `name` is "all", "suspects" (flagged and undecided, unless `is_flagged` or `is_decided` says
    otherwise), "new" (suspects that the last round believed), "second look" (decided in an earlier
    round, while both new models say the same other class) or "disagreements".
    """

    name: str = "suspects"
    split: str = "train"
    is_flagged: bool | None = None
    is_decided: bool | None = None
    given: tuple[int, ...] | None = None
    suggested: tuple[int, ...] | None = None
    has_suggestion: bool | None = None
    p_min: float | None = None
    p_max: float | None = None
    verdicts: tuple[str, ...] | None = None
    reviewers: tuple[str, ...] | None = None
    text: str | None = None
    sample_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Sort:
    """An order; `seed` is for the random one."""

    name: str = "p_clean"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Matching:
    """A query for what matches, with the values of its parameters."""

    sql: str
    parameters: dict[str, Any]


_NAMED: dict[str, dict[str, bool]] = {
    "all": {},
    "suspects": {"is_flagged": True, "is_decided": False},
    "new": {"is_new": True, "is_decided": False},
    "second look": {"is_second_look": True},
    "disagreements": {"is_disputed": True},
}
FILTER_NAMES = tuple(_NAMED)

SECOND_LOOK = "coalesce(is_earlier and reviewed_label <> agreed_label, false)"
_YES_NO = {
    "is_flagged": ("not is_clean", "is_clean"),
    "is_decided": ("verdict is not null", "verdict is null"),
    "is_disputed": ("is_disputed", "not is_disputed"),
    "is_new": ("is_new", "not is_new"),
    "is_second_look": (SECOND_LOOK, f"not {SECOND_LOOK}"),
    "has_suggestion": ("suggested_label is not null", "suggested_label is null"),
}
_CONDITIONS = {
    "split": "split = $split",
    "given": "given_label in (select unnest($given))",
    "suggested": "suggested_label in (select unnest($suggested))",
    "p_min": "p_clean >= $p_min::real",
    "p_max": "p_clean <= $p_max::real",
    "verdicts": "verdict in (select unnest($verdicts))",
    "reviewers": "reviewer in (select unnest($reviewers))",
    "text": "contains(folded_name, lower($text))",
    "sample_ids": "sample_id in (select unnest($sample_ids))",
}

_SEEN_BY_ALL = """(
    select *, position as place, false as is_double, false as is_blind, false as is_hidden
    from queue
)"""
_SEEN = f"""(
    select * replace (
            case when not is_blind then verdict end as verdict,
            case when not is_blind then reviewed_label end as reviewed_label,
            case when not is_blind then reviewer end as reviewer,
            case when not is_blind then seq end as seq,
            case when not is_hidden then p_clean end as p_clean,
            case when not is_hidden then suggested_label end as suggested_label,
            case when is_hidden then 'infinity' else margin end as margin,
            is_clean and not is_hidden as is_clean,
            is_new and not is_hidden as is_new
        ),
        case when is_hidden then {LAST_POSITION} + sample_id else position end as place
    from (
        select *, is_blind and is_learnt as is_hidden
        from (
            select *, draw < $n_chosen as is_double,
                case when draw < $n_chosen then coalesce(n_reviewers = 1 and reviewer <> $me, false)
                    else false end as is_blind
            from queue
        )
    )
)"""
_OF_OTHERS = "(select sample_id from leases where reviewer <> $me and expires_at > $now)"

_ORDER = {
    "p_clean": "place",
    "margin": "margin",
    "random": "hash(sample_id, $seed::bigint)",
    "class": "given_label",
}
SORT_NAMES = tuple(_ORDER)

_RUNS_SHOWN = """
select c.seq as run, c.run_id, p.seq as previous_run, p.round as previous_round
from (select 1) left join current_run c on true left join previous_run p on true
"""


class Queue:
    """The scored samples of the current run, as each reviewer is to see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        wanted: Filter,
        *,
        sort: Sort,
        after: str | None,
        limit: int,
        reviewer: str,
        not_leased_at: datetime | None = None,
    ) -> list[tuple[int, str]]:
        """The ids of the next `limit` samples behind the place `after`, each with its own place.
        With a moment, none that another reviewer has a lease on then."""
        matching = self.matching(wanted, reviewer=reviewer)
        key = _ORDER[sort.name]
        conditions, parameters = _behind(after, sort=sort)
        if sort.name == "random":
            parameters["seed"] = sort.seed
        if not_leased_at:
            conditions.append(f"sample_id not in {_OF_OTHERS}")
            parameters |= {"now": naive(not_leased_at), "me": reviewer}
        rows = self._database.rows(
            f"""
            select sample_id, place, {key} as key from ({matching.sql})
            where {" and ".join(conditions) or "true"}
            order by {key}, place limit $limit
            """,
            **(matching.parameters | parameters),
            limit=limit,
        )
        return [(row["sample_id"], _place(row, sort=sort)) for row in rows]

    def counts(
        self, wanted: Filter, *, reviewer: str, leased_at: datetime | None = None
    ) -> dict[str, int]:
        """n_matching, and of these n_flagged, n_undecided, n_with_suggestion and, at a moment,
        n_leased to other reviewers; counted_at, the place of the last event in the log."""
        matching = self.matching(wanted, reviewer=reviewer)
        leased = f"count(*) filter (sample_id in {_OF_OTHERS})" if leased_at else "0"
        (row,) = self._database.rows(
            f"""
            select count(*) as n_matching,
                count(*) filter (not is_clean) as n_flagged,
                count(*) filter (verdict is null) as n_undecided,
                count(suggested_label) as n_with_suggestion,
                {leased} as n_leased,
                (select coalesce(max(seq), 0) from decisions) as counted_at
            from ({matching.sql})
            """,
            **matching.parameters
            | ({"now": naive(leased_at), "me": reviewer} if leased_at else {}),
        )
        return row

    def confusion(self, wanted: Filter, *, reviewer: str, limit: int) -> pa.Table:
        """given, suggested, n, n_flagged and n_undecided (flagged) of the fullest cells, and
        n_cells, the number of all cells."""
        matching = self.matching(wanted, reviewer=reviewer)
        return self._database.table(
            f"""
            select given_label as given, suggested_label as suggested, count(*) as n,
                count(*) filter (not is_clean) as n_flagged,
                count(*) filter (not is_clean and verdict is null) as n_undecided,
                count(*) over () as n_cells
            from ({matching.sql}) group by all
            order by n_undecided desc, n desc, given, suggested limit $limit
            """,
            **matching.parameters,
            limit=limit,
        )

    def rows(self, sample_ids: Sequence[int], *, reviewer: str) -> pa.Table:
        """All that a reviewer is shown of these samples, in their order; no row for those without
        a score."""
        seen = self._seen(reviewer)
        # Each table is narrowed on its own first, and the runs are looked up before: the engine
        # takes longer to order many joins than to make them.
        ids = "(select unnest($ids::integer[]))"
        with self._database.reading() as connection:
            (runs,) = connection.sql(_RUNS_SHOWN).to_arrow_table().to_pylist()
            rows = connection.sql(
                f"""
                select $run_id as run, q.sample_id, s.file_name, s.sha256,
                    s.given_label, q.split, q.suggested_label, q.p_clean, q.is_clean,
                    c.pos_sim, c.neg_sim, case when not q.is_hidden then q.margin end as margin,
                    case when q.is_blind then q.given_label else q.scored_label end as scored_label,
                    coalesce(c.top_labels, []) as top_labels, c.top_pos_sims, c.top_neg_sims,
                    q.verdict, q.reviewed_label, q.reviewer, q.seq as seen,
                    if(q.is_blind, n.own_note, n.note) as note,
                    q.is_disputed, q.is_double, q.is_new,
                    {SECOND_LOOK} as is_second_look,
                    case when not q.is_hidden then $previous_round::integer end as previous_round,
                    c.mean_margin, v.is_clean as was_clean,
                    v.suggested_label as previous_suggestion,
                    case when q.verdict is not null and q.is_earlier then d.round end
                        as decided_round,
                    d.other_reviewer,
                    p.predicted_label as classifier_label, p.p_predicted as classifier_p,
                    case when p.scored_label = coalesce(q.reviewed_label, q.given_label)
                        then p.p_given end as classifier_p_given
                from (from {seen.sql} where sample_id in {ids}) q
                join (from samples where sample_id in {ids}) s using (sample_id)
                left join (from scores where run = $run) c
                    on c.position = q.position and not q.is_hidden
                left join (from scores where run = $previous_run and sample_id in {ids}) v
                    on v.sample_id = q.sample_id and not q.is_hidden
                left join (from current_predictions where sample_id in {ids}) p
                    on p.sample_id = q.sample_id and not q.is_blind
                left join (
                    select sample_id, round, other_reviewer from current_decisions
                    where sample_id in {ids}
                ) d using (sample_id)
                left join (
                    select sample_id, max_by(note, seq) as note,
                        max_by(note, seq) filter (reviewer = $name) as own_note
                    from current_notes where sample_id in {ids} group by sample_id
                ) n using (sample_id)
                order by list_position($ids::integer[], q.sample_id)
                """,
                params=seen.parameters | runs | {"ids": list(sample_ids), "name": reviewer},
            )
            return rows.to_arrow_table()

    def blind(self, sample_ids: Sequence[int], *, reviewer: str) -> set[int]:
        """Those of these samples that the reviewer is to decide without the first decision."""
        seen = self._seen(reviewer)
        rows = self._database.rows(
            f"""
            select sample_id from {seen.sql}
            where is_blind and sample_id in (select unnest($ids::integer[]))
            """,
            **seen.parameters,
            ids=list(sample_ids),
        )
        return {row["sample_id"] for row in rows}

    def points(self, *, reviewer: str | None) -> pa.Table:
        """What a map of the scored training samples shows the reviewer, or all that there is for
        None; in order of sample id."""
        seen = self._seen(reviewer)
        return self._database.table(
            f"""
            select q.sample_id, c.pos_sim, c.neg_sim, c.p_clean, q.given_label, q.is_clean
            from {seen.sql} q join current_scores c using (position)
            where split = 'train' and not is_hidden order by q.sample_id
            """,
            **seen.parameters,
        )

    def matching(self, wanted: Filter, *, reviewer: str) -> Matching:
        """The query for the rows of the queue that match."""
        seen = self._seen(reviewer)
        conditions = []
        parameters = dict(seen.parameters)
        asked = {name: getattr(wanted, name, None) for name in _YES_NO}
        for name, value in _NAMED[wanted.name].items():
            asked[name] = value if asked[name] is None else asked[name]
        for name, is_asked in asked.items():
            if is_asked is not None:
                conditions.append(_YES_NO[name][not is_asked])
        for name, condition in _CONDITIONS.items():
            value = getattr(wanted, name)
            if value is not None:
                conditions.append(condition)
                parameters[name] = list(value) if isinstance(value, tuple) else value
        where = " and ".join(conditions) or "true"
        return Matching(sql=f"from {seen.sql} where {where}", parameters=parameters)

    def _seen(self, reviewer: str | None) -> Matching:
        """The rows of the queue as this reviewer sees them, or all that is in them for None."""
        (row,) = self._database.rows("from double_review")
        if row["share"] == 0 or reviewer is None:
            return Matching(sql=_SEEN_BY_ALL, parameters={})
        return Matching(
            sql=_SEEN, parameters={"n_chosen": round(row["share"] * N_DRAWS), "me": reviewer}
        )

    def progress(self, *, reviewer: str | None) -> dict[str, Any]:
        """The round of the current run, and how many training samples have a score of it, are
        flagged, are flagged and decided, are disputed, are new suspects, and are decided but ask
        for a second look: as this reviewer sees them, or all that there is for None."""
        seen = self._seen(reviewer)
        (row,) = self._database.rows(
            f"""
            select (select round from current_run) as round, count(*) as n_scored,
                coalesce(sum((not is_clean)::integer), 0)::bigint as n_flagged,
                coalesce(sum((not is_clean and verdict is not null)::integer), 0)::bigint
                    as n_decided,
                count(*) filter (is_disputed) as n_disputed,
                count(*) filter (is_new and verdict is null) as n_new,
                count(*) filter ({SECOND_LOOK}) as n_second_look
            from {seen.sql} where split = 'train'
            """,
            **seen.parameters,
        )
        return row

    def similarity_range(self) -> tuple[float, float] | None:
        """The least and the greatest similarity of a training sample to a prompt of its label."""
        (row,) = self._database.rows(
            """
            select least(min(pos_sim), min(neg_sim)) as lowest,
                greatest(max(pos_sim), max(neg_sim)) as highest
            from current_scores c join queue q using (position) where q.split = 'train'
            """
        )
        return None if row["lowest"] is None else (row["lowest"], row["highest"])

    def split_review(self, split: str) -> dict[str, int]:
        """How many samples of a split have a current score, and are flagged and undecided."""
        (row,) = self._database.rows(
            """
            select count(*) as n_scored,
                count(*) filter (not is_clean and verdict is null) as n_left
            from queue where split = $split
            """,
            split=split,
        )
        return row

    def n_by_verdict(self) -> pa.Table:
        """verdict, n, and n_relabelled: those whose reviewed label is not the given one."""
        return self._database.table(
            """
            select verdict, count(*) as n, count(*) filter (is_relabelled) as n_relabelled
            from current_decisions group by verdict
            """
        )


def _behind(after: str | None, *, sort: Sort) -> tuple[list[str], dict[str, Any]]:
    """The conditions for what lies behind a place, and their parameters."""
    if after is None:
        return [], {}
    first, _, place = after.rpartition(":")
    is_number = place.isascii() and place.isdigit() and len(place) <= len(str(2 * LAST_POSITION))
    try:
        key = float(first) if sort.name == "margin" else _whole(first or "0")
    except ValueError:
        is_number = False
    if not is_number or bool(first) != (sort.name != "p_clean"):
        raise StoreError(f'"{after}" is not a place in the queue.', RELOAD)
    if sort.name == "p_clean":
        return ["place > $place"], {"place": int(place)}
    column = _ORDER[sort.name]
    return [f"({column} > $key or ({column} = $key and place > $place))"], {
        "key": key,
        "place": int(place),
    }


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < LARGEST_KEY):
        raise ValueError(text)
    return int(text)


def _place(row: dict[str, Any], *, sort: Sort) -> str:
    place = str(row["place"])
    return place if sort.name == "p_clean" else f"{row['key']!r}:{place}"
