"""What the store keeps for each reviewer: what he looks at, what he holds, how he agrees.

A lease keeps a sample from being handed to a second reviewer. It never stands in the way of a
decision, and is no part of the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from deft_core.errors import StoreError
from deft_core.store.database import Database, naive
from deft_core.store.derived import registered
from deft_core.store.schema import Connection

LEASE = timedelta(minutes=10)
"""How long a reviewer holds samples without a sign of life."""
MOST_LEASES = 1000


class Reviewers:
    """Views, leases and double reviews of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def view(self, reviewer: str) -> dict[str, Any] | None:
        """The state of the desk that the reviewer left, or None."""
        rows = self._database.rows("from views where reviewer = $reviewer", reviewer=reviewer)
        return json.loads(rows[0]["state"]) if rows else None

    def set_view(self, reviewer: str, state: dict[str, Any]) -> None:
        """Keep the state of the reviewer's desk; the last one counts."""
        with self._database.writing() as connection:
            connection.execute(
                "insert or replace into views values (?, ?)",
                [reviewer, json.dumps(state)],
            )

    def lease(
        self,
        sample_ids: Sequence[int],
        *,
        reviewer: str,
        now: datetime,
        is_anew: bool,
    ) -> bool:
        """Whether the reviewer now holds all of the samples; nothing changes when another one
        holds one of them. All that he holds is renewed, or given back first when `is_anew`.
        StoreError when he would hold too many."""
        with self._database.writing() as connection:
            wanted = pa.table({"sample_id": pa.array(sample_ids, pa.int32())})
            with registered(connection, "wanted", wanted):
                (row,) = connection.execute(
                    """
                    select
                        count(*) filter (
                            reviewer <> $reviewer and expires_at > $now
                            and sample_id in (from wanted)
                        ),
                        count(*) filter (
                            reviewer = $reviewer and sample_id not in (from wanted)
                        )
                    from leases
                    """,
                    {"reviewer": reviewer, "now": naive(now)},
                ).fetchall()
                n_taken, n_others = row
                n_kept = 0 if is_anew else n_others
                if n_taken:
                    return False
                if n_kept + len(sample_ids) > MOST_LEASES:
                    raise StoreError(
                        f"{reviewer} would hold {n_kept + len(sample_ids)} samples; "
                        f"{MOST_LEASES} are the most.",
                        "Decide some of them, or open the queue anew.",
                    )
                connection.execute(
                    """
                    delete from leases
                    where expires_at <= $now or sample_id in (from wanted)
                        or (reviewer = $reviewer and $is_anew)
                    """,
                    {"reviewer": reviewer, "now": naive(now), "is_anew": is_anew},
                )
                renew(connection, reviewer=reviewer, expires_at=now + LEASE)
                connection.execute(
                    "insert into leases select sample_id, $1, $2 from wanted",
                    [reviewer, naive(now + LEASE)],
                )
        return True

    def release(self, sample_ids: Sequence[int] | None, *, reviewer: str) -> int:
        """How many of the reviewer's leases on these samples, or of all, have ended just now."""
        with self._database.writing() as connection:
            (row,) = connection.execute(
                """
                delete from leases
                where reviewer = $reviewer
                    and ($ids is null or sample_id in (select unnest($ids::integer[])))
                """,
                {"reviewer": reviewer, "ids": sample_ids},
            ).fetchall()
        return int(row[0])

    def renew(self, *, reviewer: str, now: datetime) -> int:
        """How many leases the reviewer holds, which all run anew; one that ended before, and that
        nobody has taken, is his again."""
        with self._database.writing() as connection:
            return renew(connection, reviewer=reviewer, expires_at=now + LEASE)

    def double_share(self) -> float:
        """The share of samples that two reviewers decide."""
        (row,) = self._database.rows("from double_review")
        return float(row["share"])

    def set_double_share(self, share: float) -> None:
        """Change the share of samples that two reviewers decide."""
        with self._database.writing() as connection:
            connection.execute("update double_review set share = ?", [share])

    def double_reviews(self) -> pa.Table:
        """first, second, first_outcome, second_outcome and n: how often, where two reviewers
        decided one sample without knowing of each other, they came to which outcomes with their
        last decisions of that kind. An outcome is a reviewed label or, where there is none, a
        verdict; names are in alphabetical order."""
        return self._database.table(
            """
            with outcomes as (
                select d.sample_id, d.seq, d.reviewer, d.is_blind,
                    min(d.seq) over (partition by d.sample_id, d.reviewer) as first_seq,
                    coalesce(
                        case verdict when 'keep' then given_label when 'relabel' then label end
                            ::varchar,
                        verdict
                    ) as outcome
                from live_events d join samples using (sample_id) where verdict is not null
            ), pairs as (
                select b.reviewer as blind_reviewer, b.outcome as blind_outcome,
                    a.reviewer as open_reviewer, a.outcome as open_outcome
                from outcomes b join outcomes a
                    on a.sample_id = b.sample_id and a.reviewer <> b.reviewer and a.seq < b.seq
                        and (a.is_blind or a.seq < b.first_seq)
                where b.is_blind
                qualify row_number() over (
                        partition by b.sample_id, least(a.reviewer, b.reviewer),
                            greatest(a.reviewer, b.reviewer)
                        order by b.seq desc, a.seq desc
                    ) = 1
            )
            select least(blind_reviewer, open_reviewer) as first,
                greatest(blind_reviewer, open_reviewer) as second,
                if(blind_reviewer = first, blind_outcome, open_outcome) as first_outcome,
                if(blind_reviewer = first, open_outcome, blind_outcome) as second_outcome,
                count(*) as n
            from pairs group by all order by all
            """
        )


def renew(connection: Connection, *, reviewer: str, expires_at: datetime) -> int:
    """Put off the end of every lease of the reviewer; how many he holds."""
    (row,) = connection.execute(
        "update leases set expires_at = ? where reviewer = ?", [naive(expires_at), reviewer]
    ).fetchall()
    return int(row[0])


def release_touched(connection: Connection, *, reviewer: str) -> None:
    """End the reviewer's leases on the samples in the table `touched`."""
    connection.execute(
        "delete from leases where reviewer = ? and sample_id in (from touched)", [reviewer]
    )
