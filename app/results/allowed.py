"""The documents that a search asks, of all that stand."""

from __future__ import annotations

from app.boosts.values import warnings as warnings_of_boosts
from app.collection.view import Snapshot
from app.query.asked import Query
from app.results.facets import warnings as warnings_of_facets
from app.results.sorting import warnings as warnings_of_sort
from app.schema.notices import Notice
from app.types import Mask


def allowed_by(snapshot: Snapshot, query: Query) -> tuple[list[Mask], list[Notice]]:
    """For each view the documents that are asked, and where the query asks for what no document has, or nobody answers
    for some."""
    warnings = [*snapshot.unreached(), *snapshot.warnings(query.filter), *warnings_of_sort(snapshot, query.sort)]
    warnings += warnings_of_boosts(snapshot, query.boosts)
    warnings += warnings_of_facets(snapshot, query.facets)
    if query.ids is None:
        return snapshot.allowed(query.filter), warnings
    among = snapshot.versions(query.ids)
    if missing := len(set(query.ids)) - len(among):
        warnings.append(Notice("unknown_ids", f"of {missing:,} of the ids there is no document", "/ids"))
    return snapshot.allowed(query.filter, among), warnings
